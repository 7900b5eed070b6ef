//! Where a request comes from: the address of its connection, or what a trusted proxy says.
//! Nobody else is believed: `X-Forwarded-For` is what any client can write.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The most addresses of a chain of proxies that are looked at.
const HOPS_MAX: usize = 20;

/// Addresses that begin alike, such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network(IpNet);

/// A text is no network.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither an IP address nor a network such as 10.0.0.0/8")]
pub struct InvalidNetwork(String);

impl Network {
    /// Whether an address is of this network.
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

/// Proxies whose word is taken for where a request comes from.
pub struct TrustedProxies(pub Vec<Network>);

impl TrustedProxies {
    /// Where a request comes from.
    #[must_use]
    pub fn client(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map(|addr| addr.ip());
        of(peer, request.headers(), &self.0)
    }
}

/// Where a request comes from: an address, or the /64 that one household has of IPv6. Of a chain
/// of proxies it is the last address that none of the trusted ones has.
fn of(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let Some(peer) = peer.map(|ip| ip.to_canonical()) else {
        return IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    };
    let known = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    let mut from = peer;
    if known(peer) {
        let lines: Vec<&str> =
            headers.get_all("x-forwarded-for").filter_map(|value| value.to_str().ok()).collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
        for hop in hops.take(HOPS_MAX) {
            let Ok(ip) = hop.trim().parse::<IpAddr>() else {
                break;
            };
            from = ip.to_canonical();
            if !known(from) {
                break;
            }
        }
    }
    household(from)
}

fn household(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) => {
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
    fn only_a_trusted_proxy_is_believed() {
        let trusted: Vec<Network> = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"]
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
            ("127.0.0.1", &["6.6.6.6, nobody, 10.1.2.3"], "10.1.2.3"),
            ("127.0.0.1", &["10.1.2.3"], "10.1.2.3"),
            ("fd00::1", &["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::"),
        ] {
            assert_eq!(from(peer, lines), expected, "{peer} {lines:?}");
        }
        assert_eq!(of(None, &HeaderMap::new(), &trusted).to_string(), "::");
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
