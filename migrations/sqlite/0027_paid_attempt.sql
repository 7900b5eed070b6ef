-- The rows of orders say which attempt paid, so that a provider's list is compared with them: they are
-- made again.

ALTER TABLE order_row ADD COLUMN paid_attempt INTEGER;
ALTER TABLE order_row ADD COLUMN paid_with TEXT;

DELETE FROM projection WHERE name = 'orders';
DELETE FROM dead_letter WHERE projection = 'orders';
