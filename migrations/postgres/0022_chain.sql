-- The events of a shard are a chain: the digest of each (SHA-256) covers the digest before it and all
-- fields of the event. A shard's row has the digest of its last event, and 32 zero bytes while it has
-- none. Its owner computes the digests, so it names the position that they continue.
--
-- An event without a digest is refused, also here: a store whose events are older than this column
-- cannot be migrated, and stays as it is.

ALTER TABLE shard ADD COLUMN head BYTEA NOT NULL
    DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000'
    CHECK (length(head) = 32);
ALTER TABLE event ADD COLUMN digest BYTEA NOT NULL DEFAULT ''
    CONSTRAINT every_event_has_a_digest CHECK (length(digest) = 32);

DROP FUNCTION journal_append(
    INTEGER[], BIGINT[], BIGINT[], TEXT[], BIGINT[], TEXT[], BIGINT[], INTEGER[], BIGINT[], TEXT[],
    BIGINT[], TEXT[], INTEGER[], BIGINT[], TEXT[], TEXT[], BIGINT[], TEXT[], INTEGER[], BIGINT[],
    TEXT[], TEXT[], TEXT[]
);

-- Appends a batch, whole or not at all.
--
-- KT001: a fence is stale; the detail is its shard. KT002: an entity or a row has moved on. KT003: a
-- shard does not end where the batch begins.
CREATE FUNCTION journal_append(
    fence_shard INTEGER[], fence_epoch BIGINT[],
    fence_pos BIGINT[], fence_end BIGINT[], fence_head BYTEA[], -- the shard before and after it
    there_entity TEXT[], there_seq BIGINT[], -- events that the batch continues
    free_entity TEXT[], free_seq BIGINT[],   -- events that must not be there yet
    event_shard INTEGER[], event_pos BIGINT[], event_entity TEXT[], event_seq BIGINT[],
    event_kind TEXT[], event_version INTEGER[], event_at BIGINT[], event_cause TEXT[],
    event_data TEXT[], event_sum BIGINT[], event_digest BYTEA[],
    set_entity TEXT[], set_shard INTEGER[], set_due_at BIGINT[],
    clear_entity TEXT[],
    row_statement TEXT[], row_data TEXT[]    -- each writes one row or none; its variable is JSON
) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    locked  BIGINT;
    moved   BIGINT;
    stale   INTEGER;
    change  RECORD;
    written BIGINT;
BEGIN
    SELECT count(*), min(l.id) FILTER (WHERE l.epoch <> l.wanted),
           min(l.id) FILTER (WHERE l.last_pos <> l.pos)
    INTO locked, stale, moved
    FROM (SELECT s.id, s.epoch, s.last_pos, f.wanted, f.pos
          FROM unnest(fence_shard, fence_epoch, fence_pos) AS f (id, wanted, pos)
          JOIN shard AS s ON s.id = f.id
          ORDER BY s.id FOR UPDATE OF s) AS l;
    IF stale IS NOT NULL THEN
        RAISE EXCEPTION 'a stale fence' USING ERRCODE = 'KT001', DETAIL = stale::TEXT;
    END IF;
    IF locked <> cardinality(fence_shard) THEN
        SELECT f.id INTO stale FROM unnest(fence_shard) AS f (id)
        WHERE NOT EXISTS (SELECT FROM shard AS s WHERE s.id = f.id) LIMIT 1;
        RAISE EXCEPTION 'no such shard' USING ERRCODE = 'KT001', DETAIL = stale::TEXT;
    END IF;
    IF moved IS NOT NULL THEN
        RAISE EXCEPTION 'shard % has moved on', moved USING ERRCODE = 'KT003';
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
        INSERT INTO event (shard, pos, entity, seq, kind, version, at, cause, data, sum, digest)
        SELECT * FROM unnest(event_shard, event_pos, event_entity, event_seq, event_kind,
                             event_version, event_at, event_cause, event_data, event_sum,
                             event_digest);
        UPDATE shard AS s SET last_pos = f.last, head = f.head
        FROM unnest(fence_shard, fence_pos, fence_end, fence_head) AS f (id, pos, last, head)
        WHERE s.id = f.id AND f.last > f.pos;
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
END $$;
