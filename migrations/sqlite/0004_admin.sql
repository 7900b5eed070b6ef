-- What the admin page needs: who is signed in, the links that sign in, and the stock that is held.

CREATE TABLE session (
    hash       BLOB    NOT NULL PRIMARY KEY, -- SHA-256 of the cookie, which itself is kept nowhere
    id         TEXT    NOT NULL UNIQUE,
    name       TEXT    NOT NULL,
    scopes     TEXT    NOT NULL, -- separated by spaces
    api_key    TEXT,             -- the key that it came from: it ends with it
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sign_in_link (
    hash       BLOB    NOT NULL PRIMARY KEY, -- SHA-256 of the link's token
    name       TEXT    NOT NULL,
    scopes     TEXT    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX stock_held ON stock_row (sku, location) WHERE reserved > 0;
