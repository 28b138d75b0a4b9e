-- Users and realms by hand, what users prove themselves with, programs that ask, and who changed what. One additive step.

-- Users and realms that administrators make by hand, and who changed what.

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

-- What users prove themselves with, and the programs that ask.

-- Applications and hard tokens. Recovery codes have their own table.
CREATE TABLE authenticators (
    id           BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id      BLOB CHECK (length(user_id) = 16), -- null: a hard token that is assigned to nobody
    bound_to     BLOB CHECK (length(bound_to) = 16), -- for whom the secret is encrypted: the user, or the one before
    kind         TEXT NOT NULL CHECK (kind IN ('app', 'hotp', 'totp')),
    state        TEXT NOT NULL CHECK (state IN ('pending', 'active', 'revoked', 'lost')),
    serial       TEXT,                       -- of a hard token
    issuer       TEXT,                       -- of an application: what it shows; of a hard token: who made it
    secret       BLOB,                       -- encrypted, bound to user and authenticator; null once it counts no more
    key_id       TEXT NOT NULL,              -- of the enrolment key that it is encrypted with
    fingerprint  BLOB CHECK (length(fingerprint) = 32), -- of a hard token's seed, under the same key
    hash         TEXT NOT NULL CHECK (hash IN ('sha1', 'sha256', 'sha512')),
    digits       INTEGER NOT NULL CHECK (digits BETWEEN 6 AND 8),
    period       INTEGER NOT NULL CHECK (period > 0), -- seconds of a step; 30 where it counts
    next         INTEGER NOT NULL DEFAULT 0, -- the lowest step or counter that was not used yet; it only rises
    drift        INTEGER NOT NULL DEFAULT 0, -- whole steps, learned
    two_codes    INTEGER NOT NULL DEFAULT 0 CHECK (two_codes IN (0, 1)), -- one code is not enough the next time
    first_code   INTEGER,                    -- step or counter of the first of the two
    first_until  INTEGER,                    -- until when the second one is waited for
    enrolment    BLOB CHECK (length(enrolment) = 16), -- of an application: the link that it was made by
    browser      BLOB CHECK (length(browser) = 32),   -- SHA-256 of the browser's mark while it is pending
    expires_at   INTEGER,                    -- when a pending one dies
    valid_from   INTEGER,                    -- of a hard token, as its file says
    valid_until  INTEGER,
    created_at   INTEGER NOT NULL,
    activated_at INTEGER,
    last_used_at INTEGER,
    ended_at     INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX authenticators_user ON authenticators (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX authenticators_enrolment ON authenticators (enrolment) WHERE enrolment IS NOT NULL AND state = 'pending';
CREATE UNIQUE INDEX authenticators_serial ON authenticators (serial) WHERE serial IS NOT NULL;
CREATE UNIQUE INDEX authenticators_seed ON authenticators (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX authenticators_key ON authenticators (key_id) WHERE secret IS NOT NULL;

-- Recovery codes, and the temporary codes of a helpdesk.
CREATE TABLE recovery_codes (
    user_id    BLOB NOT NULL CHECK (length(user_id) = 16),
    digest     BLOB NOT NULL CHECK (length(digest) = 32), -- HMAC under the enrolment key
    kind       TEXT NOT NULL CHECK (kind IN ('recovery', 'bypass')),
    set_id     BLOB NOT NULL CHECK (length(set_id) = 16), -- the codes that were shown together; the id of their authenticator in JSON
    key_id     TEXT NOT NULL,
    uses_left  INTEGER NOT NULL CHECK (uses_left >= 0),
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    used_at    INTEGER,
    PRIMARY KEY (user_id, digest)
) STRICT, WITHOUT ROWID;

-- What verifications know of a user. It stands beside `users`, so that a plan that is applied keeps nobody from logging on.
CREATE TABLE user_factors (
    user_id      BLOB NOT NULL PRIMARY KEY CHECK (length(user_id) = 16),
    in_a_row     INTEGER NOT NULL DEFAULT 0, -- failures since the last success
    failed_at    INTEGER,
    locked_at    INTEGER,                    -- until an administrator unlocks them
    last_used_at INTEGER,                    -- the last logon
    proved_at    INTEGER                     -- the last one with a second factor
) STRICT, WITHOUT ROWID;
CREATE INDEX user_factors_failed ON user_factors (failed_at) WHERE in_a_row >= 5;
CREATE INDEX user_factors_locked ON user_factors (locked_at) WHERE locked_at IS NOT NULL;

-- Who asked for whom, and what the answer was; kept for 90 days. A name that nobody has is not kept: it may be a password.
CREATE TABLE verifications (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    at            INTEGER NOT NULL,
    service       TEXT NOT NULL,
    realm         TEXT,
    user_id       BLOB CHECK (length(user_id) = 16),
    result        TEXT NOT NULL,
    reason        TEXT,
    method        TEXT,
    authenticator BLOB CHECK (length(authenticator) = 16)
) STRICT;
CREATE INDEX verifications_user ON verifications (user_id, at) WHERE user_id IS NOT NULL;
CREATE INDEX verifications_at ON verifications (at);

-- Programs that may call the API.
CREATE TABLE api_tokens (
    id           BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name         TEXT NOT NULL,
    sha256       BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
    scopes       TEXT NOT NULL,              -- words separated by commas
    realm        TEXT,                       -- null: all of them
    by_whom      TEXT,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX api_tokens_name ON api_tokens (name) WHERE revoked_at IS NULL;

-- Answers that are given again to whoever repeats a request with the same key.
CREATE TABLE answers (
    token  BLOB NOT NULL CHECK (length(token) = 16),
    key    TEXT NOT NULL,
    body   BLOB NOT NULL CHECK (length(body) = 32), -- SHA-256 of what was asked
    status INTEGER NOT NULL,
    answer TEXT NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (token, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_at ON answers (at);

-- Enrolments: who sent them, by which way, and what became of them.
ALTER TABLE enrolments ADD COLUMN by_whom TEXT;
ALTER TABLE enrolments ADD COLUMN channel TEXT;       -- webhook, hand
ALTER TABLE enrolments ADD COLUMN reason TEXT;        -- why it was sent: the word of its message
ALTER TABLE enrolments ADD COLUMN lost INTEGER NOT NULL DEFAULT 0; -- the former authenticator is lost, and is not asked for
ALTER TABLE enrolments ADD COLUMN opened_at INTEGER;  -- by somebody, or by a scanner of links
ALTER TABLE enrolments ADD COLUMN used_at INTEGER;

-- A number that changes: links by which its owner says "this was not me", and numbers that an administrator has decided about.

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

-- What verifications and logons count.

-- Guesses before that count no more: an administrator unlocked the user, or a recovery code did.
ALTER TABLE user_factors ADD COLUMN counted_from INTEGER;

-- How many users and realms each token has made by logons, by the minute; kept for an hour.
CREATE TABLE made_by_tokens (
    token  BLOB NOT NULL CHECK (length(token) = 16),
    minute INTEGER NOT NULL, -- since 1970
    made   INTEGER NOT NULL,
    PRIMARY KEY (token, minute)
) STRICT, WITHOUT ROWID;

-- Lists of users by name.

-- Those whose names are not in users_name, which has the order of a list: the suspended and the removed.
CREATE INDEX users_suspended_names ON users (realm, username_key, id) WHERE state = 'suspended';
CREATE INDEX users_removed ON users (realm, id) WHERE state = 'removed';

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-7', 'additive');
