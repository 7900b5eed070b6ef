//! Problems with the NATS server, to be shown to operators; above all, requested configuration that
//! a server has silently ignored.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

/// All problems, one per subject. Clones share the same list.
#[derive(Clone, Debug, Default)]
pub struct NatsProblems(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl NatsProblems {
    /// All problems: subject and description.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, String)> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.iter().map(|(about, text)| (*about, text.clone())).collect()
    }

    pub(super) fn set(&self, about: &'static str, text: String) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.get(about) != Some(&text) {
            tracing::warn!(about, "{text}");
            found.insert(about, text);
        }
    }

    pub(super) fn clear(&self, about: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(about);
    }

    /// Compares the requested configuration with the one that the server reports: sets the problem,
    /// or clears it if they agree.
    pub(super) fn compare(
        &self,
        about: &'static str,
        asked: &impl Serialize,
        got: &impl Serialize,
    ) {
        let differences = differences(asked, got);
        if differences.is_empty() {
            self.clear(about);
        } else {
            self.set(
                about,
                format!(
                    "the server's configuration differs: \
                                     {}",
                    differences.join(", ")
                ),
            );
        }
    }
}

/// The differences between the requested and the reported configuration. Values that were not
/// requested do not matter.
fn differences(asked: &impl Serialize, got: &impl Serialize) -> Vec<String> {
    let value = |what: Result<Value, serde_json::Error>| what.unwrap_or_default();
    let (asked, got) = (value(serde_json::to_value(asked)), value(serde_json::to_value(got)));
    let Value::Object(asked) = asked else {
        return Vec::new();
    };
    let nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    };
    let differs = |(name, asked): (String, Value)| {
        let got = &got[&name];
        let differs = !nothing(&asked) && asked != *got;
        differs.then(|| format!("{name} is {got} instead of {asked}"))
    };
    asked.into_iter().filter_map(differs).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ignored_server_configuration_is_a_finding_until_applied() {
        let asked = json!({"a": 1, "b": "x", "c": null, "d": 0, "e": ["y"], "f": true});
        let right = json!({"a": 1, "b": "x", "c": 5, "d": 7, "e": ["y"], "f": true, "g": 1});
        assert!(differences(&asked, &right).is_empty());
        let wrong = json!({"a": 2, "b": "x", "e": ["y"]});
        assert_eq!(differences(&asked, &wrong).len(), 2);
        let problems = NatsProblems::default();
        problems.compare("s", &asked, &wrong);
        let found = problems.all();
        assert!(found[0].1.contains("a is 2 instead of 1"), "{found:?}");
        problems.compare("s", &asked, &right);
        assert!(problems.all().is_empty());
    }
}
