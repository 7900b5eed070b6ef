-- Personal values are sealed, each with a key for one command of a cart. Whoever destroys the key
-- has forgotten the values everywhere, in backups, too. Rows of orders hold what is sealed, and keyed
-- hashes by which they are found: the rows of all orders are made again.

CREATE TABLE personal_key (
    id      TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- sorts by the time at which the key was made
    entity  TEXT COLLATE "C" NOT NULL,             -- whose values it seals
    subject TEXT COLLATE "C",                      -- the keyed hash of an email address
    wrapped TEXT COLLATE "C" NOT NULL              -- the key, sealed with the master key
);

CREATE INDEX personal_key_by_entity ON personal_key (entity);
CREATE INDEX personal_key_by_subject ON personal_key (subject) WHERE subject IS NOT NULL;

-- Who was erased, and whether it is done: an order may have to keep its data for a while.
CREATE TABLE erasure (
    subject   TEXT    COLLATE "C" NOT NULL, -- the keyed hash of the email address
    erased_at BIGINT  NOT NULL,
    by        TEXT    COLLATE "C" NOT NULL,
    done      BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY (subject, erased_at)
);

DROP INDEX order_by_email;
DROP INDEX order_by_reference;
ALTER TABLE order_row RENAME COLUMN email_folded TO email_hash;
ALTER TABLE order_row ADD COLUMN reference_hash TEXT COLLATE "C";
CREATE INDEX order_by_email ON order_row (email_hash, placed_at, id);
CREATE INDEX order_by_reference ON order_row (reference_hash, placed_at, id)
    WHERE reference_hash IS NOT NULL;

DROP INDEX IF EXISTS order_search_text;
CREATE INDEX order_search_codes ON order_search USING gin (string_to_array(text, ' '));

DELETE FROM order_row;
DELETE FROM order_search;
DELETE FROM projection WHERE name = 'orders';
DELETE FROM dead_letter WHERE projection = 'orders';
