-- The projection of gift cards, for lists.

CREATE TABLE gift_card_row (
    number     TEXT   NOT NULL COLLATE "C" PRIMARY KEY,
    currency   TEXT   NOT NULL COLLATE "C",
    balance    BIGINT NOT NULL, -- minor units
    orders     BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version    BIGINT NOT NULL
);
