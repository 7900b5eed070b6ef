-- The newest signed end of each shard's chain: JSON with its own signature.
CREATE TABLE signed_head (
    shard BIGINT NOT NULL PRIMARY KEY REFERENCES shard (id),
    head  TEXT   NOT NULL COLLATE "C"
);
