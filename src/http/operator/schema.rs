//! The OpenAPI schemas of single values of an operator's routes, and of a sign-in.

use strum::VariantArray as _;
use utoipa::PartialSchema as _;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder};

use crate::actors::engine::runtime;
use crate::domain::background_job;
use crate::http::docs::schemas::{closed, null, one_kind_of, one_of, schemas};
use crate::http::edge::checked::pattern;
use crate::http::edge::input::{Text, string};
use crate::http::edge::principal::{ADMIN, Scope};

/// The token of a one-time link, or an API key, as text.
pub type SignInSecret = Text<1, 200>;

schemas! {
    /// The token of a one-time link, or an API key.
    SignIn sign_in;
    /// The state of a job.
    JobState one_of::<background_job::JobState>;
    /// The kind of a job.
    JobKind one_of::<background_job::JobKind>;
    /// The name of a kind of entities: `cart`, `order`, `stock`, `counter`.
    NounName |about| pattern(about, "^[a-z][a-z0-9_]*$", 64).examples(["order"]);
    /// The type of a setting.
    SettingKind one_kind_of::<runtime::SettingKind>;
    /// The name of a setting, for example `checkout`, `rates.browse` or `providers.sandbox`.
    SettingName |about| pattern(about, r"^[a-z][a-z_]*(\..+)?$", 200).examples(["rates.browse"]);
    /// A scope of an API key or a session; `admin` includes all others.
    ScopeName scope;
}

fn scope(about: &str) -> ObjectBuilder {
    let all = Scope::VARIANTS.iter().map(|scope| scope.as_str());
    string().description(Some(about)).enum_values(Some(all.chain([ADMIN])))
}

fn sign_in(about: &str) -> OneOfBuilder {
    let one = |name: &str, other: &str| {
        closed().property(name, SignInSecret::schema()).property(other, null()).required(name)
    };
    OneOfBuilder::new().description(Some(about)).item(one("link", "key")).item(one("key", "link"))
}
