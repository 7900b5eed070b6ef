-- The rows of orders say which attempt paid, so that a provider's list is compared with them: they are
-- made again.

ALTER TABLE order_row ADD COLUMN paid_attempt BIGINT;
ALTER TABLE order_row ADD COLUMN paid_with TEXT COLLATE "C";

DELETE FROM projection WHERE name = 'orders';
DELETE FROM dead_letter WHERE projection = 'orders';
