//! Hides the secrets in an address, such as `postgres://user:password@host/db?sslpassword=…`, also if it
//! is written wrongly: rather too much is hidden than too little.

/// Replaces a secret.
const MASK: &str = "***";

/// Parts of the names of parameters whose values are secret.
const SECRET_NAMES: [&str; 8] =
    ["pas", "pw", "secret", "token", "auth", "credential", "apikey", "master_key"];

/// The address without its passwords and tokens. Any other text is returned as it is, unless it has what
/// looks like one.
#[must_use]
pub fn masked_url(text: &str) -> String {
    hide_user(&hide_parameters(text))
}

/// A part of an address, percent-decoded.
#[must_use]
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Hides what stands before the last `@`, but the name of a user. A password may have any character
/// that should have been escaped, so that only the last `@` ends it.
fn hide_user(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = text.split_at(start);
    match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{scheme}{name}:{MASK}@{host}"),
            // PostgreSQL knows no tokens: this is the name of a user.
            None if scheme.starts_with("postgres") => text.to_owned(),
            None => format!("{scheme}{MASK}@{host}"),
        },
        None if scheme.is_empty() => text.to_owned(),
        None => match rest.split_once(':') {
            Some((name, port)) if !rest.starts_with('[') && !starts_with_port(port) => {
                format!("{scheme}{name}:{MASK}")
            }
            _ => text.to_owned(),
        },
    }
}

/// Whether a text begins with a number, and then the path if anything. Else it is no port, but a
/// password whose `@` is missing.
fn starts_with_port(text: &str) -> bool {
    let port = text.find(['/', '?', '#']).map_or(text, |end| &text[..end]);
    port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Hides the values of secret parameters, up to the next parameter.
fn hide_parameters(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let (before, value) = (&rest[..at], &rest[at + 1..]);
        shown.push_str(before);
        shown.push('=');
        rest = value;
        if is_secret(name_at_end(before)) && !value.is_empty() {
            shown.push_str(MASK);
            rest = &value[next_parameter(value)..];
        }
    }
    shown.push_str(rest);
    shown
}

/// The name of the parameter that a text ends with.
fn name_at_end(text: &str) -> &str {
    let text = text.trim_end();
    let part = |letter: char| !letter.is_ascii_alphanumeric() && !"_-.%".contains(letter);
    text.rfind(part).map_or(text, |at| text[at..].trim_start_matches(part))
}

fn is_secret(name: &str) -> bool {
    let name = percent_decoded(name).to_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// Where the next parameter begins, with its `&`; the end if there is none. A `&` without a name and `=`
/// behind it belongs to the value.
fn next_parameter(value: &str) -> usize {
    let begins = |(at, _): &(usize, &str)| {
        let name = value[at + 1..].split(['&', '=']).next().unwrap_or_default();
        let known = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        known && value[at + 1 + name.len()..].starts_with('=')
    };
    value.match_indices('&').find(begins).map_or(value.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (text, shown) in [
            ("", ""),
            ("info,kontor::actors=debug", "info,kontor::actors=debug"),
            ("redis:6379", "redis:6379"),
            ("https://psp.example:8443/v1?a=b#c", "https://psp.example:8443/v1?a=b#c"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:s3cret@127.0.0.1:6379", "redis://:***@127.0.0.1:6379"),
            ("postgres://db/shop", "postgres://db/shop"),
            ("postgres://anna@db/shop", "postgres://anna@db/shop"),
            ("postgres://anna:s3cret@db:5432/shop", "postgres://anna:***@db:5432/shop"),
            ("postgres://anna:s3/c@r:et@db/shop?x=y", "postgres://anna:***@db/shop?x=y"),
            ("postgres://anna:s3?c#ret@db/shop", "postgres://anna:***@db/shop"),
            ("nats://s3cret@b", "nats://***@b"),
            // Without the last part, or with a part written wrongly.
            ("postgres://anna:s3cret", "postgres://anna:***"),
            ("postgres://anna:s3cret%40db/shop", "postgres://anna:***"),
            ("postgres:/anna:s3cret@db/shop", "postgres:***@db/shop"),
            ("anna:s3cret@db/shop", "anna:***@db/shop"),
            ("redis//:s3cret@db", "redis//:***@db"),
            ("s3cret@b:4222", "***@b:4222"),
            (
                "postgres://db/shop?user=anna&password=s3cret&sslmode=require",
                "postgres://db/shop?user=anna&password=***&sslmode=require",
            ),
            ("postgres://db/a?sslpassword=s3c&ret", "postgres://db/a?sslpassword=***"),
            ("https://h:1/?x=1&pass%77ord=s3cret@1", "https://h:1/?x=1&pass%77ord=***"),
            ("host=db password=s3cret user=anna", "host=db password=***"),
            ("2 | master_key = \"s3cret", "2 | master_key =***"),
            ("2 | url = \"redis://:s3cret@db", "2 | url = \"redis://:***@db"),
            ("https://h/#access_token=s3cret", "https://h/#access_token=***"),
        ] {
            assert_eq!(masked_url(text), shown);
        }
    }

    #[test]
    fn what_is_no_escape_is_left() {
        assert_eq!(percent_decoded("a%40b%zz%"), "a@b%zz%");
    }

    proptest! {
        #[test]
        fn no_part_of_a_password_is_shown_however_the_address_is_written(
            scheme in prop::sample::select(vec!["postgres", "postgresql", "redis", "rediss", "nats",
                "tls", "https", "postgre", "", "HTTP"]),
            colon in prop::sample::select(vec!["://", ":/", "//", ":", "", ":///", ":://", "; //"]),
            user in "[a-z]{0,5}",
            // What is not shown is written in capitals, with anything between.
            password in "[XYZ]{1,3}([ -@\\[-`{-~äß\n][XYZ]{1,3}){0,4}",
            host in prop::sample::select(vec!["db", "db:5432", "127.0.0.1", "[::1]:6379", ""]),
            tail in prop::sample::select(vec!["", "/", "/shop", "/shop?x=y", "?x", "#a"]),
        ) {
            let hidden = |shown: &str| !shown.contains(['X', 'Y', 'Z']);
            let before = format!("{scheme}{colon}{user}:{password}@{host}{tail}");
            prop_assert!(hidden(&masked_url(&before)), "{before} is shown as {}", masked_url(&before));
        }

        #[test]
        fn no_part_of_a_password_among_the_parameters_is_shown(
            address in prop::sample::select(vec!["postgres://db/shop?", "postgres://u@db:5432/?a=b&",
                "redis://h?", "https://h/p#", "h?", "host=h ", "nats://t@b?x=1;"]),
            name in prop::sample::select(vec!["password", "sslpassword", "PASSWORD", "pass", "db_pwd",
                "p%61ssword", "access_token", "client_secret", "auth"]),
            // `&a=` begins the next parameter, whatever was meant.
            password in "[XYZ]{1,3}([ -<>-@\\[-`{-~äß\n][XYZ]{1,3}){0,4}",
            tail in prop::sample::select(vec!["", "&x=y", "&sslmode=require&z=1"]),
        ) {
            let text = format!("{address}{name}={password}{tail}");
            let shown = masked_url(&text);
            prop_assert!(!shown.contains(['X', 'Y', 'Z']), "{text} is shown as {shown}");
            prop_assert!(shown.ends_with(tail), "{text} is shown as {shown}");
        }
    }
}
