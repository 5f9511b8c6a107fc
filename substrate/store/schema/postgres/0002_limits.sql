-- limits    one row a model: what its provider last told a process of its limits when they were
--           tight, for the processes that were not told. Nothing hangs on it: it may be emptied.

CREATE TABLE limits (
    name             text COLLATE "C" NOT NULL PRIMARY KEY,
    tenant           text             NOT NULL,
    told             json             NOT NULL,
    told_at          bigint           NOT NULL
);
