-- Orders are found by the email address of their buyer whatever its case. The column has what Unicode's
-- case folding makes of the address, which no database can do alike: the rows of all orders are made
-- again. Until then it has what lower() makes of it.

ALTER TABLE order_row ADD COLUMN email_folded TEXT NOT NULL DEFAULT '';
UPDATE order_row SET email_folded = lower(email);

DROP INDEX order_by_email;
CREATE INDEX order_by_email ON order_row (email_folded, placed_at, id);

DELETE FROM projection WHERE name = 'orders';
DELETE FROM dead_letter WHERE projection = 'orders';
