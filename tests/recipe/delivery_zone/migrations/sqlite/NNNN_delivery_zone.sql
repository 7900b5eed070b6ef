-- Delivery zones; the journal's events contain the same data.

CREATE TABLE delivery_zone (
    code       TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    countries  TEXT    NOT NULL, -- JSON: codes
    fee        INTEGER NOT NULL, -- minor units
    active     INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
