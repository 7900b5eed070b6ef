-- Delivery zones; the journal's events contain the same data.

CREATE TABLE delivery_zone (
    code       TEXT    NOT NULL COLLATE "C" PRIMARY KEY,
    name       TEXT    NOT NULL COLLATE "C",
    countries  TEXT    NOT NULL COLLATE "C", -- JSON: codes
    fee        BIGINT  NOT NULL, -- minor units
    active     BOOLEAN NOT NULL,
    version    BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL
);
