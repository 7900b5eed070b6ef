-- Lists of what has changed since a time, in the order of the changes. Rows of orders change often, so
-- that this is one more index to write; those of products seldom do.

CREATE INDEX order_by_update ON order_row (updated_at, id);
CREATE INDEX product_by_update ON product (updated_at, sku);
