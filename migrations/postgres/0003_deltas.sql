-- Deltas: how a realm hears of changes, why a run did not go as asked, and what deltas should have told but did not.

ALTER TABLE realms ADD COLUMN following TEXT;    -- JSON: the ways that the server offers, and what became of them
ALTER TABLE runs ADD COLUMN note TEXT;           -- null: it went as asked
ALTER TABLE runs ADD COLUMN drift BIGINT;        -- changes that deltas should have told; null: not counted

-- What was refused of the people whom a delta tells is replaced by what is refused now.
CREATE INDEX refused_directory_id ON refused (realm, directory_id) WHERE directory_id IS NOT NULL;
-- Who was refused a name is looked at again when somebody gives it up.
CREATE INDEX refused_names ON refused (realm) WHERE attribute = 'username';

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-3', 'additive');
