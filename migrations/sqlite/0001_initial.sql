-- The first schema: realms, users, runs with their plans, refusals, the outbox and enrolments.
-- Ids are 16 raw bytes, instants milliseconds since 1970 in UTC, JSON is text. The PostgreSQL twin differs in types only.

CREATE TABLE meta (                       -- facts about the store itself: its id, whether it is a copy, the enrolment key
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE realms (
    id               TEXT NOT NULL PRIMARY KEY,
    kind             TEXT NOT NULL CHECK (kind IN ('directory', 'custom', 'automatic')),
    name             TEXT NOT NULL,
    category         TEXT,
    paused           INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    paused_until     INTEGER,
    orphaned         INTEGER NOT NULL DEFAULT 0 CHECK (orphaned IN (0, 1)),
    due              INTEGER NOT NULL DEFAULT 0 CHECK (due IN (0, 1)),
    mapping_hash     TEXT,
    directory        TEXT,
    first_applied_at INTEGER,
    clock_ms         INTEGER NOT NULL DEFAULT 0,
    last_complete_at INTEGER,
    window_from      TEXT NOT NULL DEFAULT '{}',
    seen_state       TEXT,
    id_form          TEXT,                -- how the directory prints its ids: uuid, guid, ns-unique-id
    cursor           TEXT,
    held             BLOB CHECK (length(held) = 16),
    last_tick_at     INTEGER,
    still_since      INTEGER                -- since when it may not send (paused, orphaned): retry-for stands still
) STRICT, WITHOUT ROWID;

-- The checks of users are written so that they cost little: a million rows meet them at once in a first pass (GLOB and IN took
-- two thirds of it).
CREATE TABLE users (
    pk                  INTEGER PRIMARY KEY,
    id                  BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    realm               TEXT NOT NULL REFERENCES realms (id),
    directory_id        BLOB CHECK (length(directory_id) = 16),
    entry_uuid          BLOB CHECK (length(entry_uuid) = 16),
    username            TEXT NOT NULL,
    username_key        TEXT,             -- null only within a transaction that swaps names, and once removed
    display_name        TEXT,
    email               TEXT,
    dn                  TEXT,
    container           TEXT,             -- the parent's DN, folded: to see that a whole container is gone
    phone               TEXT CHECK (phone = '+' || CAST(phone AS INTEGER) AND phone >= '+1' AND length(phone) BETWEEN 3 AND 16),
    phone_raw           TEXT,
    phone_attribute     TEXT,
    phone_rule          TEXT,
    phone_source        TEXT CHECK (phone_source = 'directory' OR phone_source = 'manual' OR phone_source = 'enrolment'),
    phone_pending       TEXT CHECK (phone_pending = '+' || CAST(phone_pending AS INTEGER) AND phone_pending >= '+1' AND length(phone_pending) BETWEEN 3 AND 16),
    phone_pending_raw   TEXT,
    phone_pending_until INTEGER,
    phone_provisioned   TEXT CHECK (phone_provisioned = '+' || CAST(phone_provisioned AS INTEGER) AND phone_provisioned >= '+1' AND length(phone_provisioned) BETWEEN 3 AND 16),
    phone_told          TEXT CHECK (phone_told = '+' || CAST(phone_told AS INTEGER) AND phone_told >= '+1' AND length(phone_told) BETWEEN 3 AND 16),
    told                INTEGER NOT NULL DEFAULT 0 CHECK (told BETWEEN 0 AND 1),
    provisioned         INTEGER NOT NULL DEFAULT 0 CHECK (provisioned BETWEEN 0 AND 1),
    state               TEXT NOT NULL CHECK (state = 'active' OR state = 'suspended' OR state = 'removed'),
    state_reason        TEXT CHECK (state_reason = 'deleted' OR state_reason = 'out_of_scope' OR state_reason = 'disabled' OR state_reason = 'undone'),
    suspended_at        INTEGER,
    suspended_clock     INTEGER,
    blocked             INTEGER NOT NULL DEFAULT 0 CHECK (blocked BETWEEN 0 AND 1),
    version             INTEGER NOT NULL CHECK (version > 0),
    two_factor          TEXT NOT NULL,    -- words separated by commas
    last_used_at        INTEGER,
    fingerprint         INTEGER,          -- null: look at the entry anew in each pass
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    CHECK ((state = 'suspended') = (state_reason IS NOT NULL)),
    CHECK (state <> 'removed' OR (directory_id IS NULL AND username_key IS NULL AND phone IS NULL AND email IS NULL AND dn IS NULL)),
    CHECK ((phone IS NULL) = (phone_source IS NULL)),
    CHECK ((phone_pending IS NULL) = (phone_pending_until IS NULL))
) STRICT;

-- One name among the present (the entry is there: active, or suspended as disabled), one directory id in a realm.
CREATE UNIQUE INDEX users_name ON users (realm, username_key) WHERE state = 'active' OR state_reason = 'disabled';
CREATE UNIQUE INDEX users_directory_id ON users (realm, directory_id) WHERE directory_id IS NOT NULL;
CREATE INDEX users_pending ON users (phone_pending_until) WHERE phone_pending_until IS NOT NULL;
CREATE INDEX users_suspended ON users (realm, suspended_clock) WHERE state = 'suspended';

CREATE TABLE runs (
    id             BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    realm          TEXT NOT NULL REFERENCES realms (id),
    mode           TEXT NOT NULL,
    trigger_by     TEXT NOT NULL,         -- the JSON's "trigger", a reserved word in SQL
    by_whom        TEXT,
    outcome        TEXT NOT NULL,
    complete       INTEGER NOT NULL DEFAULT 0,
    seen           INTEGER NOT NULL DEFAULT 0,
    created        INTEGER NOT NULL DEFAULT 0,
    updated        INTEGER NOT NULL DEFAULT 0,
    renamed        INTEGER NOT NULL DEFAULT 0,
    phone_changed  INTEGER NOT NULL DEFAULT 0,
    phone_lost     INTEGER NOT NULL DEFAULT 0,
    suspended      INTEGER NOT NULL DEFAULT 0,
    restored       INTEGER NOT NULL DEFAULT 0,
    removed        INTEGER NOT NULL DEFAULT 0,
    moved          INTEGER NOT NULL DEFAULT 0,
    refused_entries INTEGER NOT NULL DEFAULT 0,
    refused_phones INTEGER NOT NULL DEFAULT 0,
    jobs           INTEGER NOT NULL DEFAULT 0,
    held_by        TEXT NOT NULL DEFAULT '[]',
    server         TEXT,
    started_at     INTEGER NOT NULL,
    decided_at     INTEGER,
    elapsed_ms     INTEGER NOT NULL DEFAULT 0,
    error_code     TEXT,
    error          TEXT,
    first_pass     INTEGER NOT NULL DEFAULT 0,
    plan_hash      TEXT,                  -- over the sorted changes, to know the same plan again
    mapping_hash   TEXT,                  -- of the mapping that the plan was made with
    confirmed      INTEGER NOT NULL DEFAULT 0, -- passes that came to the same held plan
    expires_at     INTEGER,               -- of a held plan
    replaced_by    BLOB CHECK (length(replaced_by) = 16),
    undoes         BLOB CHECK (length(undoes) = 16),
    facts          TEXT                   -- JSON that approve needs: the servers' state and the realm's clock as the pass saw them
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_realm ON runs (realm, started_at);

-- Plan rows while the run is open, audit trail afterwards. No reference to users: a staged row is there before its user is.
CREATE TABLE changes (
    run      BLOB NOT NULL CHECK (length(run) = 16),  -- 16 zero bytes: an administrator's own act, or a timer
    seq      INTEGER NOT NULL,
    realm    TEXT NOT NULL,
    user_id  BLOB NOT NULL CHECK (length(user_id) = 16),
    username TEXT,
    by_whom  TEXT,
    kind     TEXT NOT NULL,
    before   TEXT,
    after    TEXT,
    at       INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX changes_user ON changes (user_id);

-- The post-image of every user that an open plan touches, with what is to be said; swept when the run is decided.
-- The defaults are those of a user who is made, active and silent: most of a first pass, staged with half of the columns.
CREATE TABLE staged_users (
    run                 BLOB NOT NULL CHECK (length(run) = 16),
    seq                 INTEGER NOT NULL,
    base_version        INTEGER NOT NULL DEFAULT 0, -- the user's version that was decided upon; 0: a new user
    intents             TEXT,             -- JSON list of model::Intent; null: nothing to say
    id                  BLOB NOT NULL,
    realm               TEXT NOT NULL,
    directory_id        BLOB,
    entry_uuid          BLOB,
    username            TEXT NOT NULL,
    username_key        TEXT,
    display_name        TEXT,
    email               TEXT,
    dn                  TEXT,
    container           TEXT,
    phone               TEXT,
    phone_raw           TEXT,
    phone_attribute     TEXT,
    phone_rule          TEXT,
    phone_source        TEXT,
    phone_pending       TEXT,
    phone_pending_raw   TEXT,
    phone_pending_until INTEGER,
    phone_provisioned   TEXT,
    phone_told          TEXT,
    told                INTEGER NOT NULL DEFAULT 0,
    provisioned         INTEGER NOT NULL DEFAULT 0,
    state               TEXT NOT NULL DEFAULT 'active',
    state_reason        TEXT,             -- null with state suspended: nobody was looked up yet
    suspended_at        INTEGER,
    suspended_clock     INTEGER,
    blocked             INTEGER NOT NULL DEFAULT 0,
    version             INTEGER NOT NULL DEFAULT 1,
    two_factor          TEXT NOT NULL,
    last_used_at        INTEGER,
    fingerprint         INTEGER,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE refused (
    realm        TEXT NOT NULL REFERENCES realms (id),
    key          INTEGER NOT NULL,        -- hash of dn, attribute, value and reason
    dn           TEXT NOT NULL,
    directory_id BLOB,
    username     TEXT,
    attribute    TEXT,
    raw          TEXT,
    reason       TEXT NOT NULL,
    entry        INTEGER NOT NULL CHECK (entry IN (0, 1)),
    since        INTEGER NOT NULL,
    PRIMARY KEY (realm, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE enrolments (
    id           BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id      BLOB NOT NULL REFERENCES users (id),
    token_sha256 BLOB NOT NULL UNIQUE CHECK (length(token_sha256) = 32),
    state        TEXT NOT NULL CHECK (state IN ('open', 'used', 'void')),
    expires_at   INTEGER NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX enrolments_user ON enrolments (user_id);

CREATE TABLE jobs (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT, -- order of making
    id              BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    realm           TEXT NOT NULL,
    user_id         BLOB NOT NULL REFERENCES users (id),
    username        TEXT NOT NULL,
    name_key        TEXT NOT NULL,        -- jobs of one name in a realm go out in order
    old_name_key    TEXT,                 -- a rename speaks of two names
    type            TEXT NOT NULL,
    body            TEXT,                 -- null once settled
    enrolment       BLOB CHECK (length(enrolment) = 16),
    phone           TEXT,
    state           TEXT NOT NULL CHECK (state IN ('waiting', 'sending', 'held', 'delivered', 'final', 'dead', 'dropped')),
    held_by         TEXT,                 -- with state held: brake, administrator, copy; with sending: to be held when it comes back
    held_since      INTEGER,             -- retry-for stands still from here
    uncertain       INTEGER NOT NULL DEFAULT 0 CHECK (uncertain IN (0, 1)),
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL,
    give_up_at      INTEGER NOT NULL,
    lease_until     INTEGER,
    leased_by       TEXT,
    last_error      TEXT,
    run             BLOB CHECK (length(run) = 16),
    created_at      INTEGER NOT NULL,
    settled_at      INTEGER
) STRICT;
CREATE INDEX jobs_due ON jobs (realm, next_attempt_at, seq) WHERE state = 'waiting';
CREATE INDEX jobs_sending ON jobs (leased_by, lease_until) WHERE state = 'sending';
CREATE INDEX jobs_state ON jobs (realm, state);
CREATE INDEX jobs_user ON jobs (user_id, seq);
CREATE INDEX jobs_open_user ON jobs (user_id, seq) WHERE state IN ('waiting', 'sending', 'held');
CREATE INDEX jobs_open_name ON jobs (realm, name_key, seq) WHERE state IN ('waiting', 'sending', 'held');
CREATE INDEX jobs_open_old_name ON jobs (realm, old_name_key, seq) WHERE old_name_key IS NOT NULL AND state IN ('waiting', 'sending', 'held');
CREATE INDEX jobs_run ON jobs (run);
