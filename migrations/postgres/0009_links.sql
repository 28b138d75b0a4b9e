-- What is told of links and factors: reminders, notices, and who comes with a link that is over. One additive step.

ALTER TABLE enrolments ADD COLUMN reminded_at BIGINT; -- when the last reminder was made, or passed over
ALTER TABLE enrolments ADD COLUMN asked_at BIGINT;    -- when somebody came with it after its end, and asked for another one
CREATE INDEX enrolments_sent ON enrolments (created_at) WHERE state = 'open';

-- What users are to be told of their factors. Written where it happens, also by verifications, which wait for no user's row; a timer
-- makes messages of it.
CREATE TABLE notices (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    BYTEA NOT NULL CHECK (octet_length(user_id) = 16),
    reason     TEXT NOT NULL, -- as the message says it
    codes_left BIGINT,        -- of a recovery code that was used: how many are left
    at         BIGINT NOT NULL
);
