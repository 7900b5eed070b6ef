-- Orders are listed newest placed first. An id begins with the time of the order's cart, which may
-- be rounded down to the hour, so that it only breaks ties.

DROP INDEX order_by_status;
DROP INDEX order_by_email;
DROP INDEX order_by_reference;
DROP INDEX order_unfinished;

CREATE INDEX order_by_time ON order_row (placed_at, id);
CREATE INDEX order_by_status ON order_row (status, placed_at, id);
CREATE INDEX order_by_email ON order_row (email, placed_at, id);
CREATE INDEX order_by_reference ON order_row (reference, placed_at, id) WHERE reference IS NOT NULL;
CREATE INDEX order_unfinished ON order_row (placed_at, id) WHERE saga_step IS NOT NULL;
