-- Locations that have stock; the journal's events contain the same data.

CREATE TABLE location (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    address    TEXT,             -- JSON
    for_sale   INTEGER NOT NULL,
    deleted    INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- Which locations have stock.
CREATE INDEX stock_location ON stock_row (location);
