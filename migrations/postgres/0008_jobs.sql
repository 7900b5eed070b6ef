-- Jobs and schedules: what is to be done, how it stands, and what came of it.

CREATE TABLE job (
    id           TEXT   NOT NULL COLLATE "C" PRIMARY KEY, -- grows with time
    kind         TEXT   NOT NULL COLLATE "C",
    payload      TEXT   NOT NULL COLLATE "C",
    state        TEXT   NOT NULL COLLATE "C", -- waiting, running, done, dead
    attempts     BIGINT NOT NULL,
    attempts_max BIGINT NOT NULL,
    key          TEXT   COLLATE "C" UNIQUE,
    asked_by     TEXT   NOT NULL COLLATE "C",
    created_at   BIGINT NOT NULL,
    due_at       BIGINT NOT NULL, -- of one that runs, when its node is taken for dead
    started_at   BIGINT,
    ended_at     BIGINT,
    node         TEXT COLLATE "C",
    progress     TEXT COLLATE "C",
    last_error   TEXT COLLATE "C"
);

CREATE INDEX job_due ON job (due_at) WHERE state IN ('waiting', 'running');

CREATE TABLE schedule (
    name    TEXT   NOT NULL COLLATE "C" PRIMARY KEY,
    kind    TEXT   NOT NULL COLLATE "C",
    payload TEXT   NOT NULL COLLATE "C",
    cron    TEXT   NOT NULL COLLATE "C", -- in UTC
    enabled BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    last_at BIGINT
);
