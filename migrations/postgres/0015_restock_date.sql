-- When a product that is out of stock is expected to be sold again.
ALTER TABLE product ADD COLUMN restock_at BIGINT;
