-- Gift cards as lists show them, made of their events.

CREATE TABLE gift_card_row (
    number     TEXT   NOT NULL COLLATE "C" PRIMARY KEY,
    currency   TEXT   NOT NULL COLLATE "C",
    balance    BIGINT NOT NULL, -- minor units
    orders     BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version    BIGINT NOT NULL
);
