-- Leases: which daemon runs a realm, when several share this database. A run's every transaction begins with fence(), so that
-- a daemon that stood still while its lease was taken over can write nothing. The clock is the database's own.
-- The SQLite twin has the table too, and leaves it empty: a file has one daemon, by its lock.

CREATE SEQUENCE lease_tokens;

CREATE TABLE leases (
    realm  TEXT   NOT NULL PRIMARY KEY,
    -- Taking a lease draws a new one, a higher one each time. Unique, so that a change of it is a change of a key: it waits
    -- for whoever holds FOR KEY SHARE, while a renewal, which leaves it alone, waits for nobody.
    token  BIGINT NOT NULL UNIQUE,
    owner  TEXT,                          -- the process's own id, which no other has; null: free
    holder TEXT,                          -- the same for people: host:pid
    since  BIGINT NOT NULL,
    until  BIGINT NOT NULL
);

-- Runs under way, for whoever takes over.
CREATE INDEX runs_open ON runs (realm) WHERE outcome = 'running';

CREATE FUNCTION fence(held BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM leases WHERE token = held AND owner IS NOT NULL FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease was taken over' USING ERRCODE = 'RS001';
    END IF;
END $$;

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-2', 'additive');
