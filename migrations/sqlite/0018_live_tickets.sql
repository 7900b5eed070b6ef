-- Tickets for live sockets: each opens one socket, on any node.

CREATE TABLE live_ticket (
    hash       BLOB    NOT NULL PRIMARY KEY, -- SHA-256 of the ticket, which itself is kept nowhere
    owner      TEXT    NOT NULL, -- the API key or session that the ticket counts for
    api_key    TEXT,             -- the API key that it was issued to, or
    session    TEXT,             -- the session
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX live_ticket_of_owner ON live_ticket (owner);
