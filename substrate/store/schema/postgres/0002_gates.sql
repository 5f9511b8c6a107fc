-- Questions to people, and what they have decided of calls to come.
--
-- gates        one row a question, of the id of its promise (kind gate): what was asked of whom
--              until when, and what was decided, once, by whom. The promise is what its run reads;
--              this row is what people look at, and what a decision is compared with.
-- rules        what somebody has decided of calls to come: allow, ask or deny. They hold for all
--              trees, so they lie in no part.

ALTER TABLE promises
    DROP CONSTRAINT promises_kind,
    ADD CONSTRAINT promises_kind
        CHECK (kind IN ('run', 'step', 'timer', 'signal', 'child', 'gate'));

CREATE TABLE gates (
    id               text COLLATE "C" NOT NULL,
    part             integer          NOT NULL,
    tenant           text             NOT NULL,
    -- the first characters of a hash of its id, which people type
    code             text COLLATE "C" NOT NULL,
    run_id           text COLLATE "C" NOT NULL,
    root_id          text COLLATE "C" NOT NULL,
    kind             text             NOT NULL
                     CONSTRAINT gates_kind CHECK (kind IN ('approval', 'question', 'unknown')),
    tool             text             NOT NULL,
    -- a hash of exactly what was shown: a decision names it
    digest           text             NOT NULL,
    summary          text             NOT NULL,
    -- who, until when, what silence means, when to remind: as it was when it was asked
    policy           json             NOT NULL,
    state            text             NOT NULL
                     CONSTRAINT gates_state
                     CHECK (state IN ('pending', 'approved', 'edited', 'denied', 'answered',
                                      'expired', 'withdrawn', 'auto_approved')),
    asked_at         bigint           NOT NULL,
    expires_at       bigint,
    decided_at       bigint,
    decided_by       text,
    -- over which channel
    via              text,
    reason           text,
    -- the rule that has decided, or that wants it asked
    rule             text,
    PRIMARY KEY (id, part),
    CONSTRAINT gates_moments CHECK (
          asked_at BETWEEN -62135596800000 AND 253402300799999
          AND expires_at BETWEEN -62135596800000 AND 253402300799999
          AND decided_at BETWEEN -62135596800000 AND 253402300799999)
);

CREATE INDEX gates_open ON gates (asked_at) WHERE state = 'pending';
CREATE INDEX gates_root ON gates (root_id);
CREATE INDEX gates_code ON gates (code);

CREATE TABLE rules (
    id               text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant           text             NOT NULL,
    verdict          text             NOT NULL
                     CONSTRAINT rules_verdict CHECK (verdict IN ('allow', 'ask', 'deny')),
    -- a name, or a pattern with *
    tool             text             NOT NULL,
    -- of its arguments; empty for all calls
    condition        text             NOT NULL,
    -- in this tree alone
    root_id          text COLLATE "C",
    -- of this agent's own calls alone
    agent            text,
    uses_left        bigint,
    expires_at       bigint,
    reason           text,
    created_by       text             NOT NULL,
    created_at       bigint           NOT NULL,
    CONSTRAINT rules_counters CHECK (
          uses_left BETWEEN 0 AND 9007199254740991),
    CONSTRAINT rules_moments CHECK (
          created_at BETWEEN -62135596800000 AND 253402300799999
          AND expires_at BETWEEN -62135596800000 AND 253402300799999)
);
