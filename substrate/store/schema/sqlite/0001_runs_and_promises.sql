-- The tables of the substrate, as SQLite keeps them.
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
-- Times are milliseconds since 1970 UTC. Payloads are JSON text, written by substrate.values.codec.
-- There are no foreign keys, triggers or generated values: what a row says, a statement wrote.

CREATE TABLE runs (
    id               TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    tenant           TEXT    NOT NULL,
    root_id          TEXT    NOT NULL,
    parent_id        TEXT,
    function         TEXT    NOT NULL,
    version          INTEGER NOT NULL,
    queue            TEXT    NOT NULL,
    lane             TEXT    NOT NULL,
    rank             INTEGER NOT NULL,
    status           TEXT    NOT NULL
                     CHECK (status IN ('ready', 'running', 'suspended', 'paused', 'done', 'failed',
                                       'cancelled', 'dead')),
    epoch            INTEGER NOT NULL,
    lease_owner      TEXT,
    wake_version     INTEGER NOT NULL,
    need             INTEGER NOT NULL,
    due_at           INTEGER,
    deadline_at      INTEGER,
    crashes          INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL,
    last_seq         INTEGER NOT NULL,
    seed             INTEGER NOT NULL,
    generation       INTEGER NOT NULL,
    generation_seq     INTEGER NOT NULL,
    exited_epoch       INTEGER NOT NULL,
    generation_at    INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    ended_at         INTEGER,
    expires_at       INTEGER,
    PRIMARY KEY (id, part)
) STRICT;

CREATE INDEX runs_ready ON runs (lane, rank) WHERE status = 'ready';
CREATE INDEX runs_owned ON runs (lease_owner) WHERE lease_owner IS NOT NULL;
CREATE INDEX runs_due ON runs (due_at) WHERE status = 'suspended' AND due_at IS NOT NULL;
CREATE INDEX runs_created ON runs (created_at);

CREATE TABLE promises (
    id               TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    tenant           TEXT    NOT NULL,
    run_id           TEXT    NOT NULL,
    key              TEXT    NOT NULL,
    seq              INTEGER NOT NULL,
    kind             TEXT    NOT NULL
                     CHECK (kind IN ('run', 'step', 'timer', 'signal', 'child')),
    name             TEXT    NOT NULL,
    state            TEXT    NOT NULL
                     CHECK (state IN ('pending', 'resolved', 'rejected', 'cancelled', 'expired')),
    effect           TEXT
                     CHECK (effect IN ('pure', 'idempotent', 'once', 'transactional')),
    fingerprint      TEXT,
    input            TEXT,
    value            TEXT,
    error            TEXT,
    usage            TEXT,
    attempts         TEXT,
    undo             TEXT,
    epoch            INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    settled_at       INTEGER,
    PRIMARY KEY (id, part)
) STRICT;

CREATE INDEX promises_journal ON promises (run_id, seq);

CREATE TABLE signals (
    run_id           TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    dedup            TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    tenant           TEXT    NOT NULL,
    n                INTEGER NOT NULL,
    value            TEXT    NOT NULL,
    sent_at          INTEGER NOT NULL,
    taken_by         TEXT,
    PRIMARY KEY (run_id, name, dedup, part)
) STRICT;

CREATE TABLE workers (
    incarnation      TEXT    NOT NULL PRIMARY KEY,
    tenant           TEXT    NOT NULL,
    host             TEXT    NOT NULL,
    backend_pid      INTEGER,
    server_start     INTEGER,
    beat_at          INTEGER NOT NULL,
    lease_until      INTEGER NOT NULL
) STRICT;

CREATE TABLE blobs (
    root_id          TEXT    NOT NULL,
    hash             TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    tenant           TEXT    NOT NULL,
    data             BLOB    NOT NULL,
    PRIMARY KEY (root_id, hash, part)
) STRICT;
