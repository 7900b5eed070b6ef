-- A bit that flips on the disk is seen, whether or not the server's own data checksums are on.
-- CRC-32, of all columns of an event but its position, and of the data of a snapshot.

ALTER TABLE event ADD COLUMN sum BIGINT;
ALTER TABLE snapshot ADD COLUMN sum BIGINT;
