-- limits    one row a model: what its provider last told a process of its limits when they were
--           tight, for the processes that were not told. Nothing hangs on it: it may be emptied.

CREATE TABLE limits (
    name             TEXT    NOT NULL PRIMARY KEY,
    tenant           TEXT    NOT NULL,
    told             TEXT    NOT NULL,
    told_at          INTEGER NOT NULL
) STRICT;
