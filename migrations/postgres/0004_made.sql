-- What a first pass makes has no lines of its own: a user's row says which run made it, and at which place of its plan. The line is
-- written when the user changes for the first time, since from then on the row says something else.

ALTER TABLE users ADD COLUMN made_by BYTEA CHECK (octet_length(made_by) = 16);  -- null: the line is in changes
ALTER TABLE users ADD COLUMN made_seq BIGINT;
CREATE INDEX users_made ON users (made_by, made_seq) WHERE made_by IS NOT NULL;

-- All lines of the audit trail, wherever they stand.
CREATE VIEW lines AS
    SELECT run, seq, realm, user_id, username, by_whom, kind, before, after, at FROM changes
    UNION ALL
    SELECT u.made_by, u.made_seq, u.realm, u.id, u.username, r.by_whom, 'created', NULL, NULL, r.started_at
    FROM users u JOIN runs r ON r.id = u.made_by;

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-4', 'additive');
