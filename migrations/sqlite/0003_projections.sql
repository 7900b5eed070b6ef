-- Read models: each can be dropped and made again from the journal.

CREATE TABLE projection (
    name  TEXT    NOT NULL,
    shard INTEGER NOT NULL,
    pos   INTEGER NOT NULL,
    PRIMARY KEY (name, shard)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter (
    id         INTEGER PRIMARY KEY,
    projection TEXT    NOT NULL,
    shard      INTEGER NOT NULL,
    pos        INTEGER NOT NULL,
    entity     TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    UNIQUE (projection, shard, pos)
) STRICT;

-- Listed newest first by id: an order's id begins with the time of its cart.
CREATE TABLE order_row (
    id                 TEXT    NOT NULL PRIMARY KEY,
    number             INTEGER,
    status             TEXT    NOT NULL,
    payment_status     TEXT    NOT NULL,
    fulfillment_status TEXT    NOT NULL,
    email              TEXT    NOT NULL,
    country            TEXT,
    currency           TEXT    NOT NULL,
    total              INTEGER NOT NULL, -- minor units, as are the next two
    captured           INTEGER NOT NULL,
    refunded           INTEGER NOT NULL,
    line_count         INTEGER NOT NULL,
    item_count         INTEGER NOT NULL,
    reference          TEXT,
    saga_step          TEXT,
    stuck_reason       TEXT,
    alert              TEXT,
    placed_at          INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    version            INTEGER NOT NULL
) STRICT;

CREATE INDEX order_by_status ON order_row (status, id);
CREATE INDEX order_by_email ON order_row (email, id);
CREATE INDEX order_by_number ON order_row (number) WHERE number IS NOT NULL;
CREATE INDEX order_by_reference ON order_row (reference, id) WHERE reference IS NOT NULL;
CREATE INDEX order_unfinished ON order_row (id) WHERE saga_step IS NOT NULL;

CREATE TABLE stock_row (
    sku        TEXT    NOT NULL,
    location   TEXT    NOT NULL,
    on_hand    INTEGER NOT NULL,
    reserved   INTEGER NOT NULL,
    allocated  INTEGER NOT NULL,
    incoming   INTEGER NOT NULL,
    sold       INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    PRIMARY KEY (sku, location)
) STRICT, WITHOUT ROWID;
