-- The events of a shard are a chain: the digest of each (SHA-256) covers the digest before it and all
-- fields of the event. A shard's row has the digest of its last event, and 32 zero bytes while it has
-- none.
--
-- An event without a digest is refused, also here: a store whose events are older than this column
-- cannot be migrated, and stays as it is.

ALTER TABLE shard ADD COLUMN head BLOB NOT NULL
    DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000'
    CHECK (length(head) = 32);
ALTER TABLE event ADD COLUMN digest BLOB NOT NULL DEFAULT x''
    CONSTRAINT every_event_has_a_digest CHECK (length(digest) = 32);
