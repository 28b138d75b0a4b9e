-- What is done to many users. One additive step.

-- What is done: a frozen list, of which `done` rows are behind it. Each batch moves `done` in its own transaction, so that
-- a crash loses no count and nothing is done twice.
CREATE TABLE operations (
    id           BYTEA NOT NULL PRIMARY KEY CHECK (octet_length(id) = 16),
    kind         TEXT NOT NULL,            -- action, undo
    state        TEXT NOT NULL CHECK (state IN ('running', 'done', 'cancelled', 'failed', 'held')),
    request      TEXT NOT NULL,            -- JSON: what is done to each
    total        BIGINT NOT NULL,
    done         BIGINT NOT NULL DEFAULT 0,
    changed      BIGINT NOT NULL DEFAULT 0,
    skipped      BIGINT NOT NULL DEFAULT 0, -- it was so already
    refused      BIGINT NOT NULL DEFAULT 0,
    by_whom      TEXT,
    door         TEXT NOT NULL,
    cancelled_by TEXT,                     -- somebody wants it to end after the batch under way
    error        TEXT,
    started_at   BIGINT NOT NULL,
    ended_at     BIGINT
);
CREATE INDEX operations_open ON operations (id) WHERE state = 'running';

-- The list; its rows go when the operation ends.
CREATE TABLE operation_users (
    operation BYTEA NOT NULL CHECK (octet_length(operation) = 16),
    seq       BIGINT NOT NULL,            -- from 1; the users of a realm stand together
    user_id   BYTEA NOT NULL CHECK (octet_length(user_id) = 16),
    realm     TEXT NOT NULL,
    PRIMARY KEY (operation, seq)
);

-- The run of each realm, made with the first batch that changes anybody.
CREATE TABLE operation_runs (
    operation BYTEA NOT NULL CHECK (octet_length(operation) = 16),
    realm     TEXT NOT NULL,
    run       BYTEA NOT NULL UNIQUE CHECK (octet_length(run) = 16),
    PRIMARY KEY (operation, realm)
);

-- To whom it was not done, and why.
CREATE TABLE operation_refused (
    operation BYTEA NOT NULL CHECK (octet_length(operation) = 16),
    seq       BIGINT NOT NULL,
    user_id   BYTEA NOT NULL CHECK (octet_length(user_id) = 16),
    reason    TEXT NOT NULL,
    PRIMARY KEY (operation, seq)
);

-- Links of the application that it made.
CREATE TABLE operation_enrolments (
    operation BYTEA NOT NULL CHECK (octet_length(operation) = 16),
    enrolment BYTEA NOT NULL CHECK (octet_length(enrolment) = 16),
    PRIMARY KEY (operation, enrolment)
);

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-8', 'additive');
