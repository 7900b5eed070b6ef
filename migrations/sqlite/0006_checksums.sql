-- A bit that flips on the disk is seen: SQLite has no checksums of its own outside of its log.
-- CRC-32, of all columns of an event and of the data of a snapshot; NULL in rows that are older
-- than this column.

ALTER TABLE event ADD COLUMN sum INTEGER;
ALTER TABLE snapshot ADD COLUMN sum INTEGER;
