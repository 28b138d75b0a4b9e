-- An index for searches of users: which three characters stand together in whose texts. It is built beside the passes, and is right
-- at each moment together with search_log. Not an additive step: an older program would change users and not note it there.

-- Who was made or changed since they were indexed; without a user: many were, and all are to be indexed anew.
CREATE TABLE search_log (
    seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id BYTEA CHECK (octet_length(user_id) = 16),
    build   BIGINT                  -- the build that takes it in
);
CREATE INDEX search_log_build ON search_log (build) WHERE build IS NOT NULL;

CREATE TABLE search_index (
    one           BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch         BIGINT NOT NULL,  -- the build that indexed everybody last; 0: none
    turn          BIGINT NOT NULL,  -- counts whenever segments go
    build         BIGINT NOT NULL,  -- the last one that began
    builder       TEXT,             -- who is building, and until when others leave it to them
    builder_until BIGINT,
    built_at      BIGINT,           -- when the epoch began
    removed       BIGINT NOT NULL   -- users removed since, of whom something is left in segments
);
INSERT INTO search_index (one, epoch, turn, build, removed) VALUES (1, 0, 0, 0, 0);

-- Some users, numbered from 0 in the order of names, 64 a page.
CREATE TABLE search_segments (
    segment    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    build      BIGINT NOT NULL,
    epoch      BIGINT,              -- it is part of the index while this is the epoch
    first_page BIGINT,              -- null: who changed after the epoch began; their pages are in search_docs
    users      BIGINT NOT NULL
);

-- With whom the pages of an epoch begin.
CREATE TABLE search_pages (
    epoch   BIGINT NOT NULL,
    page    BIGINT NOT NULL,
    realm   TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    user_id BYTEA NOT NULL CHECK (octet_length(user_id) = 16),
    PRIMARY KEY (epoch, page)
);
CREATE INDEX search_pages_names ON search_pages (epoch, realm, name, page);

CREATE TABLE search_docs (
    slot  BIGINT PRIMARY KEY,       -- 1000 * segment + page of the segment
    ids   BYTEA NOT NULL,           -- 16 bytes a user
    pages BYTEA                     -- 4 bytes a user, big-endian: their pages in the epoch's order
);

CREATE TABLE search_grams (
    segment BIGINT NOT NULL,
    gram    BIGINT NOT NULL,        -- three characters of 21 bits
    users   BYTEA NOT NULL,
    PRIMARY KEY (segment, gram)
);

-- They are short, and as packed as they can be.
ALTER TABLE search_docs ALTER COLUMN ids SET STORAGE PLAIN;
ALTER TABLE search_grams ALTER COLUMN users SET STORAGE PLAIN;
