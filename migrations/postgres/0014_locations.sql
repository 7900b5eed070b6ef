-- Locations that have stock; the journal's events contain the same data.

CREATE TABLE location (
    id         TEXT    NOT NULL COLLATE "C" PRIMARY KEY,
    name       TEXT    NOT NULL COLLATE "C",
    address    TEXT    COLLATE "C", -- JSON
    for_sale   BOOLEAN NOT NULL,
    deleted    BOOLEAN NOT NULL,
    version    BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL
);

-- Which locations have stock.
CREATE INDEX stock_location ON stock_row (location);
