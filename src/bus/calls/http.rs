//! The caller's side of calls over HTTP. A call goes to the callee's own address, if NATS is
//! unavailable or the callee does not answer there.

use std::time::Duration;

use reqwest::{Client, StatusCode, header};
use rustls::ClientConfig;
use tokio::time::Instant;
use tokio_util::bytes::{Bytes, BytesMut};

use super::{ANSWER_BYTES_MAX, CallError, Calls, MAC, OUTCOME, PATH, Peer, Way};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than the server's keep-alive, so that the server has seldom closed a pooled connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// An HTTP client for calls: with TLS between nodes, it calls no node without.
pub(super) fn client(tls: Option<ClientConfig>) -> Result<Client, String> {
    // TLS needs a crypto provider. An error means that one is already installed.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let build = || {
        Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
    };
    if let Some(tls) = tls {
        let made = build().tls_backend_preconfigured(tls).https_only(true).build();
        return made.map_err(|error| error.to_string());
    }
    // A system may have no root certificates; then only addresses without TLS can be called.
    let made = build().build().or_else(|_| build().tls_certs_only([]).build());
    made.map_err(|error| error.to_string())
}

impl Calls {
    pub(super) async fn by_http(
        &self,
        to: &Peer,
        body: Bytes,
        until: Instant,
    ) -> Result<Bytes, CallError> {
        let unreachable = |why: String| CallError::Unreachable { node: to.node.clone(), why };
        let unknown = |why: String| CallError::Unknown { node: to.node.clone(), why };
        let Way::Wire { http, .. } = &self.0.way else {
            return Err(unreachable("there is no connection".into()));
        };
        if to.url.is_empty() {
            return Err(unreachable("the node has no address".into()));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(unreachable("the deadline has passed".into()));
        }
        let address = format!("{}{PATH}", to.url.trim_end_matches('/'));
        let mut request = http.post(address).timeout(left);
        let seal = self.seal(until, &body);
        for (name, value) in seal.headers(&self.0.key, &to.node) {
            request = request.header(name, value);
        }
        let request = request.header(header::CONTENT_TYPE, "application/octet-stream").body(body);
        let mut response = request.send().await.map_err(|error| {
            let why = describe_error(&error);
            if error.is_connect() || error.is_builder() { unreachable(why) } else { unknown(why) }
        })?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let signature = header(MAC).map(str::to_owned);
        if response.status() != StatusCode::OK {
            let refusal =
                self.refusal((seal.id, to), &to.url, header(OUTCOME), signature.as_deref());
            let status = response.status();
            return Err(refusal.unwrap_or_else(|| unknown(format!("it answered {status}"))));
        }
        let mut answer = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if answer.len() + chunk.len() > ANSWER_BYTES_MAX => {
                    return Err(unknown("the answer is too large".into()));
                }
                Ok(Some(chunk)) => answer.extend_from_slice(&chunk),
                Ok(None)
                    if self.is_answer((seal.id, to), &to.url, signature.as_deref(), &answer) =>
                {
                    return Ok(answer.freeze());
                }
                Ok(None) => return Err(unknown("the answer is not signed by the node".into())),
                Err(error) => return Err(unknown(describe_error(&error))),
            }
        }
    }
}

/// An error with its causes, without the URL.
fn describe_error(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time" } else { "it broke off" }.to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}
