//! The client of the public HTTP API: one connection pool, safe retries, problems as errors.
//!
//! Deliberately not here: the shapes of requests and answers (`api`), the parsing of refusals
//! (`problem`), and sequences of requests. Every POST has an idempotency key, and the other methods
//! are idempotent, so every request may be retried.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::{Error, chain, read};

/// The maximum size of an answer, in bytes.
const ANSWER_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Timeout of one request, including its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(75);
/// Timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The idle timeout of a pooled connection: shorter than the 5 s that servers commonly use.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Retries of a request before its error is returned.
const RETRIES: usize = 12;

/// A successful answer.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The HTTP status, 200 to 299.
    pub status: u16,
    /// The body.
    pub body: T,
}

/// A client of one server. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<HeaderValue>,
    retries: usize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base)
            .field("has_key", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client of the server at `url`, with an API key, or without one.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Key`], and [`Error::Setup`] when TLS cannot be set up.
    pub fn new(url: &str, key: Option<String>) -> Result<Self, Error> {
        let address = || Error::Address(without_password(url));
        let parsed = Url::parse(url).map_err(|_| address())?;
        let plain = parsed.username().is_empty() && parsed.password().is_none();
        let web = matches!(parsed.scheme(), "http" | "https") && parsed.has_host();
        if !plain || !web || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(address());
        }
        let key = key.filter(|key| !key.is_empty()).map(bearer).transpose()?;
        install_tls();
        let mut builder = reqwest::Client::builder()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("kontor-client/", env!("CARGO_PKG_VERSION")));
        if parsed.scheme() == "http" {
            // Without TLS, no root certificates are needed, and the machine may have none.
            builder = builder.tls_certs_only(std::iter::empty());
        }
        let http = builder.build().map_err(|error| Error::Setup(chain(&error)))?;
        let base = parsed.as_str().trim_end_matches('/').to_owned();
        Ok(Self { http, base, key, retries: RETRIES })
    }

    /// Returns this client with another number of retries per request.
    #[must_use]
    pub fn with_retries(mut self, retries: usize) -> Self {
        self.retries = retries;
        self
    }

    /// The URL of the server, without a slash at the end.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Builds a GET of `path`, which begins with a slash.
    pub fn get<T>(&self, path: &str) -> Call<'_, T> {
        self.call(Method::GET, path)
    }

    /// Builds a POST to `path`, with a new idempotency key unless the caller sets one.
    pub fn post<T>(&self, path: &str) -> Call<'_, T> {
        self.call(Method::POST, path)
    }

    /// Builds a PUT to `path`.
    pub fn put<T>(&self, path: &str) -> Call<'_, T> {
        self.call(Method::PUT, path)
    }

    /// Builds a PATCH of `path`.
    pub fn patch<T>(&self, path: &str) -> Call<'_, T> {
        self.call(Method::PATCH, path)
    }

    /// Builds a DELETE of `path`.
    pub fn delete<T>(&self, path: &str) -> Call<'_, T> {
        self.call(Method::DELETE, path)
    }

    fn call<T>(&self, method: Method, path: &str) -> Call<'_, T> {
        let url = Url::parse(&format!("{}{path}", self.base)).ok();
        let answer = PhantomData;
        let (idempotency_key, prefer, token) = (None, None, None);
        Call { client: self, method, url, body: None, idempotency_key, prefer, token, answer }
    }
}

/// A request being built, whose answer is deserialized as `T`.
#[derive(Debug)]
#[must_use]
pub struct Call<'a, T> {
    client: &'a Client,
    method: Method,
    url: Option<Url>,
    body: Option<Result<Vec<u8>, String>>,
    idempotency_key: Option<String>,
    prefer: Option<String>,
    /// The token; an error if it cannot be sent in a header.
    token: Option<Result<HeaderValue, ()>>,
    answer: PhantomData<fn() -> T>,
}

impl<T> Call<'_, T> {
    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        if let Some(url) = &mut self.url {
            url.query_pairs_mut().append_pair(name, value);
        }
        self
    }

    /// Sets the JSON body.
    pub fn json<B: Serialize>(mut self, body: &B) -> Self {
        self.body = Some(serde_json::to_vec(body).map_err(|error| error.to_string()));
        self
    }

    /// Sets the idempotency key, for a caller that may repeat the request later.
    pub fn idempotency_key(mut self, key: &str) -> Self {
        self.idempotency_key = Some(key.to_owned());
        self
    }

    /// Asks the server to answer only when the outcome is known, or after this many seconds, 0 to
    /// 30.
    pub fn prefer_wait(mut self, seconds: u8) -> Self {
        self.prefer = Some(format!("wait={seconds}"));
        self
    }

    /// Sends the token of a cart or an order, in place of the client's API key.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(bearer(token.to_owned()).map_err(|_| ()));
        self
    }

    /// Sends the request, and retries it with the same idempotency key while the server is
    /// overloaded or unreachable.
    ///
    /// # Errors
    /// [`Error::Problem`] for a refusal; [`Error::Unreachable`] and [`Error::Answer`] without a
    /// readable answer; [`Error::Address`] and [`Error::Setup`] if the request cannot be built.
    pub async fn send(mut self) -> Result<Answer<T>, Error>
    where
        T: DeserializeOwned,
    {
        if self.method == Method::POST && self.idempotency_key.is_none() {
            self.idempotency_key = Some(uuid::Uuid::new_v4().to_string());
        }
        let call = &self;
        let backoff = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(4))
            .with_max_times(self.client.retries);
        (|| call.send_once())
            .retry(backoff)
            .when(Error::retryable)
            .adjust(|error: &Error, planned| error.wait(planned))
            .await
    }

    async fn send_once(&self) -> Result<Answer<T>, Error>
    where
        T: DeserializeOwned,
    {
        let url = self.url.clone().ok_or_else(|| Error::Address(self.client.base.clone()))?;
        let shown = format!("{} {}", self.method, url.path());
        let unreachable = |error: reqwest::Error| Error::Unreachable {
            url: shown.clone(),
            reason: chain(&error.without_url()),
        };
        let mut request = self.client.http.request(self.method.clone(), url);
        let token = self.token.clone().transpose().map_err(|()| Error::Key)?;
        if let Some(key) = token.as_ref().or(self.client.key.as_ref()) {
            request = request.header(AUTHORIZATION, key.clone());
        }
        if let Some(key) = &self.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(prefer) = &self.prefer {
            request = request.header("Prefer", prefer);
        }
        if let Some(body) = &self.body {
            let bytes = body.clone().map_err(Error::Setup)?;
            request = request.header(CONTENT_TYPE, "application/json").body(bytes);
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let retry_after = seconds(response.headers().get(RETRY_AFTER));
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > ANSWER_MAX_BYTES {
                return Err(Error::Answer { url: shown, reason: "it is too large".to_owned() });
            }
            bytes.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            return Err(Error::Problem(Box::new(read(status.as_u16(), retry_after, &bytes))));
        }
        let text = if bytes.is_empty() { b"null".as_slice() } else { &bytes };
        let body = serde_json::from_slice(text)
            .map_err(|error| Error::Answer { url: shown, reason: error.to_string() })?;
        Ok(Answer { status: status.as_u16(), body })
    }
}

/// Installs ring as the process's TLS provider, unless there is one. [`Client::new`] does so;
/// a program that first builds another client of reqwest must call this before.
pub fn install_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have installed one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn bearer(key: String) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| Error::Key)?;
    value.set_sensitive(true);
    Ok(value)
}

/// An address that is not valid, without what may be a password in it.
fn without_password(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let port = rest.split_once(':').map_or("", |(_, port)| port);
    let port = port.split('/').next().unwrap_or_default();
    let secret = url.contains(['@', '=']) || !port.bytes().all(|byte| byte.is_ascii_digit());
    if secret { "***".to_owned() } else { url.to_owned() }
}

fn seconds(value: Option<&HeaderValue>) -> Option<Duration> {
    value?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_debug_output_hides_the_key() {
        let client = Client::new("http://127.0.0.1:1", Some("sk_hidden".into())).unwrap();
        assert!(!format!("{client:?} {:?}", client.get::<()>("/x")).contains("sk_hidden"));
        for url in [
            "http://me:sk_hidden@host",
            "http:/me:sk_hidden@host",
            "me:sk_hidden@host",
            "http://me:sk_hidden",
            "http://host/?key=sk_hidden",
            "http//:sk_hidden@host",
            "sk_hidden@host",
        ] {
            let error = Client::new(url, None).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("sk_hidden"), "{error}");
        }
    }

    #[test]
    fn only_http_urls_without_credentials_are_accepted() {
        for bad in ["", "localhost:8080", "ftp://x", "http://x/?a=b", "file:///etc"] {
            assert!(matches!(Client::new(bad, None), Err(Error::Address(_))), "{bad}");
        }
        assert_eq!(Client::new("http://h:1/shop/", None).unwrap().base(), "http://h:1/shop");
        assert!(matches!(Client::new("http://h", Some("a\nb".into())), Err(Error::Key)));
    }
}
