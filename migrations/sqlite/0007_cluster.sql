-- Who is there, and whom an operator wants a shard to be with. One node has a SQLite store to
-- itself; the tables are the same so that the rest of the program need not ask.

CREATE TABLE node (
    id          TEXT    NOT NULL PRIMARY KEY,
    url         TEXT    NOT NULL, -- where the other nodes reach it
    machine     TEXT    NOT NULL, -- on which it runs, since it was started
    version     TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    lease_until INTEGER NOT NULL, -- by the store's clock
    draining    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE shard ADD COLUMN pinned_to TEXT;
