-- What is done to many users. One additive step.

-- What is done: a frozen list, of which `done` rows are behind it. Each batch moves `done` in its own transaction, so that
-- a crash loses no count and nothing is done twice.
CREATE TABLE operations (
    id           BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind         TEXT NOT NULL,            -- action, undo
    state        TEXT NOT NULL CHECK (state IN ('running', 'done', 'cancelled', 'failed', 'held')),
    request      TEXT NOT NULL,            -- JSON: what is done to each
    total        INTEGER NOT NULL,
    done         INTEGER NOT NULL DEFAULT 0,
    changed      INTEGER NOT NULL DEFAULT 0,
    skipped      INTEGER NOT NULL DEFAULT 0, -- it was so already
    refused      INTEGER NOT NULL DEFAULT 0,
    by_whom      TEXT,
    door         TEXT NOT NULL,
    cancelled_by TEXT,                     -- somebody wants it to end after the batch under way
    error        TEXT,
    started_at   INTEGER NOT NULL,
    ended_at     INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX operations_open ON operations (id) WHERE state = 'running';

-- The list; its rows go when the operation ends.
CREATE TABLE operation_users (
    operation BLOB NOT NULL CHECK (length(operation) = 16),
    seq       INTEGER NOT NULL,            -- from 1; the users of a realm stand together
    user_id   BLOB NOT NULL CHECK (length(user_id) = 16),
    realm     TEXT NOT NULL,
    PRIMARY KEY (operation, seq)
) STRICT, WITHOUT ROWID;

-- The run of each realm, made with the first batch that changes anybody.
CREATE TABLE operation_runs (
    operation BLOB NOT NULL CHECK (length(operation) = 16),
    realm     TEXT NOT NULL,
    run       BLOB NOT NULL UNIQUE CHECK (length(run) = 16),
    PRIMARY KEY (operation, realm)
) STRICT, WITHOUT ROWID;

-- To whom it was not done, and why.
CREATE TABLE operation_refused (
    operation BLOB NOT NULL CHECK (length(operation) = 16),
    seq       INTEGER NOT NULL,
    user_id   BLOB NOT NULL CHECK (length(user_id) = 16),
    reason    TEXT NOT NULL,
    PRIMARY KEY (operation, seq)
) STRICT, WITHOUT ROWID;

-- Links of the application that it made.
CREATE TABLE operation_enrolments (
    operation BLOB NOT NULL CHECK (length(operation) = 16),
    enrolment BLOB NOT NULL CHECK (length(enrolment) = 16),
    PRIMARY KEY (operation, enrolment)
) STRICT, WITHOUT ROWID;

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-8', 'additive');
