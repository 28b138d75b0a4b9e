-- What verifications and logons count. One additive step.

-- Guesses before that count no more: an administrator unlocked the user, or a recovery code did.
ALTER TABLE user_factors ADD COLUMN counted_from BIGINT;

-- How many users and realms each token has made by logons, by the minute; kept for an hour.
CREATE TABLE made_by_tokens (
    token  BYTEA NOT NULL CHECK (octet_length(token) = 16),
    minute BIGINT NOT NULL, -- since 1970
    made   BIGINT NOT NULL,
    PRIMARY KEY (token, minute)
);

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-12', 'additive');
