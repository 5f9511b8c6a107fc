-- lanes     what each worker knows: one row a lane of it, and one of no name that says it has told.
--           So it can be said of a run that no worker knows its function. Nothing hangs on it.

CREATE TABLE lanes (
    incarnation      text COLLATE "C" NOT NULL,
    lane             text COLLATE "C" NOT NULL,
    tenant           text             NOT NULL,
    PRIMARY KEY (incarnation, lane)
);
