-- Users and realms that administrators make by hand, and who changed what. One additive step.

-- Users. A pass writes none of these columns for whom it makes: null is what they have.
ALTER TABLE users ADD COLUMN origin TEXT;               -- directory, manual, import, scim, logon; null: directory
ALTER TABLE users ADD COLUMN note TEXT;                 -- an administrator's, never sent anywhere
ALTER TABLE users ADD COLUMN phone_pending_source TEXT; -- who gave the number that waits; null: the directory
ALTER TABLE staged_users ADD COLUMN origin TEXT;
ALTER TABLE staged_users ADD COLUMN note TEXT;
ALTER TABLE staged_users ADD COLUMN phone_pending_source TEXT;

-- Users who get the directory's entry of their name at the next pass.
CREATE TABLE adoptions (
    user_id BLOB NOT NULL PRIMARY KEY CHECK (length(user_id) = 16),
    by_whom TEXT,
    by_file INTEGER NOT NULL DEFAULT 0, -- the realm is a directory's by now: counts for its first pass only
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Numbers by hand that stand in place of a directory's; until then, or without an end.
CREATE TABLE overrides (
    user_id BLOB NOT NULL PRIMARY KEY CHECK (length(user_id) = 16),
    until   INTEGER,
    by_whom TEXT,
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Users of a directory whom the next delta looks at, though the directory tells nothing of them.
CREATE TABLE to_look_at (
    user_id BLOB NOT NULL PRIMARY KEY CHECK (length(user_id) = 16)
) STRICT, WITHOUT ROWID;

-- Realms that are in no file have these from their administrator.
ALTER TABLE realms ADD COLUMN region TEXT;
ALTER TABLE realms ADD COLUMN time_zone TEXT;
ALTER TABLE realms ADD COLUMN two_factor TEXT;          -- words separated by commas
ALTER TABLE realms ADD COLUMN removed_at INTEGER;       -- the row stays for those who were removed with it
ALTER TABLE realms ADD COLUMN hand_kind TEXT;           -- made by hand, in a file since, and no pass of its directory applied:
ALTER TABLE realms ADD COLUMN hand_name TEXT;           -- kind and name as they were

-- Who changed what, from where. Rows are only added; of who is removed the values go, and the row stays.
CREATE TABLE audit (
    seq      INTEGER PRIMARY KEY,          -- from 1, without a gap
    at       INTEGER NOT NULL,
    by_whom  TEXT,
    door     TEXT NOT NULL,
    act      TEXT NOT NULL,
    realm    TEXT,
    user_id  BLOB CHECK (length(user_id) = 16),
    run      BLOB CHECK (length(run) = 16),
    username TEXT,
    before   TEXT,
    after    TEXT,
    key_id   TEXT NOT NULL,                -- of the key that the two digests are made with
    digest   BLOB NOT NULL CHECK (length(digest) = 32), -- of username, before and after
    link     BLOB NOT NULL CHECK (length(link) = 32)    -- of the row before, the bare row and its digest
) STRICT;
CREATE INDEX audit_user ON audit (user_id) WHERE user_id IS NOT NULL;

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-7', 'additive');
