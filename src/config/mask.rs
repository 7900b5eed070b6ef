//! Hides the passwords in URLs among the settings.

/// Returns the text, with the password hidden if it is a URL with a password.
fn password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A password may contain an @ that should have been escaped: the last @ ends it.
    let Some(at) = rest[..end].rfind('@').or_else(|| rest.rfind('@')) else {
        return text.to_owned();
    };
    let user = rest[..at].split(':').next().unwrap_or("");
    format!("{scheme}://{user}:***{}", &rest[at..])
}

/// Hides the passwords in all URLs among the values.
pub(super) fn passwords(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = password(text),
        serde_json::Value::Array(list) => list.iter_mut().for_each(passwords),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(passwords),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        for (text, shown) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:geheim@127.0.0.1:6379", "redis://:***@127.0.0.1:6379"),
            ("postgres://k:geheim@h/db?x=y", "postgres://k:***@h/db?x=y"),
            ("postgres://k:ge/h@eim@h/db", "postgres://k:***@h/db"),
            ("info,kontor=debug", "info,kontor=debug"),
        ] {
            assert_eq!(password(text), shown, "{text}");
        }
    }
}
