//! Signs the ends of the chains of events from time to time and at the end, and sends them to a file
//! and to a URL, so that they are also outside of the database.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::actors::engine::clock::Clock;
use crate::store::Store;
use crate::store::signed_head::{Options, PublicKey, SignedHead};
use crate::telemetry::security::SecurityEvent;

/// The time limit of a request to the URL.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Signs heads for a node.
pub(super) struct Signer {
    options: Options,
    store: Store,
    clock: Clock,
    node: String,
    client: Option<reqwest::Client>,
}

impl Signer {
    /// Logs the public key, so that it can be kept elsewhere.
    pub(super) fn new(options: Options, store: Store, clock: Clock, node: String) -> Self {
        if let Some(key) =
            store.people().master().ok().and_then(|m| PublicKey::of(&m).into_iter().next())
        {
            tracing::info!(public_key = %key, "the ends of the journal are signed");
        }
        let client = (!options.url.is_empty()).then(|| client(&options.url)).flatten();
        Self { options, store, clock, node, client }
    }

    /// Signs until stopped.
    pub(super) async fn run(&self, stop: &CancellationToken) {
        if self.options.every_secs == 0 {
            return stop.cancelled().await;
        }
        let pause = Duration::from_secs(self.options.every_secs);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => self.sign().await,
            }
        }
    }

    /// Signs the heads that have changed.
    pub(super) async fn sign(&self) {
        let round = match self.store.sign_heads(&self.node, self.clock.now()).await {
            Ok(round) => round,
            Err(error) => {
                return tracing::warn!(%error, "the ends of the journal cannot be signed; retrying");
            }
        };
        for head in &round.broken {
            let SignedHead { shard, pos, at, .. } = head;
            let about = format!("shard {shard} lost what was signed at position {pos} at {at}");
            SecurityEvent::HistoryChanged.log("unknown", "the database", &about);
            tracing::error!("the history was changed: {about}; run kontor verify");
        }
        if round.signed.is_empty() {
            return;
        }
        if !self.options.path.as_os_str().is_empty()
            && let Err(error) = write(&self.options.path, &round.signed)
        {
            let file = self.options.path.display();
            tracing::warn!(%error, %file, "signed heads cannot be written");
        }
        if let Some(client) = &self.client {
            let request = client.post(&self.options.url).json(&round.signed).send();
            let answer = request.await.and_then(reqwest::Response::error_for_status);
            if let Err(error) = answer.map_err(reqwest::Error::without_url) {
                tracing::warn!(%error, "signed heads cannot be sent; the next round sends newer ones");
            }
        }
    }
}

fn client(url: &str) -> Option<reqwest::Client> {
    crate::providers::install_crypto();
    let redirect = reqwest::redirect::Policy::none();
    let mut client = reqwest::Client::builder().no_proxy().redirect(redirect).timeout(TIMEOUT);
    if url.starts_with("http:") {
        // The system's certificates are not needed, and there may be none.
        client = client.tls_certs_only([]);
    }
    let built = client.build();
    built.inspect_err(|error| tracing::error!(%error, "signed heads cannot be sent")).ok()
}

/// Appends heads to a file, which only its owner can read.
fn write(file: &Path, heads: &[SignedHead]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut lines = String::new();
    for head in heads {
        lines.push_str(&serde_json::to_string(head)?);
        lines.push('\n');
    }
    let mut file = options.open(file)?;
    file.write_all(lines.as_bytes())?;
    file.sync_data()
}
