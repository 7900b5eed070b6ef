//! What a node of a cluster is started with: its name, NATS if there is one, and the ways to the
//! other nodes. A node has others only where they share its store.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Error;
use crate::actors::clock::Clock;
use crate::actors::cluster::Start;
use crate::bus::nats::Connection;
use crate::bus::queue::{JetLine, Line, TwinLine};
use crate::bus::stream::{Jet, Stream};
use crate::bus::{Calls, Findings, Notices};
use crate::config::Config;
use crate::store::Store;

/// The name of the secret that nodes know each other by.
const SECRET: &str = "cluster";

/// What a node is in a cluster with, and how it hears of jobs; nothing for one that has its store
/// to itself.
pub(super) async fn start(
    config: &Config,
    store: &Store,
    clock: &Clock,
    stop: &CancellationToken,
) -> Result<Option<(Start, Arc<dyn Line>)>, Error> {
    if !store.is_shared() {
        return Ok(None);
    }
    let node = name(config);
    let secret = store.secret(SECRET).await?;
    let nats = Connection::open(&config.bus, &node).await?;
    let clock = clock.clone();
    let now = Arc::new(move || clock.now());
    let calls = Calls::new(nats.clone(), &config.bus, secret, &node, now).map_err(Error::Calls)?;
    let notices = Notices::new(nats.clone(), &node, stop.clone());
    let findings = Findings::default();
    let line: Arc<dyn Line> = match &nats {
        Some(nats) => Arc::new(JetLine::new(nats.clone(), &config.bus, findings.clone())),
        None => Arc::new(TwinLine::default()),
    };
    let jet = nats.clone().map(|nats| Jet::new(nats, &config.bus, findings.clone()));
    let stream = jet.map(|jet| -> Arc<dyn Stream> { Arc::new(jet) });
    let (options, bus) = (config.cluster.clone(), config.bus.clone());
    let start = Start { options, node, calls, notices, stream, bus, nats, findings };
    Ok(Some((start, line)))
}

/// The node's name: the one that it was given, or else made of where it listens, or if that is not
/// known yet, by chance.
fn name(config: &Config) -> String {
    let listen = config.http.listen;
    match (config.cluster.node.as_str(), listen.port()) {
        ("", 0) => format!("node-{:08x}", rand::random::<u32>()),
        ("", port) if listen.ip().is_unspecified() => format!("{}-{port}", host()),
        ("", _) => listen.to_string().replace(['.', ':', '[', ']'], "-"),
        (name, _) => name.to_owned(),
    }
}

/// This machine's name.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")
}
