-- Orders and stock are projections of their own: they go on where the one of both, `rows`, stands.
--
-- In a rolling update, nodes of the release before know `rows` only, and those of this one know it no
-- more. So that each goes on where the other has come, a cursor that one of them moves is moved for
-- the other by the triggers below. Once no node of the release before can come back, they can go,
-- and the cursors of `rows` with them.

-- What a node writes meanwhile would be known to one of them only.
LOCK TABLE projection, dead_letter IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO projection (name, shard, pos)
SELECT 'orders', shard, pos FROM projection WHERE name = 'rows';

INSERT INTO projection (name, shard, pos)
SELECT 'stock', shard, pos FROM projection WHERE name = 'rows';

-- Those of shards without events, too, so that they are moved on when there are some. A new store has
-- none, and they are not made there.
INSERT INTO projection (name, shard, pos)
SELECT 'rows', s.id, 0 FROM shard AS s WHERE EXISTS (SELECT FROM projection WHERE name = 'rows')
ON CONFLICT DO NOTHING;

UPDATE dead_letter
SET projection = CASE substr(entity, 1, 4) WHEN 'sku_' THEN 'stock' ELSE 'orders' END
WHERE projection = 'rows';

-- Where `rows` has moved, both stand where it does, even if one was further: its rows have just been
-- written over with earlier ones. Where they have moved, `rows` stands at the one that is less far.
CREATE FUNCTION projection_moved() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM moved WHERE name = 'rows') THEN
        INSERT INTO projection AS p (name, shard, pos)
        SELECT half.name, m.shard, m.pos
        FROM moved AS m CROSS JOIN (VALUES ('orders'), ('stock')) AS half (name)
        WHERE m.name = 'rows'
        ON CONFLICT (name, shard) DO UPDATE SET pos = excluded.pos WHERE p.pos <> excluded.pos;
    ELSE
        UPDATE projection AS p SET pos = l.pos
        FROM (SELECT shard, CASE count(*) WHEN 2 THEN min(pos) ELSE 0 END AS pos
              FROM projection
              WHERE name IN ('orders', 'stock')
                AND shard IN (SELECT shard FROM moved WHERE name IN ('orders', 'stock'))
              GROUP BY shard) AS l
        WHERE p.name = 'rows' AND p.shard = l.shard AND p.pos <> l.pos;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER projection_moved AFTER UPDATE ON projection
REFERENCING NEW TABLE AS moved
FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION projection_moved();

-- Rows that one of them lets be made again are made again by the other, too.
CREATE FUNCTION projection_reset() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM gone WHERE name = 'rows') THEN
        DELETE FROM projection AS p USING gone AS g
        WHERE g.name = 'rows' AND p.name IN ('orders', 'stock') AND p.shard = g.shard;
        DELETE FROM dead_letter AS d USING gone AS g
        WHERE g.name = 'rows' AND d.projection IN ('orders', 'stock') AND d.shard = g.shard;
        INSERT INTO projection (name, shard, pos) SELECT 'rows', shard, 0 FROM gone WHERE name = 'rows';
    ELSE
        UPDATE projection AS p SET pos = 0 FROM gone AS g
        WHERE g.name IN ('orders', 'stock') AND p.name = 'rows' AND p.shard = g.shard;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER projection_reset AFTER DELETE ON projection
REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION projection_reset();

-- What a node of the release before cannot read is a dead letter of the one whose event it is.
CREATE FUNCTION dead_letter_by_name() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    NEW.projection := CASE substr(NEW.entity, 1, 4) WHEN 'sku_' THEN 'stock' ELSE 'orders' END;
    RETURN NEW;
END $$;

CREATE TRIGGER dead_letter_by_name BEFORE INSERT ON dead_letter
FOR EACH ROW WHEN (NEW.projection = 'rows') EXECUTE FUNCTION dead_letter_by_name();
