//! Prepares a node's membership of a cluster: its name, its address, NATS if it is configured, and
//! calls and notices to the other nodes. Only a store in PostgreSQL can be used by several nodes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::actors::engine::clock::Clock;
use crate::actors::engine::cluster::ClusterStart;
use crate::bus::nats::Connection;
use crate::bus::queue::{JetStreamJobNotices, JobChannel, LocalJobNotices};
use crate::bus::stream::{Jet, Stream};
use crate::bus::{Calls, NatsProblems, Notices, Now};
use crate::config::Config;
use crate::domain::cluster_key::ClusterKey;
use crate::store::Store;
use crate::tls::{NodeTls, NodeTlsError};

const A_DAY: Duration = Duration::from_secs(24 * 3_600);
/// How long before its end a certificate is warned of.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Returns the arguments of cluster membership, and the connection for job notices; `None` if only
/// one node can use the store.
pub(super) async fn start(
    config: &Config,
    store: &Store,
    clock: &Clock,
    tls: Option<&NodeTls>,
    (key, stop): (&ClusterKey, &CancellationToken),
) -> Result<Option<(ClusterStart, Arc<dyn JobChannel>)>, Error> {
    if !store.is_shared() {
        return Ok(None);
    }
    let node = name(config);
    let nats = Connection::open(&config.bus, &node).await?;
    let clock = clock.clone();
    let now: Now = Arc::new(move || clock.now());
    let tls = tls.map(|tls| tls.client.clone());
    let calls = Calls::new(nats.clone(), tls, &config.bus, key.clone(), &node, Arc::clone(&now));
    let calls = calls.map_err(Error::Calls)?;
    let notices = Notices::new(nats.clone(), key.clone(), &node, now, stop.clone());
    let nats_problems = NatsProblems::default();
    let channel: Arc<dyn JobChannel> = match &nats {
        Some(nats) => {
            Arc::new(JetStreamJobNotices::new(nats.clone(), &config.bus, nats_problems.clone()))
        }
        None => Arc::new(LocalJobNotices::default()),
    };
    let jet =
        nats.clone().map(|nats| Jet::new(nats, &config.bus, key.clone(), nats_problems.clone()));
    let stream = jet.map(|jet| -> Arc<dyn Stream> { Arc::new(jet) });
    let (options, bus) = (config.cluster.clone(), config.bus.clone());
    let start = ClusterStart { options, node, calls, notices, stream, bus, nats, nats_problems };
    Ok(Some((start, channel)))
}

/// TLS between nodes, if it is configured.
pub(super) async fn tls(config: &Config) -> Result<Option<NodeTls>, NodeTlsError> {
    let (setting, files) = ("cluster.tls", &config.cluster.tls);
    let tls = NodeTls::read(setting, files)?;
    if let Some(tls) = tls.as_ref().filter(|_| config.store.url.is_postgres())
        && let Some(host) = announced_host(config).await
    {
        tls.check_host(setting, files, &host)?;
    }
    Ok(tls)
}

/// The host at which other nodes reach this one, without brackets; `None` if `cluster.url` has none.
async fn announced_host(config: &Config) -> Option<String> {
    let listens = config.http.internal().unwrap_or(config.http.listen);
    let url = reqwest::Url::parse(&address(config, listens).await).ok()?;
    Some(url.host_str()?.trim_matches(['[', ']']).to_owned())
}

/// Warns every day of a certificate that expires soon, until stopped.
pub(super) async fn watch_certificate(tls: NodeTls, stop: CancellationToken) {
    loop {
        if tls.expires_within(EXPIRES_SOON) {
            tracing::warn!(
                "the certificate in cluster.tls.cert expires within 30 days, and then other nodes refuse \
                 this one: get a new one, and restart the node"
            );
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(A_DAY) => {}
        }
    }
}

/// The scheme of the addresses at which nodes call each other.
pub(super) fn scheme(config: &Config) -> &'static str {
    if config.cluster.tls.own().is_some() { "https" } else { "http" }
}

/// Whether other machines may call this node in clear: its store can be shared, it is called without TLS,
/// and it listens beyond this machine, or is called from beyond it.
pub(super) async fn is_called_in_clear(config: &Config) -> bool {
    if !config.store.url.is_postgres() {
        return false;
    }
    let listens = config.http.internal().unwrap_or(config.http.listen);
    let host = announced_host(config).await.unwrap_or_default();
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let is_encrypted =
        config.cluster.tls.own().is_some() || config.cluster.url.starts_with("https:");
    !(is_encrypted || is_here && listens.ip().is_loopback())
}

/// The URL at which other nodes reach this one: `cluster.url` if it is set, else the address on
/// which the node listens. If it listens on all addresses of this machine, the address from which
/// this machine reaches the store is used, or loopback if that is not known.
pub(super) async fn address(config: &Config, listens: SocketAddr) -> String {
    if !config.cluster.url.is_empty() {
        return config.cluster.url.clone();
    }
    let mut addr = listens;
    if addr.ip().is_unspecified() {
        let towards = match config.store.url.server() {
            Some(server) => way_to(server, addr.is_ipv6()).await,
            None => None,
        };
        addr.set_ip(towards.unwrap_or(Ipv4Addr::LOCALHOST.into()));
        if addr.ip().is_loopback() && config.store.url.is_postgres() {
            tracing::warn!(%addr, "nodes on other machines need cluster.url to reach this one");
        }
    }
    format!("{}://{addr}", scheme(config))
}

/// The local address from which this machine reaches a server; `None` if there is none. The
/// server's IPv6 addresses are only considered with `by_ipv6`.
async fn way_to(server: (String, u16), by_ipv6: bool) -> Option<IpAddr> {
    let mut found = tokio::net::lookup_host(server).await.ok()?;
    let to = found.find(|to| by_ipv6 || to.is_ipv4())?;
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Nothing is sent: the operating system only chooses the local address that it would send from.
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(to).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The node's name: `cluster.node` if it is set, else made from the address on which the node
/// listens. If the operating system is to choose the port, the name is random.
fn name(config: &Config) -> String {
    let listen = config.http.listen;
    let address = listen.to_string().replace(['.', ':', '[', ']'], "-");
    match (config.cluster.node.as_str(), listen.port()) {
        ("", 0) => format!("node-{:08x}", rand::random::<u32>()),
        ("", port) if listen.ip().is_unspecified() => format!("{}-{port}", host()),
        // Every machine has loopback addresses, so the machine's name is added.
        ("", _) if listen.ip().is_loopback() => format!("{}-{address}", host()),
        ("", _) => address,
        (name, _) => name.to_owned(),
    }
}

/// This machine's host name, with `-` in place of all characters other than letters and digits.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn advertised_url_follows_from_address_and_settings() {
        let everywhere: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        let mut config = Config::default();
        assert_eq!(address(&config, everywhere).await, "http://127.0.0.1:8080");
        // A store on this machine is reached from a loopback address.
        config.store.url = "postgres://kontor@127.0.0.9:5432/kontor".into();
        assert_eq!(address(&config, everywhere).await, "http://127.0.0.1:8080");
        let one = "10.0.0.7:8080".parse().unwrap();
        config.cluster.tls.cert = "node.pem".into();
        assert_eq!(address(&config, one).await, "https://10.0.0.7:8080");
        config.cluster.tls.cert = "".into();
        assert_eq!(address(&config, one).await, "http://10.0.0.7:8080");
        config.cluster.url = "https://node-1.example".into();
        assert_eq!(address(&config, everywhere).await, "https://node-1.example");
    }

    #[tokio::test]
    async fn a_node_is_called_in_clear_unless_only_from_its_machine_or_with_tls() {
        let mut config = Config::default();
        config.http.listen = "10.0.0.7:8080".parse().unwrap();
        assert!(!is_called_in_clear(&config).await, "a data folder has one node");
        config.store.url = "postgres://kontor@127.0.0.9:5432/kontor".into();
        assert!(is_called_in_clear(&config).await);
        for (url, internal, in_clear) in [
            ("http://node-1:8080", "", true),
            ("https://node-1:8080", "", false),
            ("http://localhost:8080", "", true),
            ("http://localhost:8090", "127.0.0.1:8090", false),
            ("http://[::1]:8090", "[::1]:8090", false),
            ("", "127.0.0.1:8090", false),
            ("", "10.0.1.7:8090", true),
        ] {
            config.cluster.url = url.into();
            config.http.internal_listen = internal.into();
            assert_eq!(is_called_in_clear(&config).await, in_clear, "{url} {internal}");
        }
        config.cluster.tls.cert = "node.pem".into();
        assert!(!is_called_in_clear(&config).await);
    }

    #[test]
    fn nodes_of_several_machines_have_several_names() {
        let mut config = Config::default();
        let host = host();
        for (listen, called) in [
            ("0.0.0.0:8080", format!("{host}-8080")),
            ("127.0.0.1:8080", format!("{host}-127-0-0-1-8080")),
            ("10.0.0.7:8080", "10-0-0-7-8080".to_owned()),
        ] {
            config.http.listen = listen.parse().unwrap();
            assert_eq!(name(&config), called);
        }
        config.cluster.node = "one".into();
        assert_eq!(name(&config), "one");
    }
}
