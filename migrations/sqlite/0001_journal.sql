-- The journal. A SQLite store has one shard, so an event's position is its rowid: rows are only
-- ever appended at the end of one tree, beside the one index that the fence needs.

PRAGMA application_id = 1802464884; -- "kont"

CREATE TABLE shard (
    id          INTEGER PRIMARY KEY,
    owner       TEXT    NOT NULL,
    epoch       INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    last_pos    INTEGER NOT NULL
) STRICT;

INSERT INTO shard (id, owner, epoch, lease_until, last_pos) VALUES (0, '', 0, 0, 0);

CREATE TABLE event (
    pos     INTEGER PRIMARY KEY,
    shard   INTEGER NOT NULL,
    entity  TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    cause   TEXT    NOT NULL,
    data    TEXT    NOT NULL,
    UNIQUE (entity, seq)
) STRICT;

-- The unique index refuses what is already there; this refuses what skips an event, as the later
-- half of a pipeline does whose earlier half was not written.
CREATE TRIGGER event_has_no_gap BEFORE INSERT ON event
WHEN NEW.seq <> 1
BEGIN
    SELECT RAISE(ABORT, 'gap in the events of an entity')
    WHERE NOT EXISTS (SELECT 1 FROM event WHERE entity = NEW.entity AND seq = NEW.seq - 1);
END;

-- An event is a fact; deleting one would also open the fence again.
CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
BEGIN
    SELECT RAISE(ABORT, 'events are never deleted');
END;

CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
BEGIN
    SELECT RAISE(ABORT, 'events are never changed');
END;

CREATE TABLE timer (
    entity TEXT    NOT NULL PRIMARY KEY,
    shard  INTEGER NOT NULL,
    due_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX timer_by_due ON timer (due_at);

CREATE TABLE snapshot (
    entity        TEXT    NOT NULL PRIMARY KEY,
    seq           INTEGER NOT NULL,
    state_version INTEGER NOT NULL,
    data          TEXT    NOT NULL
) STRICT;
