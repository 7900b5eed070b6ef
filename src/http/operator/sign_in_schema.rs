//! The OpenAPI schema of a sign-in.

use utoipa::openapi::schema::OneOfBuilder;

use utoipa::PartialSchema as _;

use crate::http::docs::schemas::{closed, null, schemas};
use crate::http::edge::input::Text;

/// The token of a one-time link, or an API key, as text.
pub type SignInSecret = Text<1, 200>;

schemas! {
    /// The token of a one-time link, or an API key.
    SignIn sign_in;
}

fn sign_in(about: &str) -> OneOfBuilder {
    let one = |name: &str, other: &str| {
        closed().property(name, SignInSecret::schema()).property(other, null()).required(name)
    };
    OneOfBuilder::new().description(Some(about)).item(one("link", "key")).item(one("key", "link"))
}
