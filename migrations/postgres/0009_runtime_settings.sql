-- Settings that may change while nodes run: every change there was. The last one of each holds.

CREATE TABLE runtime_setting (
    name       TEXT   NOT NULL COLLATE "C",
    version    BIGINT NOT NULL,             -- dense from 1
    value      TEXT   COLLATE "C",          -- JSON; nothing for the default
    before     TEXT   NOT NULL COLLATE "C", -- JSON
    changed_by TEXT   NOT NULL COLLATE "C",
    reason     TEXT   NOT NULL COLLATE "C",
    request_id TEXT   NOT NULL COLLATE "C",
    at         BIGINT NOT NULL,
    PRIMARY KEY (name, version)
);

CREATE FUNCTION runtime_setting_is_history() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'changes of settings are never changed or deleted';
END $$;

CREATE TRIGGER runtime_setting_is_never_deleted BEFORE DELETE OR TRUNCATE ON runtime_setting
    FOR EACH STATEMENT EXECUTE FUNCTION runtime_setting_is_history();

CREATE TRIGGER runtime_setting_is_never_changed BEFORE UPDATE ON runtime_setting
    FOR EACH STATEMENT EXECUTE FUNCTION runtime_setting_is_history();
