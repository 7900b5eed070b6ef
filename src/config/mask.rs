//! Hides the passwords in addresses among the settings.

use crate::domain::masked_url::masked_url;

/// Hides the passwords in all addresses among the values.
pub(super) fn passwords(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = masked_url(text),
        serde_json::Value::Array(list) => list.iter_mut().for_each(passwords),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(passwords),
        _ => {}
    }
}

/// Hides the queries of addresses, whatever the names of their parameters: the key for a hook is often
/// there.
pub(super) fn queries(values: &mut serde_json::Value, paths: &[&str]) {
    for path in paths {
        if let Some(serde_json::Value::String(text)) = values.pointer_mut(path)
            && let Some(at) = text.find('?')
        {
            text.replace_range(at + 1.., "***");
        }
    }
}

/// What a reader of settings says, which may show the text that it could not read.
pub(super) fn message(text: &impl std::fmt::Display) -> String {
    text.to_string().lines().map(masked_url).collect::<Vec<_>>().join("\n")
}
