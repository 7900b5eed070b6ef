//! What a database declares besides what its store does: a trigger would change what is written later,
//! and a restore refuses the backup of a folder with one.
//!
//! `schema_check` looks, `maintenance` refuses; the doctor and `kontor backup` name it before.

use std::fmt;

/// A table, an index, a trigger, a rule or a view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declared {
    /// What it is, such as `trigger`.
    pub kind: String,
    /// Its name; in PostgreSQL, that of a trigger or a rule has its table too.
    pub name: String,
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever made the database chose the names: they must not control a terminal.
        write!(f, "{} {}", self.kind, self.name.escape_debug())
    }
}

/// How what a database declares differs from a new store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaFaults {
    /// What a store does not have, or has with another text.
    pub foreign: Vec<Declared>,
    /// What it lacks.
    pub missing: Vec<Declared>,
}

impl SchemaFaults {
    /// Whether it is that of a store.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.foreign.is_empty() && self.missing.is_empty()
    }

    /// What to do about a database file with these faults.
    #[must_use]
    pub fn remedy(&self, file: &str) -> String {
        let mut steps = Vec::new();
        if !self.foreign.is_empty() {
            // A shell gets only names that mean nothing to it.
            let plain = |one: &&Declared| {
                let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                one.name.bytes().all(letter)
            };
            let drop = |one: &Declared| format!("DROP {} {}", one.kind.to_uppercase(), one.name);
            let all: Vec<String> = self.foreign.iter().filter(plain).map(drop).collect();
            let all = match all.len() {
                count if count == self.foreign.len() => all.join("; "),
                _ => "DROP each by its name, which .schema shows".to_owned(),
            };
            steps.push(format!("drop what is not of kontor: sqlite3 {file} '{all}'"));
        }
        if !self.missing.is_empty() {
            steps.push(format!(
                "make in {file} what it lacks, as a new store has it (sqlite3 NEW/kontor.db .schema)"
            ));
        }
        steps.join(", and ")
    }
}

impl fmt::Display for SchemaFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |all: &[Declared]| {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            all.join(", ")
        };
        if !self.foreign.is_empty() {
            write!(f, "it has what is not of kontor: {}", list(&self.foreign))?;
        }
        if !self.missing.is_empty() {
            let and = if self.foreign.is_empty() { "" } else { "; " };
            write!(f, "{and}it lacks: {}", list(&self.missing))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: &str, name: &str) -> Declared {
        Declared { kind: kind.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_name_that_a_shell_could_read_is_in_no_command() {
        let mut faults =
            SchemaFaults { foreign: vec![one("trigger", "odd")], ..Default::default() };
        assert!(faults.remedy("COPY").ends_with("sqlite3 COPY 'DROP TRIGGER odd'"));
        faults.foreign.push(one("view", "'; rm -rf ~; '"));
        assert!(!faults.remedy("COPY").contains("rm"), "{}", faults.remedy("COPY"));
        faults.missing.push(one("index", "event_by_entity"));
        assert!(faults.remedy("COPY").contains("make in COPY what it lacks"));
    }
}
