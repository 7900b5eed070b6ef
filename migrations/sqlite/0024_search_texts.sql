-- The texts by which orders are found have other words first: they are made again.

DELETE FROM order_search;
DELETE FROM projection WHERE name = 'orders';
DELETE FROM dead_letter WHERE projection = 'orders';
