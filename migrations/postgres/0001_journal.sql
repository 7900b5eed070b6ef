-- The journal. A store has as many shards as it was made with; each has its positions, handed out
-- under its row's lock, so that order of position is order of commit.
--
-- Texts are compared by their bytes, as SQLite does: COLLATE "C".

CREATE TABLE shard (
    id          BIGINT NOT NULL PRIMARY KEY,
    owner       TEXT   NOT NULL COLLATE "C",
    epoch       BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    last_pos    BIGINT NOT NULL
) WITH (fillfactor = 10); -- rows that change with every batch: room for many versions on a page

-- By this a database is known to be a store.
COMMENT ON TABLE shard IS 'kontor 1802464884';

CREATE TABLE event (
    pos     BIGINT  NOT NULL,
    seq     BIGINT  NOT NULL,
    at      BIGINT  NOT NULL,
    shard   INTEGER NOT NULL,
    version INTEGER NOT NULL,
    entity  TEXT    NOT NULL COLLATE "C",
    kind    TEXT    NOT NULL COLLATE "C",
    cause   TEXT    NOT NULL COLLATE "C",
    data    TEXT    NOT NULL COLLATE "C",
    CONSTRAINT event_by_position PRIMARY KEY (shard, pos),
    CONSTRAINT event_by_entity UNIQUE (entity, seq)
);

-- An event is a fact; deleting one would also open the fence again. That none is skipped is seen to
-- by journal_append, for all rows of a batch at once.
CREATE FUNCTION event_is_a_fact() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never changed or deleted';
END $$;

CREATE TRIGGER event_is_never_deleted BEFORE DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION event_is_a_fact();

CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION event_is_a_fact();

CREATE TABLE timer (
    entity TEXT    NOT NULL COLLATE "C" PRIMARY KEY,
    shard  INTEGER NOT NULL,
    due_at BIGINT  NOT NULL
);

CREATE INDEX timer_by_due ON timer (shard, due_at, entity);

CREATE TABLE snapshot (
    entity        TEXT   NOT NULL COLLATE "C" PRIMARY KEY,
    seq           BIGINT NOT NULL,
    state_version BIGINT NOT NULL,
    data          TEXT   NOT NULL COLLATE "C"
);
