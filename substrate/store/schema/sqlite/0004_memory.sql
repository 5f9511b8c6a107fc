-- What agents keep, shared by all runs: it lies by namespace, not by the run that wrote it.
--
-- namespaces   one row a namespace: its counter, which is its clock. Whoever writes in it locks this
--              row first, so its changes come one after the other, and each has a number of its own.
-- notes        one row a version of a named text. A deleted one stands without a body.
-- facts        one row for what one source said of a subject. The same of another source is a row
--              more, with the same `doc`: so a fact is a doc, and its rows are its sources.
-- links        one row for what one source said of two things.
-- history      what was said in a run.
-- policies     what was declared of a predicate: which of several values a reader gets.
-- decisions    which value that is, by what rule, and over which rows: those that stood at `over_n`.
-- motions      what is voted on under a key, and its outcome; ballots: who votes for what.
-- followers    the runs that wait for the next change of a namespace.
-- terms        the index for full text: which word stands in which text, from one number to another.
--              It holds nothing that the rows do not say, and is written in their commit.
-- tombstones   one row a forgetting: which kind, when, and how many rows of what are gone for good.
--              It has no content: while it is under way, numbers and ids of what is left to do.
-- term_counts  in how many texts of a namespace a word stands now.
-- embedders    whose vectors a namespace has, and how far they go.
-- vectors      one row for each stretch of a text, as an embedder has it. It follows from the text
--              alone: whether that counts, its row says.
--
-- What was known at a number N is  n <= N AND (gone_n IS NULL OR gone_n > N).  Nothing is changed
-- in a row but that it is gone: gone_n, gone_at and gone_by are set, once, together.
-- `source` is the promise that said so, `writer` the one that wrote the row: another one where that
-- corrected the time, or put back what it had taken away.
-- `part` is crc32(tenant / first segment of ns) mod 4,096, last in every key. `branch` is '' but for
-- what a branch of a run keeps of its own.

CREATE TABLE namespaces (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    -- the number of its last change, and when that was: no later one is recorded as earlier
    last_n           INTEGER NOT NULL,
    last_at          INTEGER NOT NULL,
    -- how many texts stand in its index, and how many words these have
    docs             INTEGER NOT NULL,
    words            INTEGER NOT NULL,
    -- how many policies were ever declared in it; 1 where a run waits for its next change
    declared         INTEGER NOT NULL,
    followed         INTEGER NOT NULL
                     CONSTRAINT namespaces_followed CHECK (followed IN (0, 1)),
    PRIMARY KEY (tenant, ns, branch, part),
    CONSTRAINT namespaces_counters CHECK (
          last_n BETWEEN 0 AND 9007199254740991
          AND docs BETWEEN 0 AND 9007199254740991
          AND words BETWEEN 0 AND 9007199254740991
          AND declared BETWEEN 0 AND 9007199254740991),
    CONSTRAINT namespaces_moments CHECK (
          last_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

CREATE TABLE notes (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    n                INTEGER NOT NULL,
    part             INTEGER NOT NULL,
    -- the first row that says the same: of a note, its first version
    doc              INTEGER NOT NULL,
    name             TEXT    NOT NULL,
    version          INTEGER NOT NULL,
    body             TEXT,
    -- how many words it had when the index last counted all of them
    words            INTEGER NOT NULL,
    recorded_at      INTEGER NOT NULL,
    source           TEXT    NOT NULL,
    writer           TEXT    NOT NULL,
    trust            TEXT    NOT NULL
                     CONSTRAINT notes_trust CHECK (trust IN ('user', 'agent', 'tool', 'web')),
    -- the row that it was written in place of
    prior            INTEGER,
    gone_n           INTEGER,
    gone_at          INTEGER,
    gone_by          TEXT,
    PRIMARY KEY (tenant, ns, branch, n, part),
    CONSTRAINT notes_gone CHECK (
          (gone_n IS NULL) = (gone_at IS NULL) AND (gone_n IS NULL) = (gone_by IS NULL)
          AND gone_n > n),
    CONSTRAINT notes_size CHECK (length(CAST(body AS BLOB)) <= 1000000),
    CONSTRAINT notes_counters CHECK (
          n BETWEEN 1 AND 9007199254740991
          AND doc BETWEEN 1 AND 9007199254740991
          AND version BETWEEN 1 AND 9007199254740991
          AND words BETWEEN 0 AND 9007199254740991
          AND prior BETWEEN 1 AND 9007199254740991
          AND gone_n BETWEEN 1 AND 9007199254740991),
    CONSTRAINT notes_moments CHECK (
          recorded_at BETWEEN -62135596800000 AND 253402300799999
          AND gone_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

-- One version of a name counts at a time.
CREATE UNIQUE INDEX notes_standing ON notes (tenant, ns, branch, name, part) WHERE gone_n IS NULL;
CREATE INDEX notes_versions ON notes (tenant, ns, branch, name, n);

CREATE TABLE facts (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    n                INTEGER NOT NULL,
    part             INTEGER NOT NULL,
    -- the first row that says the same, of whatever source
    doc              INTEGER NOT NULL,
    subject          TEXT    NOT NULL,
    -- in its canonical form
    subject_key      TEXT    NOT NULL,
    predicate        TEXT    NOT NULL,
    object           TEXT    NOT NULL,
    -- a hash of its canonical form
    object_key       TEXT    NOT NULL,
    confidence       REAL    NOT NULL,
    -- when it was true; valid_to is NULL while it is
    valid_from       INTEGER NOT NULL,
    valid_to         INTEGER,
    recorded_at      INTEGER NOT NULL,
    source           TEXT    NOT NULL,
    writer           TEXT    NOT NULL,
    trust            TEXT    NOT NULL
                     CONSTRAINT facts_trust CHECK (trust IN ('user', 'agent', 'tool', 'web')),
    prior            INTEGER,
    gone_n           INTEGER,
    gone_at          INTEGER,
    gone_by          TEXT,
    PRIMARY KEY (tenant, ns, branch, n, part),
    CONSTRAINT facts_gone CHECK (
          (gone_n IS NULL) = (gone_at IS NULL) AND (gone_n IS NULL) = (gone_by IS NULL)
          AND gone_n > n),
    CONSTRAINT facts_subject CHECK (subject_key <> '' AND predicate <> ''),
    CONSTRAINT facts_confidence CHECK (
          confidence BETWEEN 0.0 AND 1.0),
    CONSTRAINT facts_valid CHECK (valid_from < valid_to),
    CONSTRAINT facts_counters CHECK (
          n BETWEEN 1 AND 9007199254740991
          AND doc BETWEEN 1 AND 9007199254740991
          AND prior BETWEEN 1 AND 9007199254740991
          AND gone_n BETWEEN 1 AND 9007199254740991),
    CONSTRAINT facts_moments CHECK (
          recorded_at BETWEEN -62135596800000 AND 253402300799999
          AND gone_at BETWEEN -62135596800000 AND 253402300799999
          AND valid_from BETWEEN -62135596800000 AND 253402300799999
          AND valid_to BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

CREATE INDEX facts_standing ON facts (tenant, ns, branch, subject_key, predicate, n)
    WHERE gone_n IS NULL;
CREATE INDEX facts_known ON facts (tenant, ns, branch, subject_key, predicate, n);
CREATE INDEX facts_doc ON facts (tenant, ns, branch, doc);

CREATE TABLE links (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    n                INTEGER NOT NULL,
    part             INTEGER NOT NULL,
    doc              INTEGER NOT NULL,
    a                TEXT    NOT NULL,
    a_key            TEXT    NOT NULL,
    rel              TEXT    NOT NULL,
    b                TEXT    NOT NULL,
    b_key            TEXT    NOT NULL,
    confidence       REAL    NOT NULL,
    valid_from       INTEGER NOT NULL,
    valid_to         INTEGER,
    recorded_at      INTEGER NOT NULL,
    source           TEXT    NOT NULL,
    writer           TEXT    NOT NULL,
    trust            TEXT    NOT NULL
                     CONSTRAINT links_trust CHECK (trust IN ('user', 'agent', 'tool', 'web')),
    prior            INTEGER,
    gone_n           INTEGER,
    gone_at          INTEGER,
    gone_by          TEXT,
    PRIMARY KEY (tenant, ns, branch, n, part),
    CONSTRAINT links_gone CHECK (
          (gone_n IS NULL) = (gone_at IS NULL) AND (gone_n IS NULL) = (gone_by IS NULL)
          AND gone_n > n),
    CONSTRAINT links_ends CHECK (a_key <> '' AND rel <> '' AND b_key <> ''),
    CONSTRAINT links_confidence CHECK (
          confidence BETWEEN 0.0 AND 1.0),
    CONSTRAINT links_valid CHECK (valid_from < valid_to),
    CONSTRAINT links_counters CHECK (
          n BETWEEN 1 AND 9007199254740991
          AND doc BETWEEN 1 AND 9007199254740991
          AND prior BETWEEN 1 AND 9007199254740991
          AND gone_n BETWEEN 1 AND 9007199254740991),
    CONSTRAINT links_moments CHECK (
          recorded_at BETWEEN -62135596800000 AND 253402300799999
          AND gone_at BETWEEN -62135596800000 AND 253402300799999
          AND valid_from BETWEEN -62135596800000 AND 253402300799999
          AND valid_to BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

CREATE INDEX links_from ON links (tenant, ns, branch, a_key, rel, b_key, n);
CREATE INDEX links_to ON links (tenant, ns, branch, b_key, rel, a_key, n);

CREATE TABLE history (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    n                INTEGER NOT NULL,
    part             INTEGER NOT NULL,
    doc              INTEGER NOT NULL,
    speaker          TEXT    NOT NULL,
    body             TEXT    NOT NULL,
    recorded_at      INTEGER NOT NULL,
    source           TEXT    NOT NULL,
    writer           TEXT    NOT NULL,
    trust            TEXT    NOT NULL
                     CONSTRAINT history_trust CHECK (trust IN ('user', 'agent', 'tool', 'web')),
    prior            INTEGER,
    gone_n           INTEGER,
    gone_at          INTEGER,
    gone_by          TEXT,
    PRIMARY KEY (tenant, ns, branch, n, part),
    CONSTRAINT history_gone CHECK (
          (gone_n IS NULL) = (gone_at IS NULL) AND (gone_n IS NULL) = (gone_by IS NULL)
          AND gone_n > n),
    CONSTRAINT history_size CHECK (length(CAST(body AS BLOB)) <= 1000000),
    CONSTRAINT history_counters CHECK (
          n BETWEEN 1 AND 9007199254740991
          AND doc BETWEEN 1 AND 9007199254740991
          AND prior BETWEEN 1 AND 9007199254740991
          AND gone_n BETWEEN 1 AND 9007199254740991),
    CONSTRAINT history_moments CHECK (
          recorded_at BETWEEN -62135596800000 AND 253402300799999
          AND gone_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

CREATE TABLE terms (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    term             TEXT    NOT NULL,
    -- whose text it is
    doc              INTEGER NOT NULL,
    n                INTEGER NOT NULL,
    part             INTEGER NOT NULL,
    source_table     TEXT    NOT NULL
                     CONSTRAINT terms_source_table
                     CHECK (source_table IN ('notes', 'facts', 'history')),
    -- how often, in bands: 1 to 6, to 8, to 11, to 16, to 32, more
    band             INTEGER NOT NULL
                     CONSTRAINT terms_band CHECK (band BETWEEN 1 AND 11),
    -- how often it stands there, and how many words the text has
    tf               INTEGER NOT NULL,
    words            INTEGER NOT NULL,
    gone_n           INTEGER,
    PRIMARY KEY (tenant, ns, branch, term, doc, n, part),
    CONSTRAINT terms_counters CHECK (
          n BETWEEN 1 AND 9007199254740991
          AND doc BETWEEN 1 AND 9007199254740991
          AND tf BETWEEN 1 AND 9007199254740991
          AND words BETWEEN 1 AND 9007199254740991
          AND gone_n BETWEEN 1 AND 9007199254740991)
) STRICT, WITHOUT ROWID;

CREATE TABLE tombstones (
    id               TEXT    NOT NULL PRIMARY KEY,
    tenant           TEXT    NOT NULL,
    kind             TEXT    NOT NULL
                     CONSTRAINT tombstones_kind
                     CHECK (kind IN ('namespace', 'subject', 'note', 'row', 'run')),
    -- namespaces, numbers and runs; NULL when it has ended
    left_to_do       TEXT,
    -- how many rows are gone, by table
    counts           TEXT    NOT NULL,
    begun_at         INTEGER NOT NULL,
    ended_at         INTEGER,
    CONSTRAINT tombstones_ended CHECK ((left_to_do IS NULL) = (ended_at IS NOT NULL)),
    CONSTRAINT tombstones_moments CHECK (
          begun_at BETWEEN -62135596800000 AND 253402300799999
          AND ended_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

-- Of a word first the texts in which it tells most, and the newest of those.
CREATE INDEX terms_best ON terms (tenant, ns, branch, term, band, words, doc DESC, n);

CREATE TABLE term_counts (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    term             TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    -- in how many texts it stands, and in which bands it ever did: bit 1 is the first
    docs             INTEGER NOT NULL,
    bands            INTEGER NOT NULL,
    PRIMARY KEY (tenant, ns, branch, term, part),
    CONSTRAINT term_counts_counters CHECK (
          docs BETWEEN 0 AND 9007199254740991
          AND bands BETWEEN 0 AND 4094)
) STRICT, WITHOUT ROWID;

CREATE TABLE embedders (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    model            TEXT    NOT NULL,
    dimension        INTEGER NOT NULL,
    -- up to which number of the namespace every text has its vectors
    last_n           INTEGER NOT NULL,
    -- how often they were made anew: what a process keeps of earlier ones counts no more
    built            INTEGER NOT NULL,
    PRIMARY KEY (tenant, ns, branch, part),
    CONSTRAINT embedders_model CHECK (model <> ''),
    CONSTRAINT embedders_counters CHECK (
          dimension BETWEEN 1 AND 16384
          AND last_n BETWEEN 0 AND 9007199254740991
          AND built BETWEEN 1 AND 9007199254740991)
) STRICT;

CREATE TABLE vectors (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    -- the row whose text it is, and where in that it begins, in characters
    n                INTEGER NOT NULL,
    start            INTEGER NOT NULL,
    part             INTEGER NOT NULL,
    source_table     TEXT    NOT NULL
                     CONSTRAINT vectors_source_table
                     CHECK (source_table IN ('notes', 'facts', 'history')),
    -- of length 1: float16, the low byte first
    vector           BLOB    NOT NULL,
    PRIMARY KEY (tenant, ns, branch, n, start, part),
    CONSTRAINT vectors_size CHECK (length(vector) BETWEEN 2 AND 32768),
    CONSTRAINT vectors_counters CHECK (
          n BETWEEN 1 AND 9007199254740991
          AND start BETWEEN 0 AND 9007199254740991)
) STRICT, WITHOUT ROWID;

CREATE TABLE policies (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    n                INTEGER NOT NULL,
    part             INTEGER NOT NULL,
    doc              INTEGER NOT NULL,
    predicate        TEXT    NOT NULL,
    -- what becomes of facts of it that disagree
    policy           TEXT    NOT NULL,
    -- of a vote: whose word counts, and how many must say the same
    voters           TEXT    NOT NULL,
    need             INTEGER NOT NULL,
    recorded_at      INTEGER NOT NULL,
    source           TEXT    NOT NULL,
    writer           TEXT    NOT NULL,
    trust            TEXT    NOT NULL
                     CONSTRAINT policies_trust CHECK (trust IN ('user', 'agent', 'tool', 'web')),
    prior            INTEGER,
    gone_n           INTEGER,
    gone_at          INTEGER,
    gone_by          TEXT,
    PRIMARY KEY (tenant, ns, branch, n, part),
    CONSTRAINT policies_gone CHECK (
          (gone_n IS NULL) = (gone_at IS NULL) AND (gone_n IS NULL) = (gone_by IS NULL)
          AND gone_n > n),
    CONSTRAINT policies_policy CHECK (
          policy IN ('many', 'one', 'latest', 'surest', 'sources', 'vote', 'judge', 'ask')),
    CONSTRAINT policies_need CHECK (need BETWEEN 0 AND 9007199254740991),
    CONSTRAINT policies_counters CHECK (
          n BETWEEN 1 AND 9007199254740991
          AND doc BETWEEN 1 AND 9007199254740991
          AND prior BETWEEN 1 AND 9007199254740991
          AND gone_n BETWEEN 1 AND 9007199254740991),
    CONSTRAINT policies_moments CHECK (
          recorded_at BETWEEN -62135596800000 AND 253402300799999
          AND gone_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

-- One policy of a predicate counts at a time.
CREATE UNIQUE INDEX policies_standing ON policies (tenant, ns, branch, predicate, part)
    WHERE gone_n IS NULL;

CREATE TABLE decisions (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    n                INTEGER NOT NULL,
    part             INTEGER NOT NULL,
    doc              INTEGER NOT NULL,
    subject          TEXT    NOT NULL,
    subject_key      TEXT    NOT NULL,
    predicate        TEXT    NOT NULL,
    -- by what rule
    policy           TEXT    NOT NULL,
    -- the value that was decided for
    object           TEXT    NOT NULL,
    object_key       TEXT    NOT NULL,
    -- over which rows: those that stood at this number
    over_n           INTEGER NOT NULL,
    -- the person or judge; '' where a rule decided
    decided_by       TEXT    NOT NULL,
    reason           TEXT    NOT NULL,
    recorded_at      INTEGER NOT NULL,
    source           TEXT    NOT NULL,
    writer           TEXT    NOT NULL,
    trust            TEXT    NOT NULL
                     CONSTRAINT decisions_trust CHECK (trust IN ('user', 'agent', 'tool', 'web')),
    prior            INTEGER,
    gone_n           INTEGER,
    gone_at          INTEGER,
    gone_by          TEXT,
    PRIMARY KEY (tenant, ns, branch, n, part),
    CONSTRAINT decisions_gone CHECK (
          (gone_n IS NULL) = (gone_at IS NULL) AND (gone_n IS NULL) = (gone_by IS NULL)
          AND gone_n > n),
    CONSTRAINT decisions_policy CHECK (
          policy IN ('latest', 'surest', 'sources', 'vote', 'judge', 'ask')),
    CONSTRAINT decisions_over CHECK (over_n BETWEEN 1 AND n),
    CONSTRAINT decisions_counters CHECK (
          n BETWEEN 1 AND 9007199254740991
          AND doc BETWEEN 1 AND 9007199254740991
          AND prior BETWEEN 1 AND 9007199254740991
          AND gone_n BETWEEN 1 AND 9007199254740991),
    CONSTRAINT decisions_moments CHECK (
          recorded_at BETWEEN -62135596800000 AND 253402300799999
          AND gone_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

-- One decision of a subject and predicate counts at a time.
CREATE UNIQUE INDEX decisions_standing ON decisions (
    tenant, ns, branch, subject_key, predicate, part) WHERE gone_n IS NULL;
CREATE INDEX decisions_known ON decisions (tenant, ns, branch, subject_key, predicate, n);

CREATE TABLE motions (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    n                INTEGER NOT NULL,
    part             INTEGER NOT NULL,
    doc              INTEGER NOT NULL,
    topic            TEXT    NOT NULL,
    topic_key        TEXT    NOT NULL,
    -- who may vote, and how many must vote for one value
    voters           TEXT    NOT NULL,
    need             INTEGER NOT NULL,
    expires_at       INTEGER,
    state            TEXT    NOT NULL,
    -- what was proposed; once it has passed, what has passed
    object           TEXT    NOT NULL,
    object_key       TEXT    NOT NULL,
    recorded_at      INTEGER NOT NULL,
    source           TEXT    NOT NULL,
    writer           TEXT    NOT NULL,
    trust            TEXT    NOT NULL
                     CONSTRAINT motions_trust CHECK (trust IN ('user', 'agent', 'tool', 'web')),
    prior            INTEGER,
    gone_n           INTEGER,
    gone_at          INTEGER,
    gone_by          TEXT,
    PRIMARY KEY (tenant, ns, branch, n, part),
    CONSTRAINT motions_gone CHECK (
          (gone_n IS NULL) = (gone_at IS NULL) AND (gone_n IS NULL) = (gone_by IS NULL)
          AND gone_n > n),
    CONSTRAINT motions_state CHECK (state IN ('open', 'passed', 'failed', 'expired')),
    CONSTRAINT motions_counters CHECK (
          n BETWEEN 1 AND 9007199254740991
          AND doc BETWEEN 1 AND 9007199254740991
          AND need BETWEEN 1 AND 9007199254740991
          AND prior BETWEEN 1 AND 9007199254740991
          AND gone_n BETWEEN 1 AND 9007199254740991),
    CONSTRAINT motions_moments CHECK (
          recorded_at BETWEEN -62135596800000 AND 253402300799999
          AND gone_at BETWEEN -62135596800000 AND 253402300799999
          AND expires_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

-- One motion of a topic counts at a time, and once it is closed no other takes its place.
CREATE UNIQUE INDEX motions_standing ON motions (tenant, ns, branch, topic_key, part)
    WHERE gone_n IS NULL;

CREATE TABLE ballots (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    n                INTEGER NOT NULL,
    part             INTEGER NOT NULL,
    doc              INTEGER NOT NULL,
    topic_key        TEXT    NOT NULL,
    voter            TEXT    NOT NULL,
    object           TEXT    NOT NULL,
    object_key       TEXT    NOT NULL,
    recorded_at      INTEGER NOT NULL,
    source           TEXT    NOT NULL,
    writer           TEXT    NOT NULL,
    trust            TEXT    NOT NULL
                     CONSTRAINT ballots_trust CHECK (trust IN ('user', 'agent', 'tool', 'web')),
    prior            INTEGER,
    gone_n           INTEGER,
    gone_at          INTEGER,
    gone_by          TEXT,
    PRIMARY KEY (tenant, ns, branch, n, part),
    CONSTRAINT ballots_gone CHECK (
          (gone_n IS NULL) = (gone_at IS NULL) AND (gone_n IS NULL) = (gone_by IS NULL)
          AND gone_n > n),
    CONSTRAINT ballots_counters CHECK (
          n BETWEEN 1 AND 9007199254740991
          AND doc BETWEEN 1 AND 9007199254740991
          AND prior BETWEEN 1 AND 9007199254740991
          AND gone_n BETWEEN 1 AND 9007199254740991),
    CONSTRAINT ballots_moments CHECK (
          recorded_at BETWEEN -62135596800000 AND 253402300799999
          AND gone_at BETWEEN -62135596800000 AND 253402300799999)
) STRICT;

-- One ballot of a voter counts at a time.
CREATE UNIQUE INDEX ballots_standing ON ballots (tenant, ns, branch, topic_key, voter, part)
    WHERE gone_n IS NULL;

CREATE TABLE followers (
    tenant           TEXT    NOT NULL,
    ns               TEXT    NOT NULL,
    branch           TEXT    NOT NULL,
    run_id           TEXT    NOT NULL,
    part             INTEGER NOT NULL,
    -- the part of the run
    run_part         INTEGER NOT NULL,
    -- 1 once the namespace has changed: the run is to be woken, and then the row goes
    is_due           INTEGER NOT NULL
                     CONSTRAINT followers_is_due CHECK (is_due IN (0, 1)),
    PRIMARY KEY (tenant, ns, branch, run_id, part)
) STRICT, WITHOUT ROWID;

CREATE INDEX followers_due ON followers (run_id) WHERE is_due = 1;

-- What has gone since a number, for who follows.
CREATE INDEX notes_gone_since ON notes (tenant, ns, branch, gone_n) WHERE gone_n IS NOT NULL;
CREATE INDEX facts_gone_since ON facts (tenant, ns, branch, gone_n) WHERE gone_n IS NOT NULL;
CREATE INDEX links_gone_since ON links (tenant, ns, branch, gone_n) WHERE gone_n IS NOT NULL;
CREATE INDEX history_gone_since ON history (tenant, ns, branch, gone_n) WHERE gone_n IS NOT NULL;
CREATE INDEX policies_gone_since ON policies (tenant, ns, branch, gone_n) WHERE gone_n IS NOT NULL;
CREATE INDEX decisions_gone_since ON decisions (tenant, ns, branch, gone_n)
    WHERE gone_n IS NOT NULL;
CREATE INDEX motions_gone_since ON motions (tenant, ns, branch, gone_n) WHERE gone_n IS NOT NULL;
CREATE INDEX ballots_gone_since ON ballots (tenant, ns, branch, gone_n) WHERE gone_n IS NOT NULL;
