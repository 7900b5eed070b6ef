-- Files that jobs write, in parts: every node can serve them.

CREATE TABLE job_part (
    job     TEXT    NOT NULL,
    attempt INTEGER NOT NULL, -- of the job: only the parts of its last attempt count
    part    INTEGER NOT NULL, -- from 0
    content TEXT    NOT NULL,
    PRIMARY KEY (job, attempt, part)
) STRICT, WITHOUT ROWID;
