-- Rows with a version are written by statements that come with the batch, so that what appends knows
-- no table's columns. The texts are made of the tables' declarations in the program, and never of what
-- somebody sent; they run with the rights of who sends them.
--
-- The function of 0007 stays, with one argument less: nodes of the release before call it while they
-- are replaced one after the other.

-- Appends a batch, whole or not at all, and answers where each shard ended before it, in the order
-- of the fences, which is that of the shards: two batches never wait for each other's locks.
--
-- KT001: a fence is stale; the detail is its shard. KT002: an entity or a row has moved on.
CREATE FUNCTION journal_append(
    fence_shard INTEGER[], fence_epoch BIGINT[], fence_count BIGINT[],
    there_entity TEXT[], there_seq BIGINT[], -- events that the batch continues
    free_entity TEXT[], free_seq BIGINT[],   -- events that must not be there yet
    event_fence INTEGER[], event_nth BIGINT[], event_entity TEXT[], event_seq BIGINT[],
    event_kind TEXT[], event_version INTEGER[], event_at BIGINT[], event_cause TEXT[],
    event_data TEXT[], event_sum BIGINT[],
    set_entity TEXT[], set_shard INTEGER[], set_due_at BIGINT[],
    clear_entity TEXT[],
    row_statement TEXT[], row_data TEXT[]    -- each writes one row or none; its variable is JSON
) RETURNS BIGINT[] LANGUAGE plpgsql AS $$
DECLARE
    ends    BIGINT[];
    stale   INTEGER;
    change  RECORD;
    written BIGINT;
BEGIN
    SELECT array_agg(l.last_pos ORDER BY l.nth),
           min(l.id) FILTER (WHERE l.epoch <> l.wanted)
    INTO ends, stale
    FROM (SELECT s.id, s.epoch, s.last_pos, f.wanted, f.nth
          FROM unnest(fence_shard, fence_epoch) WITH ORDINALITY AS f (id, wanted, nth)
          JOIN shard AS s ON s.id = f.id
          ORDER BY s.id FOR UPDATE OF s) AS l;
    IF stale IS NOT NULL THEN
        RAISE EXCEPTION 'a stale fence' USING ERRCODE = 'KT001', DETAIL = stale::TEXT;
    END IF;
    IF cardinality(ends) IS DISTINCT FROM cardinality(fence_shard) THEN
        SELECT f.id INTO stale FROM unnest(fence_shard) AS f (id)
        WHERE NOT EXISTS (SELECT FROM shard AS s WHERE s.id = f.id) LIMIT 1;
        RAISE EXCEPTION 'no such shard' USING ERRCODE = 'KT001', DETAIL = stale::TEXT;
    END IF;

    -- Looked up one by one: joined, they could be planned as a walk through all events.
    PERFORM FROM unnest(there_entity, there_seq) AS t (entity, seq)
    WHERE (SELECT 1 FROM event AS e WHERE e.entity = t.entity AND e.seq = t.seq) IS NULL LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'a gap in the events of an entity' USING ERRCODE = 'KT002';
    END IF;
    IF cardinality(free_entity) > 0 THEN
        PERFORM FROM unnest(free_entity, free_seq) AS t (entity, seq)
        WHERE (SELECT 1 FROM event AS e WHERE e.entity = t.entity AND e.seq = t.seq) = 1 LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'an entity has moved on' USING ERRCODE = 'KT002';
        END IF;
    END IF;

    IF cardinality(event_entity) > 0 THEN
        INSERT INTO event (shard, pos, entity, seq, kind, version, at, cause, data, sum)
        SELECT fence_shard[e.fence], ends[e.fence] + e.nth, e.entity, e.seq, e.kind, e.version,
               e.at, e.cause, e.data, e.sum
        FROM unnest(event_fence, event_nth, event_entity, event_seq, event_kind, event_version,
                    event_at, event_cause, event_data, event_sum)
             AS e (fence, nth, entity, seq, kind, version, at, cause, data, sum);
        UPDATE shard AS s SET last_pos = s.last_pos + f.count
        FROM unnest(fence_shard, fence_count) AS f (id, count)
        WHERE s.id = f.id AND f.count > 0;
    END IF;
    IF cardinality(set_entity) > 0 THEN
        INSERT INTO timer (entity, shard, due_at)
        SELECT * FROM unnest(set_entity, set_shard, set_due_at)
        ON CONFLICT (entity) DO UPDATE SET due_at = excluded.due_at;
    END IF;
    IF cardinality(clear_entity) > 0 THEN
        DELETE FROM timer WHERE entity = ANY (clear_entity);
    END IF;

    IF cardinality(row_statement) > 0 THEN
        -- One after the other: a batch may change the same one twice.
        FOR change IN
            SELECT r.statement, r.data::JSONB AS data
            FROM unnest(row_statement, row_data) WITH ORDINALITY AS r (statement, data, nth)
            ORDER BY r.nth
        LOOP
            EXECUTE change.statement USING change.data;
            GET DIAGNOSTICS written = ROW_COUNT;
            IF written <> 1 THEN
                RAISE EXCEPTION 'a row has moved on' USING ERRCODE = 'KT002';
            END IF;
        END LOOP;
    END IF;
    RETURN ends;
END $$;
