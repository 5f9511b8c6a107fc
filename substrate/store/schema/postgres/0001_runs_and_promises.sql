-- The tables of the substrate, as Postgres keeps them.
--
-- runs      one narrow row a run: who may drive it, what it waits for, how far its journal has come.
--           It is rewritten at every commit, so nothing wide may live here.
-- promises  one row for anything a run waits for or has done: the run itself, its steps, timers,
--           signals, children. A row is written at most twice: pending, then settled.
--           A run's journal is  WHERE run_id = … ORDER BY seq;  the run itself is  WHERE id = ….
-- signals   the inbox: values sent to a run from outside, numbered under the run's lock, taken once.
-- workers   one row a worker's incarnation: until when its claims count as alive.
-- blobs     payloads above 16 KB, zstd, by the sha256 of their text, once per tree of runs.
--
-- `part` is crc32(root id) mod 64, last in every key: a whole tree lies in one part.
-- Times are milliseconds since 1970 UTC. Payloads are json, not jsonb: byte for byte as
-- substrate.values.codec wrote them, NUL escapes included. Ids collate "C": prefixes are ranges.
-- There are no foreign keys, triggers or generated values: what a row says, a statement wrote.

CREATE TABLE runs (
    id               text COLLATE "C" NOT NULL,
    part             integer          NOT NULL,
    tenant           text             NOT NULL,
    root_id          text COLLATE "C" NOT NULL,
    parent_id        text COLLATE "C",
    function         text             NOT NULL,
    version          integer          NOT NULL,
    queue            text             NOT NULL,
    lane             text COLLATE "C" NOT NULL,
    rank             bigint           NOT NULL,
    status           text             NOT NULL
                     CHECK (status IN ('ready', 'running', 'suspended', 'paused', 'done', 'failed',
                                       'cancelled', 'dead')),
    epoch            integer          NOT NULL,
    lease_owner      text COLLATE "C",
    wake_version     integer          NOT NULL,
    need             integer          NOT NULL,
    due_at           bigint,
    deadline_at      bigint,
    crashes          integer          NOT NULL,
    cancel_requested boolean          NOT NULL,
    last_seq         bigint           NOT NULL,
    seed             bigint           NOT NULL,
    generation       integer          NOT NULL,
    generation_seq     bigint           NOT NULL,
    exited_epoch       integer          NOT NULL,
    generation_at    bigint           NOT NULL,
    created_at       bigint           NOT NULL,
    ended_at         bigint,
    expires_at       bigint,
    PRIMARY KEY (id, part)
) WITH (fillfactor = 80);

CREATE INDEX runs_ready ON runs (lane, rank) WHERE status = 'ready';
CREATE INDEX runs_owned ON runs (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX runs_due ON runs (due_at) WHERE status = 'suspended' AND due_at IS NOT NULL;
CREATE INDEX runs_created ON runs (created_at);

CREATE TABLE promises (
    id               text COLLATE "C" NOT NULL,
    part             integer          NOT NULL,
    tenant           text             NOT NULL,
    run_id           text COLLATE "C" NOT NULL,
    key              text COLLATE "C" NOT NULL,
    seq              bigint           NOT NULL,
    kind             text             NOT NULL
                     CHECK (kind IN ('run', 'step', 'timer', 'signal', 'child')),
    name             text COLLATE "C" NOT NULL,
    state            text             NOT NULL
                     CHECK (state IN ('pending', 'resolved', 'rejected', 'cancelled', 'expired')),
    effect           text
                     CHECK (effect IN ('pure', 'idempotent', 'once', 'transactional')),
    fingerprint      text,
    input            json,
    value            json,
    error            json,
    usage            json,
    attempts         json,
    undo             json,
    epoch            integer          NOT NULL,
    created_at       bigint           NOT NULL,
    settled_at       bigint,
    PRIMARY KEY (id, part)
);

CREATE INDEX promises_journal ON promises (run_id, seq);

CREATE TABLE signals (
    run_id           text COLLATE "C" NOT NULL,
    name             text COLLATE "C" NOT NULL,
    dedup            text COLLATE "C" NOT NULL,
    part             integer          NOT NULL,
    tenant           text             NOT NULL,
    n                bigint           NOT NULL,
    value            json             NOT NULL,
    sent_at          bigint           NOT NULL,
    taken_by         text COLLATE "C",
    PRIMARY KEY (run_id, name, dedup, part)
);

CREATE TABLE workers (
    incarnation      text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant           text             NOT NULL,
    host             text             NOT NULL,
    backend_pid      integer,
    server_start     bigint,
    beat_at          bigint           NOT NULL,
    lease_until      bigint           NOT NULL
);

CREATE TABLE blobs (
    root_id          text COLLATE "C" NOT NULL,
    hash             text COLLATE "C" NOT NULL,
    part             integer          NOT NULL,
    tenant           text             NOT NULL,
    data             bytea            NOT NULL,
    PRIMARY KEY (root_id, hash, part)
);
