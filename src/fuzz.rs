//! The guarantees of every decoder that reads external bytes: one function per target, which panics
//! where a guarantee is broken.
//!
//! Three callers share them: libFuzzer (`fuzz/`), a test over the stored inputs (`fuzz/corpus/`),
//! and a test over random mutations of those. Built for tests and for libFuzzer only; nothing of it
//! is released. Decoders that only one floor uses are tested in that floor's own `fuzz`.

mod files;
mod stored;
mod values;
mod webhook;

#[cfg(test)]
mod tests;

use crate::http;

/// A decoder, or a few related ones.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Target {
    /// JSON bodies: the first byte selects one of all request shapes.
    Body,
    /// `config.toml`, and one setting from an environment variable.
    Config,
    /// Stored events of every noun, of any version, and snapshots.
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
    /// Query strings: filters, pages and cursors.
    Query,
    /// Order tokens, and live tokens.
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

/// The first byte, which selects a variant, and the rest.
fn split(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}
