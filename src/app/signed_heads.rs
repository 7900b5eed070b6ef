//! Signs the ends of the chains of events from time to time and at the end, and sends them to a file
//! and to a URL, so that they are also outside of the database.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use tokio::sync::Mutex;
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
    unsent: Mutex<Unsent>,
}

/// The newest head of each shard that is not yet where it belongs. It stands for the older ones.
#[derive(Default)]
struct Unsent {
    to_file: BTreeMap<u16, SignedHead>,
    to_url: BTreeMap<u16, SignedHead>,
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
        Self { options, store, clock, node, client, unsent: Mutex::default() }
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

    /// Signs the heads that have changed, and sends them and those that could not be sent before.
    pub(super) async fn sign(&self) {
        let signed = match self.store.sign_heads(&self.node, self.clock.now()).await {
            Ok(round) => {
                round.broken.iter().for_each(report_broken);
                round.signed
            }
            Err(error) => {
                tracing::warn!(%error, "the ends of the journal cannot be signed; retrying");
                Vec::new()
            }
        };
        let mut unsent = self.unsent.lock().await;
        let Unsent { to_file, to_url } = &mut *unsent;
        if !self.options.path.as_os_str().is_empty() {
            to_file.extend(signed.iter().map(|head| (head.shard, head.clone())));
            match write(&self.options.path, to_file.values()) {
                Ok(()) => to_file.clear(),
                Err(error) => {
                    let file = self.options.path.display();
                    tracing::warn!(%error, %file, "signed heads cannot be written; retrying");
                }
            }
        }
        if let Some(client) = &self.client {
            to_url.extend(signed.into_iter().map(|head| (head.shard, head)));
            match send(client, &self.options.url, to_url.values()).await {
                Ok(()) => to_url.clear(),
                Err(error) => tracing::warn!(%error, "signed heads cannot be sent; retrying"),
            }
        }
    }
}

fn report_broken(head: &SignedHead) {
    let SignedHead { shard, pos, at, .. } = head;
    let about = format!("shard {shard} lost what was signed at position {pos} at {at}");
    SecurityEvent::HistoryChanged.log("unknown", "the database", &about);
    tracing::error!("the history was changed: {about}; run kontor verify");
}

/// Posts heads, if there are any.
async fn send<'a>(
    client: &reqwest::Client,
    url: &str,
    heads: impl Iterator<Item = &'a SignedHead>,
) -> reqwest::Result<()> {
    let heads: Vec<&SignedHead> = heads.collect();
    if heads.is_empty() {
        return Ok(());
    }
    let answer = client.post(url).json(&heads).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    answer.map(drop).map_err(reqwest::Error::without_url)
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

/// Appends heads to a file, which only its owner can read. A line that was cut off stays a line of its
/// own.
fn write<'a>(file: &Path, heads: impl Iterator<Item = &'a SignedHead>) -> std::io::Result<()> {
    let mut lines = String::new();
    for head in heads {
        lines.push_str(&serde_json::to_string(head)?);
        lines.push('\n');
    }
    if lines.is_empty() {
        return Ok(());
    }
    if is_cut_off(file) {
        lines.insert(0, '\n');
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    file.write_all(lines.as_bytes())?;
    file.sync_data()
}

/// Whether a file ends within a line, as far as it can be read.
fn is_cut_off(file: &Path) -> bool {
    let last = || -> std::io::Result<u8> {
        let mut last = [b'\n'];
        // What is no ordinary file, such as a pipe, has no end to look at.
        let there = file.metadata()?;
        if there.is_file() && there.len() > 0 {
            let mut file = File::open(file)?;
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(last[0])
    };
    last().is_ok_and(|last| last != b'\n')
}
