//! What the API's document says of signing in.

use utoipa::openapi::schema::OneOfBuilder;

use crate::http::docs::schemas::{closed, letters, null, schemas, string};

schemas! {
    /// What signs in: the token of a one-time link, or an API key.
    SignIn sign_in;
}

fn sign_in(about: &str) -> OneOfBuilder {
    let secret = || string().min_length(Some(1)).max_length(Some(200)).pattern(Some(letters(1)));
    let one = |name: &str, other: &str| {
        closed().property(name, secret()).property(other, null()).required(name)
    };
    OneOfBuilder::new().description(Some(about)).item(one("link", "key")).item(one("key", "link"))
}
