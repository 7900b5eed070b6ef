//! The client's IP address: that of its connection or, if the connection comes from a trusted
//! proxy, the address that the proxy reports in `X-Forwarded-For`. From anybody else this header is
//! ignored, because any client can send it. What a trusted proxy reports and cannot be read is an
//! unknown address, never the proxy's own: nobody escapes the limits of guests by it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The maximum number of addresses in `X-Forwarded-For` that are read, from the last one backwards.
const HOPS_MAX: usize = 20;

/// The address of clients whose own is not known: they count as one client, which is public.
const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
/// How often the log says that an address cannot be read, and how many characters it then has.
const WARN_EVERY: Duration = Duration::from_secs(60);
const WARNED_CHARS: usize = 64;

/// A network, such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network(IpNet);

/// A text that is not a network.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither an IP address nor a network such as 10.0.0.0/8")]
pub struct InvalidNetwork(String);

impl Network {
    /// Whether the network contains an address.
    #[must_use]
    pub fn contains(self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| InvalidNetwork(text.to_owned()))
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, InvalidNetwork> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// Proxies that are trusted to report the client's address.
pub struct TrustedProxies(pub Vec<Network>);

impl TrustedProxies {
    /// The client's address.
    #[must_use]
    pub fn client(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map(|addr| addr.ip());
        of(peer, request.headers(), &self.0)
    }
}

/// Whether an address is one of a single client on the Internet. Others are of this machine or of a
/// private network, often of a proxy that is not listed as trusted.
#[must_use]
pub const fn is_public(from: IpAddr) -> bool {
    match from {
        IpAddr::V4(from) => !from.is_loopback() && !from.is_private() && !from.is_link_local(),
        IpAddr::V6(from) => {
            !from.is_loopback() && !from.is_unique_local() && !from.is_unicast_link_local()
        }
    }
}

/// The headers in which proxies say for whom they ask, whether they are trusted or not.
const FORWARDED: [&str; 4] = ["x-forwarded-for", "forwarded", "x-real-ip", "via"];

/// Whether a request comes straight from this machine or a private network, and not through a proxy
/// that stands there.
#[must_use]
pub fn is_from_inside(request: &HttpRequest) -> bool {
    inside(request.peer_addr().map(|addr| addr.ip()), request.headers())
}

fn inside(peer: Option<IpAddr>, headers: &HeaderMap) -> bool {
    let forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
    peer.is_some_and(|ip| !is_public(ip.to_canonical())) && !forwarded
}

/// A client's address, for people: the network of which one client usually has all addresses.
#[must_use]
pub fn shown(from: IpAddr) -> String {
    match from {
        UNKNOWN => "unknown".to_owned(),
        IpAddr::V6(ip) if !ip.is_loopback() => format!("{ip}/64"),
        other => other.to_string(),
    }
}

/// The client's address. If the connection comes from a trusted proxy, it is the last address in
/// `X-Forwarded-For` that is not a trusted proxy's. Of an IPv6 address only the /64 network is
/// kept, because a household usually has all addresses of such a network.
fn of(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let Some(peer) = peer.map(|ip| ip.to_canonical()) else {
        return UNKNOWN;
    };
    let known = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    let mut from = peer;
    if known(peer) && headers.contains_key("x-forwarded-for") {
        let values = headers.get_all("x-forwarded-for");
        let lines: Vec<_> = values.map(|one| String::from_utf8_lossy(one.as_bytes())).collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
        let mut hops = hops.map(str::trim).filter(|hop| !hop.is_empty()).take(HOPS_MAX).peekable();
        if hops.peek().is_none() {
            return unknown("");
        }
        for hop in hops {
            let Some(ip) = read_hop(hop) else {
                return unknown(hop);
            };
            from = ip.to_canonical();
            if !known(from) {
                break;
            }
        }
    }
    client_network(from)
}

/// The address of a hop, which some proxies write with the port.
fn read_hop(hop: &str) -> Option<IpAddr> {
    let bare = || hop.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let with_port = || Some(hop.parse::<SocketAddr>().ok()?.ip());
    hop.parse().ok().or_else(with_port).or_else(|| bare().map(IpAddr::V6))
}

/// The address of a client that a trusted proxy reports as `hop`.
fn unknown(hop: &str) -> IpAddr {
    static WARNED: Mutex<Option<Instant>> = Mutex::new(None);
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
        *warned = Some(Instant::now());
        let read: String = hop.chars().take(WARNED_CHARS).collect();
        tracing::warn!(
            read,
            "a trusted proxy writes what is no address into X-Forwarded-For: such clients count as \
             one; logged once a minute"
        );
    }
    UNKNOWN
}

fn client_network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_trusted_proxies_set_the_client_address() {
        let trusted: Vec<Network> = ["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let from = |peer: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                let name = HeaderName::from_static("x-forwarded-for");
                headers.append(name, HeaderValue::from_str(line).unwrap());
            }
            of(Some(peer.parse().unwrap()), &headers, &trusted).to_string()
        };
        for (peer, lines, expected) in [
            ("9.9.9.9", &["1.1.1.1"][..], "9.9.9.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("::ffff:127.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("127.0.0.1", &["6.6.6.6, 1.1.1.1, 10.1.2.3"], "1.1.1.1"),
            ("127.0.0.1", &["6.6.6.6", "1.1.1.1", "10.1.2.3"], "1.1.1.1"),
            ("127.0.0.1", &["1.1.1.1:4711"], "1.1.1.1"),
            ("127.0.0.1", &["6.6.6.6, 1.1.1.1:80, 10.1.2.3:99"], "1.1.1.1"),
            ("127.0.0.1", &["[2001:db8:1:2::5]:4711"], "2001:db8:1:2::"),
            ("127.0.0.1", &["[2001:db8:1:2::5]"], "2001:db8:1:2::"),
            ("127.0.0.1", &["1.1.1.1, "], "1.1.1.1"),
            ("127.0.0.1", &["6.6.6.6, nobody, 10.1.2.3"], "::"),
            ("127.0.0.1", &["unknown"], "::"),
            ("127.0.0.1", &["6.6.6.6", "1.1.1.1:99999"], "::"),
            ("127.0.0.1", &["6.6.6.6", ""], "6.6.6.6"),
            ("127.0.0.1", &[""], "::"),
            ("::1", &[], "::1"),
            ("127.0.0.1", &["10.1.2.3"], "10.1.2.3"),
            ("fd00::1", &["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::"),
        ] {
            assert_eq!(from(peer, lines), expected, "{peer} {lines:?}");
        }
        assert_eq!(of(None, &HeaderMap::new(), &trusted).to_string(), "::");
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("x-forwarded-for");
        headers.insert(name, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(of(Some("127.0.0.1".parse().unwrap()), &headers, &trusted), UNKNOWN);
        assert!(is_public(UNKNOWN));
    }

    #[test]
    fn people_are_shown_the_network_of_a_client() {
        for (from, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("::1", "::1"),
            ("::", "unknown"),
        ] {
            assert_eq!(shown(from.parse().unwrap()), expected);
        }
    }

    #[test]
    fn what_a_proxy_forwards_is_not_from_inside() {
        for (peer, header, expected) in [
            ("127.0.0.1", None, true),
            ("::1", None, true),
            ("10.1.2.3", None, true),
            ("::ffff:192.168.0.9", None, true),
            ("1.1.1.1", None, false),
            ("::ffff:1.1.1.1", None, false),
            ("2001:db8::1", None, false),
            ("127.0.0.1", Some(("x-forwarded-for", "10.1.2.3")), false),
            ("127.0.0.1", Some(("forwarded", "for=10.1.2.3")), false),
            ("10.1.2.3", Some(("x-real-ip", "")), false),
            ("10.1.2.3", Some(("via", "1.1 varnish")), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some((name, text)) = header {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(text));
            }
            assert_eq!(
                inside(Some(peer.parse().unwrap()), &headers),
                expected,
                "{peer} {header:?}"
            );
        }
        assert!(!inside(None, &HeaderMap::new()));
    }

    #[test]
    fn a_network_is_read_and_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8", "::1", "192.168.1.7"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "a", "1.2.3.4/"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
    }
}
