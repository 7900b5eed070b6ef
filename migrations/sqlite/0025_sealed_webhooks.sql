-- The journal looks for gaps itself: for a trigger, SQLite would write all events of a statement into a
-- temporary table first.

DROP TRIGGER IF EXISTS event_has_no_gap;

-- The bodies of parked webhooks are stored sealed. What the parked ones say, the comparison with the provider
-- finds, too.

DELETE FROM parked_webhook;
