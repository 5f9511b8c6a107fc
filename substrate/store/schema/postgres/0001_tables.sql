-- The tables of the substrate, as Postgres keeps them.
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
-- Times are milliseconds since 1970 UTC. Payloads are json, not jsonb: byte for byte as
-- substrate.values.codec wrote them, NUL escapes included. Ids collate "C": prefixes are ranges.
-- There are no foreign keys, triggers or generated values: what a row says, a statement wrote.
--
-- What is counted has bounds, and so have moments: they lie in the years 1 to 9999. A row beyond
-- them cannot be written. It would have no next number, and a claim, a wake or a takeover of many
-- runs would be refused with it.

CREATE TABLE runs (
    id               text COLLATE "C" NOT NULL,
    part             integer          NOT NULL,
    tenant           text             NOT NULL,
    root_id          text COLLATE "C" NOT NULL,
    parent_id        text COLLATE "C",
    function         text             NOT NULL,
    version          integer          NOT NULL,
    queue            text             NOT NULL,
    -- queue, function and version: whoever claims asks for lanes
    lane             text COLLATE "C" NOT NULL,
    -- its place in the lane: the lowest is claimed first
    rank             bigint           NOT NULL,
    status           text             NOT NULL
                     CONSTRAINT runs_status
                     CHECK (status IN ('ready', 'running', 'suspended', 'paused', 'done', 'failed',
                                       'cancelled', 'dead')),
    -- the number of the present claim: with lease_owner the fence of every commit
    epoch            integer          NOT NULL,
    lease_owner      text COLLATE "C",
    -- moves with every cause of waking: a run is suspended under the one it saw
    wake_version     integer          NOT NULL,
    -- how many of its children must end before that wakes it
    need             integer          NOT NULL,
    -- when it is woken in any case
    due_at           bigint,
    deadline_at      bigint,
    -- claims in a row that ended in a crash
    crashes          integer          NOT NULL,
    cancel_requested boolean          NOT NULL,
    -- the change number of the newest row of its journal
    last_seq         bigint           NOT NULL,
    seed             bigint           NOT NULL,
    generation       integer          NOT NULL,
    -- above which seq the present generation begins
    generation_seq   bigint           NOT NULL,
    -- the last claim whose process is known to have ended
    exited_epoch     integer          NOT NULL,
    generation_at    bigint           NOT NULL,
    created_at       bigint           NOT NULL,
    ended_at         bigint,
    -- from when on it may be swept
    expires_at       bigint,
    -- see fleet
    losses_seen      bigint           NOT NULL DEFAULT 0,
    -- what a child that would be dead does: its parent gets the error, or a person is waited for
    on_dead          text             NOT NULL DEFAULT 'raise'
                     CONSTRAINT runs_on_dead CHECK (on_dead IN ('raise', 'wait')),
    -- whether what it does reaches the world; false of a branch that only looks
    live             boolean          NOT NULL DEFAULT true,
    -- of a branch: the run that it copies, and up to which of its change numbers
    origin_id        text COLLATE "C",
    origin_seq       bigint,
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
) WITH (fillfactor = 80);

CREATE INDEX runs_ready ON runs (lane, rank) WHERE status = 'ready';
CREATE INDEX runs_owned ON runs (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX runs_due ON runs (due_at) WHERE status = 'suspended' AND due_at IS NOT NULL;
CREATE INDEX runs_created ON runs (created_at);

CREATE TABLE promises (
    id               text COLLATE "C" NOT NULL,
    part             integer          NOT NULL,
    tenant           text             NOT NULL,
    -- in whose journal it stands
    run_id           text COLLATE "C" NOT NULL,
    key              text COLLATE "C" NOT NULL,
    -- the change number of the run at which the row came to be as it is
    seq              bigint           NOT NULL,
    -- the change number that the run's driver knew when this began; it never changes
    began            bigint           NOT NULL DEFAULT 0,
    kind             text             NOT NULL
                     CONSTRAINT promises_kind
                     CHECK (kind IN ('run', 'step', 'timer', 'signal', 'child')),
    name             text COLLATE "C" NOT NULL,
    state            text             NOT NULL
                     CONSTRAINT promises_state
                     CHECK (state IN ('pending', 'resolved', 'rejected', 'cancelled', 'expired')),
    effect           text
                     CONSTRAINT promises_effect
                     CHECK (effect IN ('pure', 'idempotent', 'once', 'transactional')),
    -- a hash of what was asked for under this key
    fingerprint      text,
    input            json,
    value            json,
    error            json,
    usage            json,
    -- those that failed; of a signal, the values that were refused
    attempts         json,
    -- what makes up for the step: a function and its arguments
    undo             json,
    -- the claim that wrote the row last
    epoch            integer          NOT NULL,
    created_at       bigint           NOT NULL,
    settled_at       bigint,
    PRIMARY KEY (id, part),
    CONSTRAINT promises_counters CHECK (
          epoch BETWEEN 0 AND 2000000000
          AND seq BETWEEN 0 AND 9007199254740991
          AND began BETWEEN 0 AND 9007199254740991),
    CONSTRAINT promises_moments CHECK (
          created_at BETWEEN -62135596800000 AND 253402300799999
          AND settled_at BETWEEN -62135596800000 AND 253402300799999)
);

CREATE INDEX promises_journal ON promises (run_id, seq);

CREATE TABLE signals (
    run_id           text COLLATE "C" NOT NULL,
    name             text COLLATE "C" NOT NULL,
    dedup            text COLLATE "C" NOT NULL,
    part             integer          NOT NULL,
    tenant           text             NOT NULL,
    -- the run's change number when it was sent
    n                bigint           NOT NULL,
    value            json             NOT NULL,
    sent_at          bigint           NOT NULL,
    -- the promise that has it
    taken_by         text COLLATE "C",
    PRIMARY KEY (run_id, name, dedup, part),
    CONSTRAINT signals_counters CHECK (
          n BETWEEN 0 AND 9007199254740991),
    CONSTRAINT signals_moments CHECK (
          sent_at BETWEEN -62135596800000 AND 253402300799999)
);

-- Those that nobody has taken, by name, in order: what a run asks for at each one it takes.
CREATE INDEX signals_untaken ON signals (run_id, name, n, part) WHERE taken_by IS NULL;

CREATE TABLE workers (
    incarnation      text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant           text             NOT NULL,
    host             text             NOT NULL,
    -- what holds its connection, while that tells of its death
    backend_pid      integer,
    server_start     bigint,
    beat_at          bigint           NOT NULL,
    lease_until      bigint           NOT NULL,
    CONSTRAINT workers_moments CHECK (
          beat_at BETWEEN -62135596800000 AND 253402300799999
          AND lease_until BETWEEN -62135596800000 AND 253402300799999
          AND server_start BETWEEN -62135596800000 AND 253402300799999)
);

CREATE TABLE lanes (
    incarnation      text COLLATE "C" NOT NULL,
    lane             text COLLATE "C" NOT NULL,
    tenant           text             NOT NULL,
    PRIMARY KEY (incarnation, lane)
);

CREATE TABLE fleet (
    tenant           text COLLATE "C" NOT NULL PRIMARY KEY,
    losses           bigint           NOT NULL,
    CONSTRAINT fleet_counters CHECK (
          losses BETWEEN 0 AND 9007199254740991)
);

CREATE TABLE rate_limits (
    name             text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant           text             NOT NULL,
    report           json             NOT NULL,
    reported_at      bigint           NOT NULL,
    CONSTRAINT rate_limits_moments CHECK (
          reported_at BETWEEN -62135596800000 AND 253402300799999)
);

CREATE TABLE blobs (
    root_id          text COLLATE "C" NOT NULL,
    hash             text COLLATE "C" NOT NULL,
    part             integer          NOT NULL,
    tenant           text             NOT NULL,
    data             bytea            NOT NULL,
    PRIMARY KEY (root_id, hash, part)
);
