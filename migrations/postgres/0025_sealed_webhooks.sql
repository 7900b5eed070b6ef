-- The bodies of parked webhooks are stored sealed. What the parked ones say, the comparison with the provider
-- finds, too.

DELETE FROM parked_webhook;
