//! What a value must be, in the words of the API: serde's messages without the names of Rust types.
//!
//! What a well-typed value must be is said by its type, in `input` and `checked`.

/// The most characters of a faulty value that are repeated.
const FOUND_MAX: usize = 60;

/// A message of serde as a rule about a field: "must be …", "is required".
#[must_use]
pub fn rule(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or(message);
    if message.starts_with("unknown field `") {
        return match message.split_once(", expected ") {
            Some((_, known)) => format!("is not a field here: the fields are {}", list(known)),
            None => "is not a field here".to_owned(),
        };
    }
    if message.starts_with("missing field `") {
        return "is required".to_owned();
    }
    if message.starts_with("duplicate field `") {
        return "must occur only once".to_owned();
    }
    match message.split_once(", expected ") {
        Some((said, expected)) => {
            let kinds = ["invalid type: ", "invalid value: ", "unknown variant "];
            let found = kinds.iter().find_map(|kind| said.strip_prefix(kind));
            match found.map(found_in_words) {
                Some(found) => format!("{}, not {found}", must_be(expected, &found)),
                None => must_be(expected, ""),
            }
        }
        None => message.to_owned(),
    }
}

/// What serde expected, as a rule; `found` is the value that there was.
#[must_use]
pub fn must_be(expected: &str, found: &str) -> String {
    let whole = match found.contains('.') {
        true => "must be a whole number, without a decimal point",
        false => "must be a whole number",
    };
    match expected {
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" if found.starts_with('-') => {
            "must be a whole number from 0".to_owned()
        }
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "i8" | "i16" | "i32" | "i64" | "i128"
        | "isize" => whole.to_owned(),
        "f32" | "f64" | "a JSON number" => "must be a number".to_owned(),
        "a borrowed string" => "must be a string".to_owned(),
        "a boolean" => "must be true or false".to_owned(),
        "a sequence" => "must be a list".to_owned(),
        "a map" => "must be an object".to_owned(),
        rule if rule.starts_with("must ") => rule.to_owned(),
        kind if kind.starts_with("struct ") => "must be an object".to_owned(),
        kind if kind.starts_with("enum ") => {
            "must be a string that is one of the choices".to_owned()
        }
        choices if choices.contains('`') && !choices.starts_with("one of ") => {
            format!("must be {}", choices.replace('`', ""))
        }
        choices if choices.contains('`') => format!("must be one of {}", list(choices)),
        other => format!("must be {other}"),
    }
}

/// Names that serde lists, without its quotes.
fn list(names: &str) -> String {
    names.trim_start_matches("one of ").replace('`', "").replace(" or ", ", ")
}

/// A value as serde names it ("integer `5`"), as it was sent.
fn found_in_words(found: &str) -> String {
    let words = match found.split_once(' ') {
        Some(("string", text)) => text.to_owned(),
        Some(("integer" | "boolean", value)) => value.replace('`', ""),
        Some(("floating", value)) => value.replace("point ", "").replace('`', ""),
        _ => match found {
            "map" => "an object".to_owned(),
            "sequence" => "a list".to_owned(),
            "unit value" | "Option value" => "null".to_owned(),
            other => other.replace('`', ""),
        },
    };
    match words.char_indices().nth(FOUND_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_no_name_of_a_rust_type() {
        for (message, expected) in [
            (
                "unknown field `qty`, expected `sku` or `quantity`",
                "is not a field here: the fields are sku, quantity",
            ),
            (
                "unknown field `a`, expected one of `b`, `c`, `d` at line 1 column 2",
                "is not a field here: the fields are b, c, d",
            ),
            ("unknown field `a`, there are no fields", "is not a field here"),
            ("missing field `sku`", "is required"),
            ("duplicate field `email`", "must occur only once"),
            (
                "invalid type: floating point `2.0`, expected i64",
                "must be a whole number, without a decimal point, not 2.0",
            ),
            ("invalid value: integer `-5`, expected u64", "must be a whole number from 0, not -5"),
            ("invalid type: string \"x\", expected usize", "must be a whole number, not \"x\""),
            ("invalid type: null, expected a boolean", "must be true or false, not null"),
            ("invalid type: map, expected a sequence", "must be a list, not an object"),
            ("invalid type: sequence, expected struct Address", "must be an object, not a list"),
            ("unknown variant `b`, expected one of `c`, `d`", "must be one of c, d, not b"),
            ("unknown variant `b`, expected `c` or `d`", "must be c or d, not b"),
            ("must be true, or false", "must be true, or false"),
        ] {
            assert_eq!(rule(message), expected);
        }
        let long = format!("invalid type: string \"{}\", expected i64", "ä".repeat(100));
        assert!(rule(&long).chars().count() < 100);
    }
}
