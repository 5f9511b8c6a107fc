-- fleet     one row: how many workers have died. A run that crashes keeps how many of those deaths
--           it has seen (runs.losses_seen); the others were not its doing. See
--           substrate/store/crashes.py.
--
-- runs.on_dead says what a child that would be dead does: its parent is told, or waits for a person.

CREATE TABLE fleet (
    tenant           TEXT    NOT NULL PRIMARY KEY,
    losses           INTEGER NOT NULL
);

ALTER TABLE runs ADD COLUMN losses_seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN on_dead TEXT NOT NULL DEFAULT 'raise'
      CONSTRAINT runs_on_dead CHECK (on_dead IN ('raise', 'wait'));
