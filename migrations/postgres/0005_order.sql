-- A first load: what is cheaper for everybody at once.

-- Indexes begin with what tells rows apart: where all begin with the same realm, or the same run, PostgreSQL sorts for twice as long.

DROP INDEX users_name;
CREATE UNIQUE INDEX users_name ON users (username_key, realm) WHERE state = 'active' OR state_reason = 'disabled';
DROP INDEX users_made;
CREATE INDEX users_made ON users (made_seq, made_by) WHERE made_by IS NOT NULL;

-- The same checks of numbers, in a form that costs a fifth: a first load of 100,000 spent a tenth of a second on them.
ALTER TABLE users
    DROP CONSTRAINT users_phone_check,
    DROP CONSTRAINT users_phone_provisioned_check,
    ADD CONSTRAINT users_phone_check CHECK (phone = '+' || CAST(CAST(phone AS BIGINT) AS TEXT) AND phone >= '+1' COLLATE "C" AND length(phone) BETWEEN 3 AND 16),
    ADD CONSTRAINT users_phone_provisioned_check CHECK (phone_provisioned = phone
        OR phone_provisioned = '+' || CAST(CAST(phone_provisioned AS BIGINT) AS TEXT) AND phone_provisioned >= '+1' COLLATE "C" AND length(phone_provisioned) BETWEEN 3 AND 16);

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-5', 'additive');
