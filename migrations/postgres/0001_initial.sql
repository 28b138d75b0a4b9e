-- The first schema: realms, users, runs with their plans, refusals, the outbox and enrolments.
-- Ids are 16 raw bytes, instants milliseconds since 1970 in UTC, JSON is text. The SQLite twin differs in types only.

CREATE TABLE meta (                       -- facts about the store itself: its id, whether it is a copy, the enrolment key
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE realms (
    id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind             TEXT NOT NULL CHECK (kind IN ('directory', 'custom', 'automatic')),
    name             TEXT NOT NULL,
    category         TEXT,
    paused           BOOLEAN NOT NULL DEFAULT FALSE,
    paused_until     BIGINT,
    orphaned         BOOLEAN NOT NULL DEFAULT FALSE,
    due              BOOLEAN NOT NULL DEFAULT FALSE,
    mapping_hash     TEXT,
    directory        TEXT,
    first_applied_at BIGINT,
    clock_ms         BIGINT NOT NULL DEFAULT 0,
    last_complete_at BIGINT,
    window_from      TEXT NOT NULL DEFAULT '{}',
    seen_state       TEXT,
    id_form          TEXT,                -- how the directory prints its ids: uuid, guid, ns-unique-id
    cursor           TEXT,
    held             BYTEA CHECK (octet_length(held) = 16),
    last_tick_at     BIGINT,
    still_since      BIGINT                -- since when it may not send (paused, orphaned): retry-for stands still
);

-- The checks of users are written so that they cost little: a million rows meet them at once in a first pass (a regular expression
-- is seven times as dear). Names and ids are compared byte by byte, as in SQLite, whatever the database's collation.
CREATE TABLE users (
    pk                  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id                  BYTEA NOT NULL UNIQUE CHECK (octet_length(id) = 16),
    realm               TEXT COLLATE "C" NOT NULL REFERENCES realms (id),
    directory_id        BYTEA CHECK (octet_length(directory_id) = 16),
    entry_uuid          BYTEA CHECK (octet_length(entry_uuid) = 16),
    username            TEXT NOT NULL,
    username_key        TEXT COLLATE "C",             -- null only within a transaction that swaps names, and once removed
    display_name        TEXT,
    email               TEXT,
    dn                  TEXT,
    container           TEXT COLLATE "C",             -- the parent's DN, folded: to see that a whole container is gone
    phone               TEXT CHECK (phone LIKE '+%' AND phone NOT LIKE '+0%' AND translate(phone, '0123456789', '') = '+' AND length(phone) BETWEEN 3 AND 16),
    phone_raw           TEXT,
    phone_attribute     TEXT,
    phone_rule          TEXT,
    phone_source        TEXT CHECK (phone_source IN ('directory', 'manual', 'enrolment')),
    phone_pending       TEXT CHECK (phone_pending LIKE '+%' AND phone_pending NOT LIKE '+0%' AND translate(phone_pending, '0123456789', '') = '+' AND length(phone_pending) BETWEEN 3 AND 16),
    phone_pending_raw   TEXT,
    phone_pending_until BIGINT,
    phone_provisioned   TEXT CHECK (phone_provisioned LIKE '+%' AND phone_provisioned NOT LIKE '+0%' AND translate(phone_provisioned, '0123456789', '') = '+' AND length(phone_provisioned) BETWEEN 3 AND 16),
    phone_told          TEXT CHECK (phone_told LIKE '+%' AND phone_told NOT LIKE '+0%' AND translate(phone_told, '0123456789', '') = '+' AND length(phone_told) BETWEEN 3 AND 16),
    told                BOOLEAN NOT NULL DEFAULT FALSE,
    provisioned         BOOLEAN NOT NULL DEFAULT FALSE,
    state               TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'removed')),
    state_reason        TEXT CHECK (state_reason IN ('deleted', 'out_of_scope', 'disabled', 'undone')),
    suspended_at        BIGINT,
    suspended_clock     BIGINT,
    blocked             BOOLEAN NOT NULL DEFAULT FALSE,
    version             BIGINT NOT NULL CHECK (version > 0),
    two_factor          TEXT NOT NULL,    -- words separated by commas
    last_used_at        BIGINT,
    fingerprint         BIGINT,          -- null: look at the entry anew in each pass
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL,
    CHECK ((state = 'suspended') = (state_reason IS NOT NULL)),
    CHECK (state <> 'removed' OR (directory_id IS NULL AND username_key IS NULL AND phone IS NULL AND email IS NULL AND dn IS NULL)),
    CHECK ((phone IS NULL) = (phone_source IS NULL)),
    CHECK ((phone_pending IS NULL) = (phone_pending_until IS NULL))
);

-- One name among the present (the entry is there: active, or suspended as disabled), one directory id in a realm.
CREATE UNIQUE INDEX users_name ON users (realm, username_key) WHERE state = 'active' OR state_reason = 'disabled';
CREATE UNIQUE INDEX users_directory_id ON users (realm, directory_id) WHERE directory_id IS NOT NULL;
CREATE INDEX users_pending ON users (phone_pending_until) WHERE phone_pending_until IS NOT NULL;
CREATE INDEX users_suspended ON users (realm, suspended_clock) WHERE state = 'suspended';

CREATE TABLE runs (
    id             BYTEA NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    realm          TEXT NOT NULL REFERENCES realms (id),
    mode           TEXT NOT NULL,
    trigger_by     TEXT NOT NULL,         -- the JSON's "trigger", a reserved word in SQL
    by_whom        TEXT,
    outcome        TEXT NOT NULL,
    complete       BOOLEAN NOT NULL DEFAULT FALSE,
    seen           BIGINT NOT NULL DEFAULT 0,
    created        BIGINT NOT NULL DEFAULT 0,
    updated        BIGINT NOT NULL DEFAULT 0,
    renamed        BIGINT NOT NULL DEFAULT 0,
    phone_changed  BIGINT NOT NULL DEFAULT 0,
    phone_lost     BIGINT NOT NULL DEFAULT 0,
    suspended      BIGINT NOT NULL DEFAULT 0,
    restored       BIGINT NOT NULL DEFAULT 0,
    removed        BIGINT NOT NULL DEFAULT 0,
    moved          BIGINT NOT NULL DEFAULT 0,
    refused_entries BIGINT NOT NULL DEFAULT 0,
    refused_phones BIGINT NOT NULL DEFAULT 0,
    jobs           BIGINT NOT NULL DEFAULT 0,
    held_by        TEXT NOT NULL DEFAULT '[]',
    server         TEXT,
    started_at     BIGINT NOT NULL,
    decided_at     BIGINT,
    elapsed_ms     BIGINT NOT NULL DEFAULT 0,
    error_code     TEXT,
    error          TEXT,
    first_pass     BOOLEAN NOT NULL DEFAULT FALSE,
    plan_hash      TEXT,                  -- over the sorted changes, to know the same plan again
    mapping_hash   TEXT,                  -- of the mapping that the plan was made with
    confirmed      BIGINT NOT NULL DEFAULT 0, -- passes that came to the same held plan
    expires_at     BIGINT,               -- of a held plan
    replaced_by    BYTEA CHECK (octet_length(replaced_by) = 16),
    undoes         BYTEA CHECK (octet_length(undoes) = 16),
    facts          TEXT                   -- JSON that approve needs: the servers' state and the realm's clock as the pass saw them
);
CREATE INDEX runs_realm ON runs (realm, started_at);

-- Plan rows while the run is open, audit trail afterwards. No reference to users: a staged row is there before its user is.
CREATE TABLE changes (
    run      BYTEA NOT NULL CHECK (octet_length(run) = 16),  -- 16 zero bytes: an administrator's own act, or a timer
    seq      BIGINT NOT NULL,
    realm    TEXT NOT NULL,
    user_id  BYTEA NOT NULL CHECK (octet_length(user_id) = 16),
    username TEXT,
    by_whom  TEXT,
    kind     TEXT NOT NULL,
    before   TEXT,
    after    TEXT,
    at       BIGINT NOT NULL,
    PRIMARY KEY (run, seq)
);
CREATE INDEX changes_user ON changes (user_id);

-- The post-image of every user that an open plan touches, with what is to be said; swept when the run is decided.
-- The defaults are those of a user who is made, active and silent: most of a first pass, staged with half of the columns.
CREATE TABLE staged_users (
    run                 BYTEA NOT NULL CHECK (octet_length(run) = 16),
    seq                 BIGINT NOT NULL,
    base_version        BIGINT NOT NULL DEFAULT 0, -- the user's version that was decided upon; 0: a new user
    intents             TEXT,             -- JSON list of model::Intent; null: nothing to say
    id                  BYTEA NOT NULL,
    realm               TEXT NOT NULL,
    directory_id        BYTEA,
    entry_uuid          BYTEA,
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
    phone_pending_until BIGINT,
    phone_provisioned   TEXT,
    phone_told          TEXT,
    told                BOOLEAN NOT NULL DEFAULT FALSE,
    provisioned         BOOLEAN NOT NULL DEFAULT FALSE,
    state               TEXT NOT NULL DEFAULT 'active',
    state_reason        TEXT,             -- null with state suspended: nobody was looked up yet
    suspended_at        BIGINT,
    suspended_clock     BIGINT,
    blocked             BOOLEAN NOT NULL DEFAULT FALSE,
    version             BIGINT NOT NULL DEFAULT 1,
    two_factor          TEXT NOT NULL,
    last_used_at        BIGINT,
    fingerprint         BIGINT,
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL,
    PRIMARY KEY (run, seq)
);

CREATE TABLE refused (
    realm        TEXT NOT NULL REFERENCES realms (id),
    key          BIGINT NOT NULL,        -- hash of dn, attribute, value and reason
    dn           TEXT NOT NULL,
    directory_id BYTEA,
    username     TEXT,
    attribute    TEXT,
    raw          TEXT,
    reason       TEXT NOT NULL,
    entry        BOOLEAN NOT NULL,
    since        BIGINT NOT NULL,
    PRIMARY KEY (realm, key)
);

CREATE TABLE enrolments (
    id           BYTEA NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    user_id      BYTEA NOT NULL REFERENCES users (id),
    token_sha256 BYTEA NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
    state        TEXT NOT NULL CHECK (state IN ('open', 'used', 'void')),
    expires_at   BIGINT NOT NULL,
    created_at   BIGINT NOT NULL
);
CREATE INDEX enrolments_user ON enrolments (user_id);

CREATE TABLE jobs (
    seq             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- order of making
    id              BYTEA NOT NULL UNIQUE CHECK (octet_length(id) = 16),
    realm           TEXT NOT NULL,
    user_id         BYTEA NOT NULL REFERENCES users (id),
    username        TEXT NOT NULL,
    name_key        TEXT NOT NULL,        -- jobs of one name in a realm go out in order
    old_name_key    TEXT,                 -- a rename speaks of two names
    type            TEXT NOT NULL,
    body            TEXT,                 -- null once settled
    enrolment       BYTEA CHECK (octet_length(enrolment) = 16),
    phone           TEXT,
    state           TEXT NOT NULL CHECK (state IN ('waiting', 'sending', 'held', 'delivered', 'final', 'dead', 'dropped')),
    held_by         TEXT,                 -- with state held: brake, administrator, copy; with sending: to be held when it comes back
    held_since      BIGINT,             -- retry-for stands still from here
    uncertain       BOOLEAN NOT NULL DEFAULT FALSE,
    attempts        BIGINT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT NOT NULL,
    give_up_at      BIGINT NOT NULL,
    lease_until     BIGINT,
    leased_by       TEXT,
    last_error      TEXT,
    run             BYTEA CHECK (octet_length(run) = 16),
    created_at      BIGINT NOT NULL,
    settled_at      BIGINT
);
CREATE INDEX jobs_due ON jobs (realm, next_attempt_at, seq) WHERE state = 'waiting';
CREATE INDEX jobs_sending ON jobs (leased_by, lease_until) WHERE state = 'sending';
CREATE INDEX jobs_state ON jobs (realm, state);
CREATE INDEX jobs_user ON jobs (user_id, seq);
CREATE INDEX jobs_open_user ON jobs (user_id, seq) WHERE state IN ('waiting', 'sending', 'held');
CREATE INDEX jobs_open_name ON jobs (realm, name_key, seq) WHERE state IN ('waiting', 'sending', 'held');
CREATE INDEX jobs_open_old_name ON jobs (realm, old_name_key, seq) WHERE old_name_key IS NOT NULL AND state IN ('waiting', 'sending', 'held');
CREATE INDEX jobs_run ON jobs (run);
