-- Tickets for live sockets: each opens one socket, on any node.

CREATE TABLE live_ticket (
    hash       BYTEA  NOT NULL PRIMARY KEY, -- SHA-256 of the ticket, which itself is kept nowhere
    owner      TEXT   NOT NULL COLLATE "C", -- the API key or session that the ticket counts for
    api_key    TEXT   COLLATE "C",          -- the API key that it was issued to, or
    session    TEXT   COLLATE "C",          -- the session
    expires_at BIGINT NOT NULL
);

CREATE INDEX live_ticket_of_owner ON live_ticket (owner);
