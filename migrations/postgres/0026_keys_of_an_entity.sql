-- All keys of an entity are found: a buyer who changes the email address of a cart has several.
DROP INDEX personal_key_without_subject;
CREATE INDEX personal_key_by_entity ON personal_key (entity);
