-- Files that jobs write, in parts: every node can serve them.

CREATE TABLE job_part (
    job     TEXT   NOT NULL COLLATE "C",
    attempt BIGINT NOT NULL, -- of the job: only the parts of its last attempt count
    part    BIGINT NOT NULL, -- from 0
    content TEXT   NOT NULL COLLATE "C",
    PRIMARY KEY (job, attempt, part)
);
