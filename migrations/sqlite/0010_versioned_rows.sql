-- Rows with a version are written by statements that are made of the tables' declarations in the
-- program. SQLite has no function that would know their columns: there is nothing to change here, and
-- the number is taken because the migrations of both databases are twins.
SELECT 1;
