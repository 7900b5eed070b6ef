//! The connection to NATS. It reconnects without limit, and a node can start while NATS is
//! unavailable.
//!
//! The messages are defined in `calls`, `notices`, `queue` and `stream`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerInfo};
use reqwest::Url;
use tokio::sync::watch;

use super::nats_tls;
use super::options::{Options, masked};
use crate::domain::masked_url::percent_decoded;
use crate::domain::tls_files::TlsFiles;
use crate::tls;

/// How often a silent server is pinged; after two pings without an answer the connection counts as
/// broken.
const PING: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest pause between two attempts to connect.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The most messages that wait to be sent.
const QUEUE: usize = 4_096;

/// Why the configured addresses can never lead to a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot use NATS: {0}")]
pub struct Error(pub String);

/// A connection to NATS, which may not be established yet.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    state: watch::Receiver<bool>,
    trouble: Arc<Mutex<Trouble>>,
    address: Arc<str>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, under the node's id; `None` if the options name no server. If the server does not
    /// answer within the time that the options allow, returns anyway, and the connection is
    /// established later.
    ///
    /// # Errors
    /// [`Error`]: an address is invalid, or a file for TLS cannot be used.
    pub async fn open(options: &Options, node: &str) -> Result<Option<Self>, Error> {
        let urls = options.urls().map_err(Error)?;
        let Some(first) = urls.first() else {
            return Ok(None);
        };
        tls::read("bus.tls", &options.tls).map_err(|fault| Error(fault.to_string()))?;
        // TLS needs a crypto provider. An error means that one is already installed.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let (told, state) = watch::channel(false);
        let trouble: Arc<Mutex<Trouble>> = Arc::default();
        let address: Arc<str> = masked(&options.url).into();
        let tls = options.tls.clone();
        let is_encrypted = tls.own().is_some() || urls.iter().any(|url| url.scheme() == "tls");
        let servers = if is_encrypted { urls.clone() } else { Vec::new() };
        let (trouble_of, address_of) = (Arc::clone(&trouble), Arc::clone(&address));
        let notes =
            Notes { told, trouble: trouble_of, address: address_of, encrypted: servers, tls };
        let notes = Arc::new(notes);
        let mut connect = ConnectOptions::new()
            .name(node)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ping_interval(PING)
            .connection_timeout(CONNECT_TIMEOUT)
            .client_capacity(QUEUE)
            .reconnect_delay_callback(pause)
            .event_callback(move |event| {
                Notes::take(&notes, &event);
                std::future::ready(())
            });
        let name = percent_decoded(first.username());
        connect = match first.password() {
            Some(password) => connect.user_and_password(name, percent_decoded(password)),
            None if !name.is_empty() => connect.token(name),
            None => connect,
        };
        if let Some(ca) = options.tls.ca() {
            connect = connect.add_root_certificates(ca.clone());
        }
        if let Some((cert, key)) = options.tls.own() {
            connect = connect.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
        }
        let mut servers = Vec::with_capacity(urls.len());
        for mut url in urls {
            let bare = url.set_password(None).and_then(|()| url.set_username(""));
            bare.map_err(|()| Error(format!("{} cannot be used", masked(url.as_str()))))?;
            let server = async_nats::ServerAddr::from_url(url);
            servers.push(server.map_err(|error| Error(error.to_string()))?);
        }
        let client = connect.connect(servers).await.map_err(|error| Error(error.to_string()))?;
        let mut this = Self { client, state, trouble, address };
        let patience = Duration::from_millis(options.start_wait_ms);
        if tokio::time::timeout(patience, this.state.wait_for(|up| *up)).await.is_err() {
            let (nats, why) = (&*this.address, this.trouble().unwrap_or_default());
            tracing::warn!(
                nats,
                why,
                "NATS is down; starting without it, and connecting when it \
                                       is up"
            );
        }
        Ok(Some(this))
    }

    /// Whether the connection is established.
    #[must_use]
    pub fn is_up(&self) -> bool {
        *self.state.borrow()
    }

    /// Watches whether the connection is established.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.state.clone()
    }

    /// The last error, while the connection is not established.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if self.is_up() {
            return None;
        }
        let last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        Some(last.shown.clone()).filter(|shown| !shown.is_empty())
    }

    /// The addresses of the servers, without passwords.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The server's description of itself, once connected.
    #[must_use]
    pub fn server(&self) -> Option<ServerInfo> {
        self.client.try_server_info()
    }

    /// The largest message that the server accepts, in bytes, including headers.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        self.client.max_payload()
    }

    /// Waits until all queued messages are sent, at most for `patience`.
    pub async fn flush(&self, patience: Duration) {
        // A timeout is ignored: only an answer would prove that a message was received.
        let _late = tokio::time::timeout(patience, self.client.flush()).await;
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until the connection breaks.
    pub(super) async fn broken(&self) {
        // The wait cannot fail, because the sender lives as long as the client.
        let mut state = self.state.clone();
        let _over = state.wait_for(|up| !*up).await;
    }
}

/// The last error of a connection, as the library reports it and as it is shown.
#[derive(Default)]
struct Trouble {
    reported: String,
    shown: String,
}

/// Records the events of a connection: whether it is established, and its last error.
struct Notes {
    told: watch::Sender<bool>,
    trouble: Arc<Mutex<Trouble>>,
    address: Arc<str>,
    /// The servers that are reached with TLS.
    encrypted: Vec<Url>,
    tls: TlsFiles,
}

impl Notes {
    fn take(this: &Arc<Self>, event: &Event) {
        let nats = &*this.address;
        match event {
            Event::Connected => {
                tracing::info!(nats, "connected to NATS");
                this.told.send_replace(true);
                *this.last() = Trouble::default();
            }
            Event::Disconnected | Event::Closed => {
                if this.told.send_replace(false) {
                    tracing::warn!(
                        nats,
                        "NATS is down; nodes call each other over HTTP until it \
                                          is back"
                    );
                }
            }
            Event::LameDuckMode => tracing::info!(nats, "the NATS server is shutting down"),
            Event::SlowConsumer(_) => tracing::debug!(nats, "the NATS client dropped a message"),
            Event::Draining => {}
            Event::ServerError(error) => this.trouble(error.to_string()),
            Event::ClientError(error) => this.trouble(error.to_string()),
        }
    }

    fn last(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(self: &Arc<Self>, text: String) {
        let mut last = self.last();
        if last.reported == text {
            return;
        }
        let shown = tls::advised("bus.tls", &self.tls, &text);
        tracing::warn!(nats = &*self.address, error = shown, "NATS reports an error");
        *last = Trouble { reported: text.clone(), shown };
        if !self.encrypted.is_empty() {
            tokio::spawn(Arc::clone(self).explain(text));
        }
    }

    /// Replaces an error by what is wrong with TLS, if that is its cause.
    async fn explain(self: Arc<Self>, reported: String) {
        let Some(fault) = nats_tls::fault(&self.encrypted, &self.tls).await else { return };
        let mut last = self.last();
        if last.reported == reported {
            last.shown = tls::advised("bus.tls", &self.tls, &fault);
            tracing::warn!(nats = &*self.address, error = last.shown, "TLS to NATS fails");
        }
    }
}

/// The pause before an attempt to connect.
fn pause(attempt: usize) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let exponent = u32::try_from(attempt.min(8)).unwrap_or(8);
    PAUSE_MAX.min(Duration::from_millis(10 << exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(1), Duration::ZERO);
        assert!(pause(2) < pause(5));
        assert_eq!(pause(1_000_000), PAUSE_MAX);
    }
}
