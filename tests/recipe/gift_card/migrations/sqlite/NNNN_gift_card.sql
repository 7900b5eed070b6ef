-- The projection of gift cards, for lists.

CREATE TABLE gift_card_row (
    number     TEXT    NOT NULL PRIMARY KEY,
    currency   TEXT    NOT NULL,
    balance    INTEGER NOT NULL, -- minor units
    orders     INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version    INTEGER NOT NULL
) STRICT;
