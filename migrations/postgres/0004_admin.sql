-- What the admin page needs: who is signed in, the links that sign in, and the stock that is held.

CREATE TABLE session (
    hash       BYTEA  NOT NULL PRIMARY KEY, -- SHA-256 of the cookie, which itself is kept nowhere
    id         TEXT   NOT NULL COLLATE "C" UNIQUE,
    name       TEXT   NOT NULL COLLATE "C",
    scopes     TEXT   NOT NULL COLLATE "C", -- separated by spaces
    api_key    TEXT   COLLATE "C",          -- the key that it came from: it ends with it
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE sign_in_link (
    hash       BYTEA  NOT NULL PRIMARY KEY, -- SHA-256 of the link's token
    name       TEXT   NOT NULL COLLATE "C",
    scopes     TEXT   NOT NULL COLLATE "C",
    expires_at BIGINT NOT NULL
);

CREATE INDEX stock_held ON stock_row (sku, location) WHERE reserved > 0;
