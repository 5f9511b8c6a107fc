-- Bounds of what is counted and of moments. A row beyond them cannot be written: it would be where a
-- claim, a wake or a takeover of many runs has no next number, and be refused with all of them.
-- Moments lie in the years 1 to 9999. NOT VALID: what is there is not looked at now, and each row is
-- when it is next written.

ALTER TABLE runs
  ADD CONSTRAINT runs_counters CHECK (
          epoch BETWEEN 0 AND 2000000000
          AND exited_epoch BETWEEN 0 AND 2000000000
          AND wake_version BETWEEN 0 AND 2000000000
          AND need BETWEEN 0 AND 2000000000
          AND generation BETWEEN 0 AND 2000000000
          AND crashes BETWEEN 0 AND 1000000
          AND last_seq BETWEEN 0 AND 9007199254740991
          AND generation_seq BETWEEN 0 AND 9007199254740991
          AND losses_seen BETWEEN -1 AND 9007199254740991) NOT VALID,
  ADD CONSTRAINT runs_moments CHECK (
          created_at BETWEEN -62135596800000 AND 253402300799999
          AND generation_at BETWEEN -62135596800000 AND 253402300799999
          AND due_at BETWEEN -62135596800000 AND 253402300799999
          AND deadline_at BETWEEN -62135596800000 AND 253402300799999
          AND ended_at BETWEEN -62135596800000 AND 253402300799999
          AND expires_at BETWEEN -62135596800000 AND 253402300799999) NOT VALID;

ALTER TABLE promises
  ADD CONSTRAINT promises_counters CHECK (
          epoch BETWEEN 0 AND 2000000000
          AND seq BETWEEN 0 AND 9007199254740991) NOT VALID,
  ADD CONSTRAINT promises_moments CHECK (
          created_at BETWEEN -62135596800000 AND 253402300799999
          AND settled_at BETWEEN -62135596800000 AND 253402300799999) NOT VALID;

ALTER TABLE signals
  ADD CONSTRAINT signals_counters CHECK (
          n BETWEEN 0 AND 9007199254740991) NOT VALID,
  ADD CONSTRAINT signals_moments CHECK (
          sent_at BETWEEN -62135596800000 AND 253402300799999) NOT VALID;

ALTER TABLE workers
  ADD CONSTRAINT workers_moments CHECK (
          beat_at BETWEEN -62135596800000 AND 253402300799999
          AND lease_until BETWEEN -62135596800000 AND 253402300799999
          AND server_start BETWEEN -62135596800000 AND 253402300799999) NOT VALID;

ALTER TABLE limits
  ADD CONSTRAINT limits_moments CHECK (
          told_at BETWEEN -62135596800000 AND 253402300799999) NOT VALID;

ALTER TABLE fleet
  ADD CONSTRAINT fleet_counters CHECK (
          losses BETWEEN 0 AND 9007199254740991) NOT VALID;
