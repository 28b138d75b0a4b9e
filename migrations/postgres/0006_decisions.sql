-- What administrators decide stays decided, and what is lost without a word is kept. One additive step.

-- Decisions: whose a pause is, who declared a realm, what was rejected for a time.

-- Plans: refusals staged as rows.

-- Messages.

-- The store itself.

-- A program that knows only the step before may go on with this one: see "Upgrades" in docs/operating.md.
INSERT INTO meta (key, value) VALUES ('schema-6', 'additive');
