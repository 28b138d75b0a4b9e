-- What verifications and logons count. One additive step.

-- Guesses before that count no more: an administrator unlocked the user, or a recovery code did.
ALTER TABLE user_factors ADD COLUMN counted_from INTEGER;

-- How many users and realms each token has made by logons, by the minute; kept for an hour.
CREATE TABLE made_by_tokens (
    token  BLOB NOT NULL CHECK (length(token) = 16),
    minute INTEGER NOT NULL, -- since 1970
    made   INTEGER NOT NULL,
    PRIMARY KEY (token, minute)
) STRICT, WITHOUT ROWID;

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-12', 'additive');
