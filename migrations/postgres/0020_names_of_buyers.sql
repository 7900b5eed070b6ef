-- Lists of orders have the names of their buyers, and orders are found by streets, cities, postal
-- codes, and whatever the accents of a word are: the rows of all orders are made again.

ALTER TABLE order_row ADD COLUMN buyer_name TEXT COLLATE "C" NOT NULL DEFAULT '';

DELETE FROM projection WHERE name = 'orders';
DELETE FROM dead_letter WHERE projection = 'orders';
