-- What administrators decide stays decided, and what is lost without a word is kept. One additive step.

-- Decisions: whose a pause is, who declared a realm, what was rejected for a time.

-- `paused` and `paused_until` say what is in force. While an undo's pause is, an administrator's own may stand beside it.
ALTER TABLE realms ADD COLUMN paused_by TEXT;
ALTER TABLE realms ADD COLUMN paused_by_undo BLOB;
ALTER TABLE realms ADD COLUMN paused_beside INTEGER NOT NULL DEFAULT 0;
ALTER TABLE realms ADD COLUMN paused_beside_until INTEGER;

-- Until now the last run told whose pause it is.
UPDATE realms SET paused_by_undo = (
    SELECT r.id FROM runs r
    WHERE r.realm = realms.id AND r.undoes IS NOT NULL AND r.outcome IN ('held', 'applied')
      AND NOT EXISTS (SELECT 1 FROM runs later WHERE later.realm = r.realm AND later.id > r.id AND later.outcome <> 'failed'))
WHERE paused AND paused_until IS NULL;

-- Which running daemon's file has which realms, where several share the store. A daemon that stops takes its rows away.
CREATE TABLE daemons (
    owner TEXT NOT NULL,
    realm TEXT NOT NULL,
    name  TEXT NOT NULL,
    until INTEGER NOT NULL, -- by the database's clock
    PRIMARY KEY (owner, realm)
) STRICT, WITHOUT ROWID;

-- Changes that an administrator rejected for a time: plans leave them out until then.
CREATE TABLE rejected_changes (
    realm  TEXT NOT NULL REFERENCES realms (id),
    change INTEGER NOT NULL, -- hash of user, kind, before and after
    run    BLOB NOT NULL,
    until  INTEGER NOT NULL,
    PRIMARY KEY (realm, change)
) STRICT, WITHOUT ROWID;

-- A rejected plan that comes again is looked for by its changes.
CREATE INDEX runs_rejected ON runs (realm, plan_hash) WHERE outcome = 'rejected';

-- When the first of them is over: then everything is read anew.
ALTER TABLE realms ADD COLUMN left_out_until INTEGER;

-- What a run left out for that, and until when.
ALTER TABLE runs ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN left_out_until INTEGER;

-- How long a held plan could be decided: a clock that jumps, or a service that is down, adds at most a day at once.
ALTER TABLE runs ADD COLUMN waited_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN waited_at INTEGER;

-- Of a full pass: whom it found changed although their entries did not change.
ALTER TABLE runs ADD COLUMN computed INTEGER;

-- Plans: refusals staged as rows.

-- What an open pass refuses and did not refuse before; swept when the run is decided.
CREATE TABLE staged_refused (
    run          BLOB NOT NULL CHECK (length(run) = 16),
    key          INTEGER NOT NULL,        -- as in refused
    dn           TEXT NOT NULL,
    directory_id BLOB,
    username     TEXT,
    attribute    TEXT,
    raw          TEXT,
    reason       TEXT NOT NULL,
    entry        INTEGER NOT NULL CHECK (entry IN (0, 1)),
    PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

-- Messages.
ALTER TABLE realms ADD COLUMN tried_until INTEGER;  -- until when messages could be sent, kept while some are open: only such time counts towards retry-for

-- The store itself.

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-6', 'additive');
