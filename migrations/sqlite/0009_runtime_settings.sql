-- Settings that may change while nodes run: every change there was. The last one of each holds.

CREATE TABLE runtime_setting (
    name       TEXT    NOT NULL,
    version    INTEGER NOT NULL, -- dense from 1
    value      TEXT,             -- JSON; nothing for the default
    before     TEXT    NOT NULL, -- JSON
    changed_by TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER runtime_setting_is_never_deleted BEFORE DELETE ON runtime_setting
BEGIN
    SELECT RAISE(ABORT, 'changes of settings are never deleted');
END;

CREATE TRIGGER runtime_setting_is_never_changed BEFORE UPDATE ON runtime_setting
BEGIN
    SELECT RAISE(ABORT, 'changes of settings are never changed');
END;
