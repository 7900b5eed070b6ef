-- Delivery zones, which the journal's events say as well.

CREATE TABLE delivery_zone (
    code       TEXT    NOT NULL COLLATE "C" PRIMARY KEY,
    name       TEXT    NOT NULL COLLATE "C",
    countries  TEXT    NOT NULL COLLATE "C", -- JSON: codes
    fee        BIGINT  NOT NULL, -- minor units
    active     BOOLEAN NOT NULL,
    version    BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL
);
