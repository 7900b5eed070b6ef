//! Fuzz targets: the guarantees of every decoder that reads external bytes. Each target has a
//! function that panics if a guarantee is broken.
//!
//! The functions are called by libFuzzer (`fuzz/`), and by tests with the stored inputs
//! (`fuzz/corpus/`), with mutations of these, and with random bytes. They are built for tests and
//! for libFuzzer only, and are not in a released binary. Decoders that are private to `http` or to
//! `sandbox-psp` are called by the module `fuzz` there.

mod files;
mod stored;
mod values;
mod webhook;

#[cfg(test)]
mod tests;

use crate::http;

/// A fuzz target: a decoder, or a few related ones.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Target {
    /// JSON bodies: the first byte selects one of all request shapes.
    Body,
    /// `config.toml`, and one setting from an environment variable.
    Config,
    /// Stored events of every noun, in any version, and snapshots.
    Events,
    /// Headers: idempotency keys, `Prefer`, `If-Match`, cookies, `Authorization`.
    Headers,
    /// Identifiers, SKUs, locations, prices, rates and times, as in paths and fields.
    Ids,
    /// Files to import: CSV, JSON Lines, Online Retail, compressed or not; and rows as the server
    /// decodes them.
    Import,
    /// A client's messages on a live socket.
    Live,
    /// Requests to the sandbox payment provider.
    Psp,
    /// Query strings: filters, page sizes and page cursors.
    Query,
    /// Order tokens, and the tokens of live clients.
    Tokens,
    /// Webhooks: signature and body.
    Webhook,
}

/// Runs a target on bytes.
pub fn run(target: Target, bytes: &[u8]) {
    match target {
        Target::Body => http::fuzz::body(bytes),
        Target::Config => files::config(bytes),
        Target::Events => stored::events(bytes),
        Target::Headers => http::fuzz::headers(bytes),
        Target::Ids => values::ids(bytes),
        Target::Import => {
            files::import(bytes);
            http::fuzz::import(bytes);
        }
        Target::Live => http::fuzz::live(bytes),
        Target::Psp => kontor_sandbox_psp::fuzz::requests(bytes),
        Target::Query => http::fuzz::query(bytes),
        Target::Tokens => http::fuzz::tokens(bytes),
        Target::Webhook => webhook::webhook(bytes),
    }
}

/// Splits off the first byte, which selects a variant of the target.
fn split(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}
