//! The challenge hook: a service of the shop that decides on suspicious checkouts, for example by a
//! captcha.
//!
//! kontor asks it before a checkout holds any units. When a checkout is suspicious, and what
//! becomes of it, is decided in `actors`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use garde::Validate;
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, Serialize};

use crate::domain::id::Sku;
use crate::domain::limits::{holds, within};

/// The most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// The most characters of a text in a challenge.
const TEXT_MAX: usize = 2_048;

/// Options of the challenge hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Options {
    /// The URL of the hook; empty for none.
    #[garde(custom(hook_address))]
    pub url: String,
    /// The timeout of a call, in milliseconds.
    #[garde(custom(within(1..=10_000)))]
    pub timeout_ms: u64,
    /// What becomes of a suspicious checkout if the hook does not answer in time, or wrongly.
    pub if_unavailable: IfUnavailable,
    /// The checkouts of one SKU a minute, from all guests, above which they are suspicious.
    #[garde(custom(within(0..=CHECKOUTS_MAX)))]
    pub sku_checkouts: u32,
    /// The same for the checkouts from one network.
    #[garde(custom(within(0..=CHECKOUTS_MAX)))]
    pub network_checkouts: u32,
}

/// The highest number of checkouts a minute above which they are suspicious.
pub const CHECKOUTS_MAX: u32 = 10_000_000;

/// What becomes of a suspicious checkout that the hook has not decided on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfUnavailable {
    /// It goes on.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: String::new(),
            timeout_ms: 1_000,
            if_unavailable: IfUnavailable::default(),
            sku_checkouts: 300,
            network_checkouts: 60,
        }
    }
}

impl Options {
    /// The checkouts a minute above which they are suspicious.
    #[must_use]
    pub const fn floods(&self) -> FloodMarks {
        let Self { sku_checkouts, network_checkouts, .. } = *self;
        FloodMarks { sku_checkouts, network_checkouts }
    }
}

/// The checkouts of guests a minute above which they are suspicious. 0 is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloodMarks {
    /// Of one SKU.
    pub sku_checkouts: u32,
    /// From one network.
    pub network_checkouts: u32,
}

/// A hook is reached over TLS, or on this machine: it is told who buys what.
fn hook_address(url: &str, (): &()) -> garde::Result {
    let local = |host: &str| {
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    };
    let safe = Url::parse(url).is_ok_and(|url| match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => true,
        ("http", Some(host)) => local(host),
        _ => false,
    });
    let rule = "must be empty, or begin with https://, or with http:// and a loopback address";
    holds(url.is_empty() || safe, || rule)
}

/// What a hook is told of a checkout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suspicion {
    /// The buyer's IP address; of IPv6, the first address of the /64 network.
    pub address: String,
    /// The buyer's network: a /24 of IPv4, or a /56 of IPv6.
    pub network: String,
    /// The keyed hash of the buyer's email address, which is the same for all checkouts of this
    /// email address; `None` if it was erased.
    pub email: Option<String>,
    /// What is bought.
    pub lines: Vec<BoughtUnits>,
    /// What there are too many checkouts of: `sku:` and a SKU, or `network`.
    pub reasons: Vec<String>,
    /// What the client sent as the header `Challenge-Response`.
    pub response: Option<String>,
}

/// Units of a SKU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BoughtUnits {
    /// The SKU.
    pub sku: Sku,
    /// The number of units.
    pub quantity: i64,
}

/// What a hook decides.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum ChallengeDecision {
    /// The checkout goes on.
    Allow,
    /// The buyer must solve a challenge first.
    Challenge {
        /// The challenge.
        challenge: Challenge,
    },
    /// The checkout is refused.
    Deny,
}

/// A challenge, as the buyer gets it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Challenge {
    /// Its type, which the shop's page knows.
    #[serde(rename = "type")]
    pub kind: String,
    /// The public key of the shop at the maker of the challenge.
    #[serde(default)]
    pub site_key: Option<String>,
    /// Where the buyer finds the challenge.
    #[serde(default)]
    pub url: Option<String>,
}

/// A hook that has not decided.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each means")]
pub enum Error {
    #[error("the challenge hook cannot be reached, or does not answer in time")]
    Unreachable(#[source] reqwest::Error),
    #[error("the challenge hook answers {0}")]
    Status(StatusCode),
    #[error("the answer of the challenge hook is not a decision: {0}")]
    Answer(String),
    #[error("the client of the challenge hook cannot be made")]
    Client(#[source] reqwest::Error),
}

/// The client of the hook.
#[derive(Debug)]
pub struct ChallengeHook {
    client: Client,
    url: String,
    /// What becomes of a suspicious checkout that the hook has not decided on.
    pub if_unavailable: IfUnavailable,
}

impl ChallengeHook {
    /// The configured hook; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Client`]: the system has no usable certificates.
    pub fn new(options: &Options) -> Result<Option<Arc<Self>>, Error> {
        if options.url.is_empty() {
            return Ok(None);
        }
        super::install_crypto();
        let mut client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_millis(options.timeout_ms))
            .tcp_nodelay(true);
        if options.url.starts_with("http:") {
            // The system's certificates are not needed, and there may be none.
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(Error::Client)?;
        let Options { url, if_unavailable, .. } = options.clone();
        Ok(Some(Arc::new(Self { client, url, if_unavailable })))
    }

    /// Asks the hook to decide on a checkout.
    ///
    /// # Errors
    /// [`Error`]: it has not decided.
    pub async fn decide(&self, suspicion: &Suspicion) -> Result<ChallengeDecision, Error> {
        let lost = |error: reqwest::Error| Error::Unreachable(error.without_url());
        let sent = self.client.post(&self.url).json(suspicion).send();
        let mut answer = sent.await.map_err(lost)?;
        if answer.status() != StatusCode::OK {
            return Err(Error::Status(answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Error::Answer("it is too long".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        read_decision(&body)
    }
}

fn read_decision(body: &[u8]) -> Result<ChallengeDecision, Error> {
    let decision =
        serde_json::from_slice(body).map_err(|error| Error::Answer(error.to_string()))?;
    if let ChallengeDecision::Challenge { challenge: Challenge { kind, site_key, url } } = &decision
    {
        let texts = [Some(kind), site_key.as_ref(), url.as_ref()];
        if texts.into_iter().flatten().any(|text| text.len() > TEXT_MAX) {
            return Err(Error::Answer("a text of the challenge is too long".to_owned()));
        }
        // `//` begins the name of another host; so does `/\`, and a line end within it is skipped, in
        // a browser.
        let path = |url: &str| {
            let rest = url.strip_prefix('/');
            rest.is_some_and(|rest| {
                !rest.starts_with(['/', '\\']) && !rest.contains(char::is_control)
            })
        };
        let safe = |url: &String| url.starts_with("https://") || path(url);
        if !url.as_ref().is_none_or(safe) {
            return Err(Error::Answer("the URL must begin with https:// or a single /".to_owned()));
        }
    }
    Ok(decision)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hook_is_reached_over_tls_or_on_this_machine() {
        for url in [
            "",
            "https://hooks.example/check",
            "http://127.0.0.1:7/x",
            "http://[::1]:7/",
            "http://localhost/",
        ] {
            assert!(hook_address(url, &()).is_ok(), "{url}");
        }
        for url in
            ["http://hooks.example/", "http://10.0.0.1/", "ftp://127.0.0.1/", "hooks", "https://"]
        {
            assert!(hook_address(url, &()).is_err(), "{url}");
        }
    }

    #[test]
    fn what_is_not_a_decision_is_none() {
        let allowed = read_decision(br#"{"decision": "allow", "score": 1}"#);
        assert_eq!(allowed.unwrap(), ChallengeDecision::Allow);
        let asked =
            br#"{"decision": "challenge", "challenge": {"type": "captcha", "site_key": "k"}}"#;
        assert!(matches!(read_decision(asked), Ok(ChallengeDecision::Challenge { .. })));
        let script =
            br#"{"decision": "challenge", "challenge": {"type": "x", "url": "javascript:x()"}}"#;
        let at = |url: &str| {
            let challenge = json!({"type": "x", "url": url});
            json!({"decision": "challenge", "challenge": challenge}).to_string()
        };
        for right in ["https://c.example/x", "/c", "/"] {
            assert!(read_decision(at(right).as_bytes()).is_ok(), "{right}");
        }
        for wrong in
            ["//evil.example", "/\\evil.example", "/\t/evil.example", "http://c.example", "c", ""]
        {
            assert!(read_decision(at(wrong).as_bytes()).is_err(), "{wrong}");
        }
        let long = format!(
            r#"{{"decision": "challenge", "challenge": {{"type": "{}"}}}}"#,
            "x".repeat(TEXT_MAX + 1)
        );
        for wrong in [
            &b"{}"[..],
            b"",
            b"true",
            br#"{"decision": "perhaps"}"#,
            br#"{"decision": "challenge"}"#,
            script,
            long.as_bytes(),
        ] {
            assert!(read_decision(wrong).is_err());
        }
    }
}
