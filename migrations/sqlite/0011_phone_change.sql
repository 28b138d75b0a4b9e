-- A number that changes: links by which its owner says "this was not me", and numbers that an administrator has decided about. One
-- additive step.

-- Links in notices to a previous number.
CREATE TABLE freeze_links (
    id           BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16), -- of the message that carries it
    user_id      BLOB NOT NULL CHECK (length(user_id) = 16),
    token_sha256 BLOB NOT NULL UNIQUE CHECK (length(token_sha256) = 32),
    previous     TEXT NOT NULL,       -- the number that was told
    since        INTEGER NOT NULL,    -- when another one was given
    expires_at   INTEGER NOT NULL     -- but never while that one still waits
) STRICT, WITHOUT ROWID;
CREATE INDEX freeze_links_user ON freeze_links (user_id);

-- Users who said so. The row goes when an administrator has decided.
CREATE TABLE freezes (
    user_id  BLOB NOT NULL PRIMARY KEY CHECK (length(user_id) = 16),
    previous TEXT NOT NULL,           -- the number that is in use meanwhile
    number   TEXT,                    -- the one that is not used; null: it was gone already
    raw      TEXT,                    -- what that one was read from
    source   TEXT,                    -- who gave it
    since    INTEGER NOT NULL,        -- authenticators from then on are void
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Numbers that are not used although they are given: until another one is.
CREATE TABLE refused_numbers (
    user_id BLOB NOT NULL PRIMARY KEY CHECK (length(user_id) = 16),
    phone   TEXT NOT NULL,
    by_whom TEXT,                     -- null: the user, until an administrator decides
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What may end with a number or a user.
CREATE INDEX enrolments_open ON enrolments (user_id) WHERE state = 'open';
CREATE INDEX authenticators_apps ON authenticators (user_id) WHERE kind = 'app' AND state IN ('pending', 'active');

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-11', 'additive');
