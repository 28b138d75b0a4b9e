-- What is told of links and factors: reminders, notices, and who comes with a link that is over. One additive step.

ALTER TABLE enrolments ADD COLUMN reminded_at INTEGER; -- when the last reminder was made, or passed over
ALTER TABLE enrolments ADD COLUMN asked_at INTEGER;    -- when somebody came with it after its end, and asked for another one
CREATE INDEX enrolments_sent ON enrolments (created_at) WHERE state = 'open';

-- What users are to be told of their factors. Written where it happens, also by verifications, which wait for no user's row; a timer
-- makes messages of it.
CREATE TABLE notices (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id    BLOB NOT NULL CHECK (length(user_id) = 16),
    reason     TEXT NOT NULL, -- as the message says it
    codes_left INTEGER,       -- of a recovery code that was used: how many are left
    at         INTEGER NOT NULL
) STRICT;
