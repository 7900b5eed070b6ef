-- Personal values are sealed, each with a key for one command of a cart. Whoever destroys the key
-- has forgotten the values everywhere, in backups, too. Rows of orders hold what is sealed, and keyed
-- hashes by which they are found: the rows of all orders are made again.

CREATE TABLE personal_key (
    id      TEXT NOT NULL PRIMARY KEY, -- sorts by the time at which the key was made
    entity  TEXT NOT NULL,             -- whose values it seals
    subject TEXT,                      -- the keyed hash of an email address
    wrapped TEXT NOT NULL              -- the key, sealed with the master key
) STRICT, WITHOUT ROWID;

CREATE INDEX personal_key_by_entity ON personal_key (entity);
CREATE INDEX personal_key_by_subject ON personal_key (subject) WHERE subject IS NOT NULL;

-- Who was erased, and whether it is done: an order may have to keep its data for a while.
CREATE TABLE erasure (
    subject   TEXT    NOT NULL, -- the keyed hash of the email address
    erased_at INTEGER NOT NULL,
    by        TEXT    NOT NULL,
    done      INTEGER NOT NULL DEFAULT 0, -- whether every order was told
    PRIMARY KEY (subject, erased_at)
) STRICT, WITHOUT ROWID;

DROP INDEX order_by_email;
DROP INDEX order_by_reference;
ALTER TABLE order_row RENAME COLUMN email_folded TO email_hash;
ALTER TABLE order_row ADD COLUMN reference_hash TEXT;
CREATE INDEX order_by_email ON order_row (email_hash, placed_at, id);
CREATE INDEX order_by_reference ON order_row (reference_hash, placed_at, id)
    WHERE reference_hash IS NOT NULL;

DROP TABLE order_search_index;
CREATE VIRTUAL TABLE order_search_index USING fts5(
    text, content = '', contentless_delete = 1, detail = 'none', tokenize = 'ascii'
);

DELETE FROM order_row;
DELETE FROM order_search;
DELETE FROM order_search_todo;
DELETE FROM projection WHERE name = 'orders';
DELETE FROM dead_letter WHERE projection = 'orders';
