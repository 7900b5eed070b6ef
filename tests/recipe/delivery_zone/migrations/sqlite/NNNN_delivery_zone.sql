-- Delivery zones, which the journal's events say as well.

CREATE TABLE delivery_zone (
    code       TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    countries  TEXT    NOT NULL, -- JSON: codes
    fee        INTEGER NOT NULL, -- minor units
    active     INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
