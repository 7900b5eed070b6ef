-- Orders are found by any part of the words of a text, which the projection of orders makes of each:
-- the rows of all orders are made again. The index has all parts of three characters.

CREATE TABLE order_search (
    id      TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    text    TEXT   COLLATE "C" NOT NULL, -- case-folded words, with a newline before and after each
    version BIGINT NOT NULL -- of the order, when the text was last written
);

-- pg_trgm comes with PostgreSQL, and the owner of a database may create it. Where it is missing, a
-- search finds the same, but reads the texts of all orders; `kontor doctor` says so.
DO $$
DECLARE
    place TEXT;
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    SELECT nspname INTO STRICT place FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
    WHERE extname = 'pg_trgm';
    EXECUTE format('CREATE INDEX order_search_text ON order_search USING gin (text %I.gin_trgm_ops)', place);
EXCEPTION
    WHEN insufficient_privilege OR undefined_file OR feature_not_supported OR undefined_object THEN
        RAISE WARNING 'searches of orders have no index: %', SQLERRM;
END
$$;

DELETE FROM projection WHERE name = 'orders';
DELETE FROM dead_letter WHERE projection = 'orders';
