-- Orders and stock are projections of their own: they go on where the one of both, `rows`, stands. A
-- store in a folder has one process, so that its cursors mean nothing to anybody from here on; in
-- PostgreSQL, nodes of the release before go on by them.

INSERT INTO projection (name, shard, pos)
SELECT 'orders', shard, pos FROM projection WHERE name = 'rows';

INSERT INTO projection (name, shard, pos)
SELECT 'stock', shard, pos FROM projection WHERE name = 'rows';

UPDATE dead_letter
SET projection = CASE substr(entity, 1, 4) WHEN 'sku_' THEN 'stock' ELSE 'orders' END
WHERE projection = 'rows';
