-- An index for searches of users: which three characters stand together in whose texts. It is built beside the passes, and is right
-- at each moment together with search_log. Not an additive step: an older program would change users and not note it there.

-- Who was made or changed since they were indexed; without a user: many were, and all are to be indexed anew.
CREATE TABLE search_log (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id BLOB CHECK (length(user_id) = 16),
    build   INTEGER                 -- the build that takes it in
) STRICT;
CREATE INDEX search_log_build ON search_log (build) WHERE build IS NOT NULL;

CREATE TABLE search_index (
    one           INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch         INTEGER NOT NULL, -- the build that indexed everybody last; 0: none
    turn          INTEGER NOT NULL, -- counts whenever segments go
    build         INTEGER NOT NULL, -- the last one that began
    builder       TEXT,             -- who is building, and until when others leave it to them
    builder_until INTEGER,
    built_at      INTEGER,          -- when the epoch began
    removed       INTEGER NOT NULL  -- users removed since, of whom something is left in segments
) STRICT;
INSERT INTO search_index (one, epoch, turn, build, removed) VALUES (1, 0, 0, 0, 0);

-- Some users, numbered from 0 in the order of names, 64 a page.
CREATE TABLE search_segments (
    segment    INTEGER PRIMARY KEY AUTOINCREMENT,
    build      INTEGER NOT NULL,
    epoch      INTEGER,             -- it is part of the index while this is the epoch
    first_page INTEGER,             -- null: who changed after the epoch began; their pages are in search_docs
    users      INTEGER NOT NULL
) STRICT;

-- With whom the pages of an epoch begin.
CREATE TABLE search_pages (
    epoch   INTEGER NOT NULL,
    page    INTEGER NOT NULL,
    realm   TEXT NOT NULL,
    name    TEXT NOT NULL,
    user_id BLOB NOT NULL CHECK (length(user_id) = 16),
    PRIMARY KEY (epoch, page)
) STRICT, WITHOUT ROWID;
CREATE INDEX search_pages_names ON search_pages (epoch, realm, name, page);

CREATE TABLE search_docs (
    slot  INTEGER PRIMARY KEY,      -- 1000 * segment + page of the segment
    ids   BLOB NOT NULL,            -- 16 bytes a user
    pages BLOB                      -- 4 bytes a user, big-endian: their pages in the epoch's order
) STRICT;

CREATE TABLE search_grams (
    segment INTEGER NOT NULL,
    gram    INTEGER NOT NULL,       -- three characters of 21 bits
    users   BLOB NOT NULL,
    PRIMARY KEY (segment, gram)
) STRICT, WITHOUT ROWID;
