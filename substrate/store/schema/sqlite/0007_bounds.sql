-- Bounds of what is counted and of moments. A row beyond them cannot be written: it would be where a
-- claim, a wake or a takeover of many runs has no next number, and be refused with all of them.
-- Moments lie in the years 1 to 9999.
--
-- SQLite has no statement that adds a CHECK. Its manual (ALTER TABLE, section 7) has this way for
-- changes that leave the rows as they are: what is there is not looked at now, and each row is when it
-- is next written. A copy of the tables would take as long as they are, and fail at a row beyond.

PRAGMA writable_schema = ON;

UPDATE sqlite_schema
   SET sql = substr(sql, 1, length(sql) - length(') STRICT')) || ',
    CONSTRAINT runs_counters CHECK (
          epoch BETWEEN 0 AND 2000000000
          AND exited_epoch BETWEEN 0 AND 2000000000
          AND wake_version BETWEEN 0 AND 2000000000
          AND need BETWEEN 0 AND 2000000000
          AND generation BETWEEN 0 AND 2000000000
          AND crashes BETWEEN 0 AND 1000000
          AND last_seq BETWEEN 0 AND 9007199254740991
          AND generation_seq BETWEEN 0 AND 9007199254740991
          AND losses_seen BETWEEN -1 AND 9007199254740991),
    CONSTRAINT runs_moments CHECK (
          created_at BETWEEN -62135596800000 AND 253402300799999
          AND generation_at BETWEEN -62135596800000 AND 253402300799999
          AND due_at BETWEEN -62135596800000 AND 253402300799999
          AND deadline_at BETWEEN -62135596800000 AND 253402300799999
          AND ended_at BETWEEN -62135596800000 AND 253402300799999
          AND expires_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT'
 WHERE type = 'table' AND name = 'runs';

UPDATE sqlite_schema
   SET sql = substr(sql, 1, length(sql) - length(') STRICT')) || ',
    CONSTRAINT promises_counters CHECK (
          epoch BETWEEN 0 AND 2000000000
          AND seq BETWEEN 0 AND 9007199254740991),
    CONSTRAINT promises_moments CHECK (
          created_at BETWEEN -62135596800000 AND 253402300799999
          AND settled_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT'
 WHERE type = 'table' AND name = 'promises';

UPDATE sqlite_schema
   SET sql = substr(sql, 1, length(sql) - length(') STRICT')) || ',
    CONSTRAINT signals_counters CHECK (
          n BETWEEN 0 AND 9007199254740991),
    CONSTRAINT signals_moments CHECK (
          sent_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT'
 WHERE type = 'table' AND name = 'signals';

UPDATE sqlite_schema
   SET sql = substr(sql, 1, length(sql) - length(') STRICT')) || ',
    CONSTRAINT workers_moments CHECK (
          beat_at BETWEEN -62135596800000 AND 253402300799999
          AND lease_until BETWEEN -62135596800000 AND 253402300799999
          AND server_start BETWEEN -62135596800000 AND 253402300799999)
) STRICT'
 WHERE type = 'table' AND name = 'workers';

UPDATE sqlite_schema
   SET sql = substr(sql, 1, length(sql) - length(') STRICT')) || ',
    CONSTRAINT limits_moments CHECK (
          told_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT'
 WHERE type = 'table' AND name = 'limits';

PRAGMA writable_schema = RESET;

-- One row, and no types were asked of it.

ALTER TABLE fleet RENAME TO fleet_before;

CREATE TABLE fleet (
    tenant           TEXT    NOT NULL PRIMARY KEY,
    losses           INTEGER NOT NULL
                     CONSTRAINT fleet_counters CHECK (losses BETWEEN 0 AND 9007199254740991)
) STRICT;

INSERT INTO fleet (tenant, losses)
SELECT tenant, CASE WHEN losses BETWEEN 0 AND 9007199254740991 THEN CAST(losses AS INTEGER) ELSE 0 END
  FROM fleet_before
 WHERE typeof(tenant) = 'text';

DROP TABLE fleet_before;
