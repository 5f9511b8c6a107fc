-- Questions to people, and what they have decided of calls to come.
--
-- gates        one row a question, of the id of its promise (kind gate): what was asked of whom
--              until when, and what was decided, once, by whom. The promise is what its run reads;
--              this row is what people look at, and what a decision is compared with.
-- rules        what somebody has decided of calls to come: allow, ask or deny. They hold for all
--              trees, so they lie in no part.

-- A CHECK cannot be changed in SQLite: the table is made again with the new one, rows and all.
CREATE TABLE promises_ (
    id               TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    tenant           TEXT    NOT NULL,
    -- in whose journal it stands
    run_id           TEXT    NOT NULL,
    key              TEXT    NOT NULL,
    -- the change number of the run at which the row came to be as it is
    seq              INTEGER NOT NULL,
    -- the change number that the run's driver knew when this began; it never changes
    began            INTEGER NOT NULL DEFAULT 0,
    kind             TEXT    NOT NULL
                     CONSTRAINT promises_kind
                     CHECK (kind IN ('run', 'step', 'timer', 'signal', 'child', 'gate')),
    name             TEXT    NOT NULL,
    state            TEXT    NOT NULL
                     CONSTRAINT promises_state
                     CHECK (state IN ('pending', 'resolved', 'rejected', 'cancelled', 'expired')),
    effect           TEXT
                     CONSTRAINT promises_effect
                     CHECK (effect IN ('pure', 'idempotent', 'once', 'transactional')),
    -- a hash of what was asked for under this key
    fingerprint      TEXT,
    input            TEXT,
    value            TEXT,
    error            TEXT,
    usage            TEXT,
    -- those that failed; of a signal, the values that were refused
    attempts         TEXT,
    -- what makes up for the step: a function and its arguments
    undo             TEXT,
    -- the claim that wrote the row last
    epoch            INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    settled_at       INTEGER,
    PRIMARY KEY (id, part),
    CONSTRAINT promises_counters CHECK (
          epoch BETWEEN 0 AND 2000000000
          AND seq BETWEEN 0 AND 9007199254740991
          AND began BETWEEN 0 AND 9007199254740991),
    CONSTRAINT promises_moments CHECK (
          created_at BETWEEN -62135596800000 AND 253402300799999
          AND settled_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

INSERT INTO promises_
SELECT *
  FROM promises;

DROP TABLE promises;
ALTER TABLE promises_ RENAME TO promises;
CREATE INDEX promises_journal ON promises (run_id, seq);

CREATE TABLE gates (
    id               TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    tenant           TEXT    NOT NULL,
    -- the first characters of a hash of its id, which people type
    code             TEXT    NOT NULL,
    run_id           TEXT    NOT NULL,
    root_id          TEXT    NOT NULL,
    kind             TEXT    NOT NULL
                     CONSTRAINT gates_kind CHECK (kind IN ('approval', 'question', 'unknown')),
    tool             TEXT    NOT NULL,
    -- a hash of exactly what was shown: a decision names it
    digest           TEXT    NOT NULL,
    summary          TEXT    NOT NULL,
    -- who, until when, what silence means, when to remind: as it was when it was asked
    policy           TEXT    NOT NULL,
    state            TEXT    NOT NULL
                     CONSTRAINT gates_state
                     CHECK (state IN ('pending', 'approved', 'edited', 'denied', 'answered',
                                      'expired', 'withdrawn', 'auto_approved')),
    asked_at         INTEGER NOT NULL,
    expires_at       INTEGER,
    decided_at       INTEGER,
    decided_by       TEXT,
    -- over which channel
    via              TEXT,
    reason           TEXT,
    -- the rule that has decided, or that wants it asked
    rule             TEXT,
    PRIMARY KEY (id, part),
    CONSTRAINT gates_moments CHECK (
          asked_at BETWEEN -62135596800000 AND 253402300799999
          AND expires_at BETWEEN -62135596800000 AND 253402300799999
          AND decided_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

CREATE INDEX gates_open ON gates (asked_at) WHERE state = 'pending';
CREATE INDEX gates_root ON gates (root_id);
CREATE INDEX gates_code ON gates (code);

CREATE TABLE rules (
    id               TEXT    NOT NULL PRIMARY KEY,
    tenant           TEXT    NOT NULL,
    verdict          TEXT    NOT NULL
                     CONSTRAINT rules_verdict CHECK (verdict IN ('allow', 'ask', 'deny')),
    -- a name, or a pattern with *
    tool             TEXT    NOT NULL,
    -- of its arguments; empty for all calls
    condition        TEXT    NOT NULL,
    -- in this tree alone
    root_id          TEXT,
    -- of this agent's own calls alone
    agent            TEXT,
    uses_left        INTEGER,
    expires_at       INTEGER,
    reason           TEXT,
    created_by       TEXT    NOT NULL,
    created_at       INTEGER NOT NULL,
    CONSTRAINT rules_counters CHECK (
          uses_left BETWEEN 0 AND 9007199254740991),
    CONSTRAINT rules_moments CHECK (
          created_at BETWEEN -62135596800000 AND 253402300799999
          AND expires_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;
