-- Jobs and schedules: what is to be done, how it stands, and what came of it.

CREATE TABLE job (
    id           TEXT    NOT NULL PRIMARY KEY, -- grows with time
    kind         TEXT    NOT NULL,
    payload      TEXT    NOT NULL,
    state        TEXT    NOT NULL, -- waiting, running, done, dead
    attempts     INTEGER NOT NULL,
    attempts_max INTEGER NOT NULL,
    key          TEXT    UNIQUE,
    asked_by     TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    due_at       INTEGER NOT NULL, -- of one that runs, when its node is taken for dead
    started_at   INTEGER,
    ended_at     INTEGER,
    node         TEXT,
    progress     TEXT,
    last_error   TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX job_due ON job (due_at) WHERE state IN ('waiting', 'running');

CREATE TABLE schedule (
    name    TEXT    NOT NULL PRIMARY KEY,
    kind    TEXT    NOT NULL,
    payload TEXT    NOT NULL,
    cron    TEXT    NOT NULL, -- in UTC
    enabled INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    last_at INTEGER
) STRICT, WITHOUT ROWID;
