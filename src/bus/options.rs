//! Options of communication between nodes. The address of each node is not one of them: it is in
//! the store.

use std::fmt;

use garde::Validate;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::domain::limits::within;
use crate::domain::masked_url::masked_url;
use crate::domain::tls_files::TlsFiles;

/// Options of communication between nodes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The addresses of NATS, `nats://user:password@host:4222`, several separated by commas; empty
    /// for none. It is a secret if it contains a password.
    #[garde(custom(addresses))]
    pub url: String,
    /// The files for TLS, which is used with addresses that begin with `tls://`, and wherever the server
    /// asks for it.
    #[garde(dive)]
    pub tls: TlsFiles,
    /// How long the start of a node waits for NATS, in milliseconds; after that it continues
    /// without NATS.
    #[garde(custom(within(0..=60_000)))]
    pub start_wait_ms: u64,
    /// The most calls of other nodes that are served at once; further calls are refused as
    /// overload.
    #[garde(custom(within(1..=1_000_000)))]
    pub calls_max: usize,
    /// How long events stay in the stream, in hours.
    #[garde(custom(within(1..=24 * 365)))]
    pub events_age_hours: u64,
    /// The largest size of the stream, in bytes.
    #[garde(custom(within(1 << 20..=1 << 44)))]
    pub events_bytes_max: u64,
    /// The number of replicas of the stream in a NATS cluster.
    #[garde(custom(within(1..=5)))]
    pub events_replicas: usize,
    /// The most events of a shard that are sent to the stream again after it has lost them.
    #[garde(custom(within(0..=1_000_000_000)))]
    pub events_behind_max: u64,
}

fn addresses(text: &str, (): &()) -> garde::Result {
    read_urls(text).map(drop).map_err(|error| {
        let wanted = "must be empty, or a URL such as nats://127.0.0.1:4222";
        garde::Error::new(format!("{wanted}: {error}"))
    })
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: String::new(),
            tls: TlsFiles::default(),
            start_wait_ms: 2_000,
            calls_max: 1_024,
            events_age_hours: 72,
            events_bytes_max: 1 << 30,
            events_replicas: 1,
            events_behind_max: 100_000,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &masked(&self.url))
            .field("tls", &self.tls)
            .field("start_wait_ms", &self.start_wait_ms)
            .field("calls_max", &self.calls_max)
            .field("events_age_hours", &self.events_age_hours)
            .field("events_bytes_max", &self.events_bytes_max)
            .field("events_replicas", &self.events_replicas)
            .field("events_behind_max", &self.events_behind_max)
            .finish()
    }
}

impl Options {
    /// The addresses of NATS.
    ///
    /// # Errors
    /// What is wrong with an address, which is shown without its password.
    pub fn urls(&self) -> Result<Vec<Url>, String> {
        read_urls(&self.url)
    }

    /// Whether nodes prove to each server who they are: with a password, a token or a certificate.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        let named = |url: &Url| !url.username().is_empty() || url.password().is_some();
        self.tls.own().is_some() || self.urls().is_ok_and(|urls| urls.iter().take(1).all(named))
    }
}

fn read_urls(text: &str) -> Result<Vec<Url>, String> {
    parts(text).iter().map(|text| text.trim()).filter(|text| !text.is_empty()).map(url).collect()
}

fn url(text: &str) -> Result<Url, String> {
    let wrong = |why: &str| format!("{} is not a URL of NATS: {why}", masked(text));
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "nats" | "tls") {
        return Err(wrong("it must begin with nats:// or tls://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("it has no host"));
    }
    Ok(url)
}

/// One or several addresses, separated by commas, without user, password and token, for logs.
#[must_use]
pub fn masked(text: &str) -> String {
    let one = |text: &String| {
        let shown = masked_url(text);
        // The name of a user is not shown either: it may be a token.
        match (shown.split_once("://"), shown.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
            (None, Some((_, host))) => format!("***@{host}"),
            (_, None) => shown,
        }
    };
    parts(text).iter().map(one).collect::<Vec<_>>().join(",")
}

/// Splits a list of addresses. A part after a comma that is no address belongs to the previous
/// address, whose password may contain a comma.
fn parts(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in text.split(',') {
        match parts.last_mut() {
            Some(last) if !part.contains("://") => {
                last.push(',');
                last.push_str(part);
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nats_address_is_validated_and_its_password_hidden() {
        let urls = |url: &str| Options { url: url.into(), ..Options::default() }.urls();
        assert_eq!(urls("").unwrap(), []);
        assert_eq!(urls("nats://a:4222, tls://u:p@b").unwrap().len(), 2);
        for bad in ["http://a", "a:4222", "nats://", "nats://u:secret@"] {
            let error = urls(bad).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(masked("nats://u:p@b/x,nats://c"), "nats://***@b/x,nats://c");
        assert_eq!(masked("nats://token@b"), "nats://***@b");
        assert_eq!(masked("nats://u:p,/q@b"), "nats://***@b");
        let options = Options { url: "nats://u:secret@b".into(), ..Options::default() };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
