-- The tables of the substrate, as SQLite keeps them.
--
-- runs         one narrow row a run: who may drive it, what it waits for, how far its journal has
--              come. It is rewritten at every commit, so nothing wide may live here.
-- promises     one row for anything a run waits for or has done: the run itself, its steps, timers,
--              signals, children. It is written when that begins (pending) and when it has its
--              outcome; in between as well, where a step is tried again or a signal is refused.
--              A run's journal is  WHERE run_id = … ORDER BY seq;  the run itself is  WHERE id = ….
--              A generation begins with a row of its own (g1, g2 and so on): what it is called with.
-- signals      the inbox: values sent to a run from outside, numbered under the run's lock, taken
--              once.
-- workers      one row a worker's incarnation: until when its claims count as alive.
-- lanes        what each worker knows: one row a lane of it, and one of no name that says that all
--              are there. It tells of runs whose function no worker knows. Nothing hangs on it.
-- fleet        one row: how many workers have died. A run that crashes keeps how many of those
--              deaths it has seen (runs.losses_seen); the others were not its doing. See
--              substrate/store/crashes.py.
-- rate_limits  one row a model: what its provider last reported of its limits when they were tight,
--              for processes that had no report. Nothing hangs on it: it may be emptied.
-- blobs        payloads above 16 KB, and requests of models of any size: zstd, by the sha256 of
--              their text, once per tree of runs.
--
-- `part` is crc32(root id) mod 4,096, last in every key: a whole tree lies in one part.
-- Times are milliseconds since 1970 UTC. Payloads are JSON text, written by substrate.values.codec.
-- There are no foreign keys, triggers or generated values: what a row says, a statement wrote.
--
-- What is counted has bounds, and so have moments: they lie in the years 1 to 9999. A row beyond
-- them cannot be written. It would have no next number, and a claim, a wake or a takeover of many
-- runs would be refused with it.

CREATE TABLE runs (
    id               TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    tenant           TEXT    NOT NULL,
    root_id          TEXT    NOT NULL,
    parent_id        TEXT,
    function         TEXT    NOT NULL,
    version          INTEGER NOT NULL,
    queue            TEXT    NOT NULL,
    -- queue, function and version: whoever claims asks for lanes
    lane             TEXT    NOT NULL,
    -- its place in the lane: the lowest is claimed first
    rank             INTEGER NOT NULL,
    status           TEXT    NOT NULL
                     CONSTRAINT runs_status
                     CHECK (status IN ('ready', 'running', 'suspended', 'paused', 'done', 'failed',
                                       'cancelled', 'dead')),
    -- the number of the present claim: with lease_owner the fence of every commit
    epoch            INTEGER NOT NULL,
    lease_owner      TEXT,
    -- moves with every cause of waking: a run is suspended under the one it saw
    wake_version     INTEGER NOT NULL,
    -- how many of its children must end before that wakes it
    need             INTEGER NOT NULL,
    -- when it is woken in any case
    due_at           INTEGER,
    deadline_at      INTEGER,
    -- claims in a row that ended in a crash
    crashes          INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL,
    -- the change number of the newest row of its journal
    last_seq         INTEGER NOT NULL,
    seed             INTEGER NOT NULL,
    generation       INTEGER NOT NULL,
    -- above which seq the present generation begins
    generation_seq   INTEGER NOT NULL,
    -- the last claim whose process is known to have ended
    exited_epoch     INTEGER NOT NULL,
    generation_at    INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    ended_at         INTEGER,
    -- from when on it may be swept
    expires_at       INTEGER,
    -- see fleet
    losses_seen      INTEGER NOT NULL DEFAULT 0,
    -- what a child that would be dead does: its parent gets the error, or a person is waited for
    on_dead          TEXT    NOT NULL DEFAULT 'raise'
                     CONSTRAINT runs_on_dead CHECK (on_dead IN ('raise', 'wait')),
    -- whether what it does reaches the world; false of a branch that only looks
    live             INTEGER NOT NULL DEFAULT 1
                     CONSTRAINT runs_live CHECK (live IN (0, 1)),
    -- of a branch: the run that it copies, and up to which of its change numbers
    origin_id        TEXT,
    origin_seq       INTEGER,
    PRIMARY KEY (id, part),
    CONSTRAINT runs_origin CHECK ((origin_id IS NULL) = (origin_seq IS NULL)),
    CONSTRAINT runs_counters CHECK (
          epoch BETWEEN 0 AND 2000000000
          AND exited_epoch BETWEEN 0 AND 2000000000
          AND wake_version BETWEEN 0 AND 2000000000
          AND need BETWEEN 0 AND 2000000000
          AND generation BETWEEN 0 AND 2000000000
          AND crashes BETWEEN 0 AND 1000000
          AND last_seq BETWEEN 0 AND 9007199254740991
          AND generation_seq BETWEEN 0 AND 9007199254740991
          AND losses_seen BETWEEN -1 AND 9007199254740991
          AND origin_seq BETWEEN 0 AND 9007199254740991),
    CONSTRAINT runs_moments CHECK (
          created_at BETWEEN -62135596800000 AND 253402300799999
          AND generation_at BETWEEN -62135596800000 AND 253402300799999
          AND due_at BETWEEN -62135596800000 AND 253402300799999
          AND deadline_at BETWEEN -62135596800000 AND 253402300799999
          AND ended_at BETWEEN -62135596800000 AND 253402300799999
          AND expires_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

CREATE INDEX runs_ready ON runs (lane, rank) WHERE status = 'ready';
CREATE INDEX runs_owned ON runs (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX runs_due ON runs (due_at) WHERE status = 'suspended' AND due_at IS NOT NULL;
CREATE INDEX runs_created ON runs (created_at);

CREATE TABLE promises (
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
                     CHECK (kind IN ('run', 'step', 'timer', 'signal', 'child')),
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

CREATE INDEX promises_journal ON promises (run_id, seq);

CREATE TABLE signals (
    run_id           TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    dedup            TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    tenant           TEXT    NOT NULL,
    -- the run's change number when it was sent
    n                INTEGER NOT NULL,
    value            TEXT    NOT NULL,
    sent_at          INTEGER NOT NULL,
    -- the promise that has it
    taken_by         TEXT,
    PRIMARY KEY (run_id, name, dedup, part),
    CONSTRAINT signals_counters CHECK (
          n BETWEEN 0 AND 9007199254740991),
    CONSTRAINT signals_moments CHECK (
          sent_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

-- Those that nobody has taken, by name, in order: what a run asks for at each one it takes.
CREATE INDEX signals_untaken ON signals (run_id, name, n, part) WHERE taken_by IS NULL;

CREATE TABLE workers (
    incarnation      TEXT    NOT NULL PRIMARY KEY,
    tenant           TEXT    NOT NULL,
    host             TEXT    NOT NULL,
    -- what holds its connection, while that tells of its death
    backend_pid      INTEGER,
    server_start     INTEGER,
    beat_at          INTEGER NOT NULL,
    lease_until      INTEGER NOT NULL,
    CONSTRAINT workers_moments CHECK (
          beat_at BETWEEN -62135596800000 AND 253402300799999
          AND lease_until BETWEEN -62135596800000 AND 253402300799999
          AND server_start BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

CREATE TABLE lanes (
    incarnation      TEXT    NOT NULL,
    lane             TEXT    NOT NULL,
    tenant           TEXT    NOT NULL,
    PRIMARY KEY (incarnation, lane)
) STRICT;

CREATE TABLE fleet (
    tenant           TEXT    NOT NULL PRIMARY KEY,
    losses           INTEGER NOT NULL,
    CONSTRAINT fleet_counters CHECK (
          losses BETWEEN 0 AND 9007199254740991)
) STRICT;

CREATE TABLE rate_limits (
    name             TEXT    NOT NULL PRIMARY KEY,
    tenant           TEXT    NOT NULL,
    report           TEXT    NOT NULL,
    reported_at      INTEGER NOT NULL,
    CONSTRAINT rate_limits_moments CHECK (
          reported_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

CREATE TABLE blobs (
    root_id          TEXT    NOT NULL,
    hash             TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    tenant           TEXT    NOT NULL,
    data             BLOB    NOT NULL,
    PRIMARY KEY (root_id, hash, part)
) STRICT;
