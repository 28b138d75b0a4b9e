-- Leases: which daemon runs a realm, when several share a database. A file has one daemon, by its lock, so that this table
-- stays empty here; it is there since the schemas are twins. The PostgreSQL twin also has fence() and what draws tokens.

CREATE TABLE leases (
    realm  TEXT    NOT NULL PRIMARY KEY,
    token  INTEGER NOT NULL UNIQUE,       -- taking a lease draws a new one, a higher one each time
    owner  TEXT,                          -- the process's own id, which no other has; null: free
    holder TEXT,                          -- the same for people: host:pid
    since  INTEGER NOT NULL,
    until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Runs under way, for whoever takes over.
CREATE INDEX runs_open ON runs (realm) WHERE outcome = 'running';

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-2', 'additive');
