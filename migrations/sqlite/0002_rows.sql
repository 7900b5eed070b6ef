-- Rows that are not folds of events: the catalogue, credentials, settings, parked webhooks.

CREATE TABLE product (
    sku         TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,
    description TEXT    NOT NULL,
    category    TEXT,
    prices      TEXT    NOT NULL, -- JSON: currency -> ten-thousandths of a minor unit
    tax_rate    INTEGER NOT NULL, -- millionths
    active      INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX product_by_category ON product (category, sku) WHERE category IS NOT NULL;

CREATE TABLE api_key (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    hash       BLOB    NOT NULL, -- SHA-256 of the secret, which itself is kept nowhere
    scopes     TEXT    NOT NULL, -- separated by spaces
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE secret (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE setting (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE parked_webhook (
    id          INTEGER PRIMARY KEY,
    provider    TEXT    NOT NULL,
    notice_id   TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    body        TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    attempts    INTEGER NOT NULL,
    next_try_at INTEGER NOT NULL,
    UNIQUE (provider, notice_id)
) STRICT;

CREATE INDEX parked_webhook_by_due ON parked_webhook (next_try_at);
