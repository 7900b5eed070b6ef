-- Orders are found by any part of the words of a text, which the projection of orders makes of each:
-- the rows of all orders are made again. The index has all parts of three characters. Filling it costs
-- more than all other rows of an order, so it is done later, beside the checkouts: until then, a row is
-- in the list of what is to be indexed, which searches read, too.

CREATE TABLE order_search (
    nth     INTEGER NOT NULL PRIMARY KEY, -- the row of the index
    id      TEXT    NOT NULL UNIQUE,
    text    TEXT    NOT NULL, -- case-folded words, with a newline before and after each
    version INTEGER NOT NULL  -- of the order, when the text was last written
) STRICT;

CREATE TABLE order_search_todo (
    nth INTEGER NOT NULL PRIMARY KEY
) STRICT;

CREATE VIRTUAL TABLE order_search_index USING fts5(
    text, content = '', contentless_delete = 1, detail = 'none', tokenize = 'trigram case_sensitive 1'
);

CREATE TRIGGER order_search_is_new AFTER INSERT ON order_search BEGIN
    INSERT INTO order_search_todo (nth) VALUES (new.nth);
END;

CREATE TRIGGER order_search_has_changed AFTER UPDATE OF text ON order_search BEGIN
    INSERT INTO order_search_todo (nth) VALUES (new.nth) ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER order_search_is_gone AFTER DELETE ON order_search BEGIN
    DELETE FROM order_search_todo WHERE nth = old.nth;
    DELETE FROM order_search_index WHERE rowid = old.nth;
END;

DELETE FROM projection WHERE name = 'orders';
DELETE FROM dead_letter WHERE projection = 'orders';
