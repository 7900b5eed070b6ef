//! A connection that can be cut: a TCP proxy between one node and one server.
//!
//! Deliberately not here: delays and corruption. While cut, it drops all traffic silently; while
//! reset, it refuses connections.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The most bytes in transit, in one direction.
const BUFFER: usize = 16 * 1024;

/// The state of a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyMode {
    /// It forwards.
    #[default]
    Whole,
    /// It accepts and keeps connections, and forwards nothing: bytes in transit arrive when it is
    /// restored.
    Cut,
    /// It resets all connections, old and new.
    Reset,
}

/// A TCP proxy to one address; it ends when this is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    addr: SocketAddr,
    state: Arc<watch::Sender<ProxyMode>>,
    work: JoinHandle<()>,
}

impl TcpProxy {
    /// Opens a forwarding proxy to a server, on a free loopback port.
    ///
    /// # Errors
    /// The system's error.
    pub async fn to(server: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(watch::Sender::new(ProxyMode::Whole));
        let work = tokio::spawn(accept_connections(listener, server, state.clone()));
        Ok(Self { addr, state, work })
    }

    /// The proxy's address for clients.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the URL with the server's address `of` replaced by the proxy's address.
    #[must_use]
    pub fn instead(&self, url: &str, of: SocketAddr) -> String {
        url.replacen(&of.to_string(), &self.addr.to_string(), 1)
    }

    /// Cuts, resets or restores it.
    pub fn set(&self, state: ProxyMode) {
        self.state.send_replace(state);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.work.abort();
    }
}

async fn accept_connections(
    listener: TcpListener,
    server: SocketAddr,
    state: Arc<watch::Sender<ProxyMode>>,
) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            // A connection that fails before it is accepted is ignored.
            taken = listener.accept() => if let Ok((client, _)) = taken {
                carried.spawn(carry(client, server, state.subscribe()));
            },
            Some(_) = carried.join_next() => {}
        }
    }
}

/// Forwards one connection until a side closes it, or the proxy is reset.
async fn carry(mut client: TcpStream, server: SocketAddr, state: watch::Receiver<ProxyMode>) {
    let mut reset = state.clone();
    let mut other = None;
    let ended = tokio::select! {
        ended = both_ways(&mut client, &mut other, server, &state) => ended,
        _ = reset.wait_for(|state| *state == ProxyMode::Reset) => None,
    };
    if ended.is_none() {
        // With this option, closing a connection resets it.
        let _ = client.set_zero_linger();
        let _ = other.map(|other| other.set_zero_linger());
    }
}

/// Forwards until both sides have closed; `None` if the server is unreachable.
async fn both_ways(
    client: &mut TcpStream,
    other: &mut Option<TcpStream>,
    server: SocketAddr,
    state: &watch::Receiver<ProxyMode>,
) -> Option<()> {
    whole(state).await?;
    let other = other.insert(TcpStream::connect(server).await.ok()?);
    let _ = (client.set_nodelay(true), other.set_nodelay(true));
    let ((asks, gets), (answers, hears)) = (client.split(), other.split());
    tokio::join!(one_way(asks, hears, state), one_way(answers, gets, state));
    Some(())
}

/// Forwards bytes in one direction until they end. While cut, not even the end is forwarded.
async fn one_way(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    state: &watch::Receiver<ProxyMode>,
) -> Option<()> {
    let mut bytes = vec![0; BUFFER];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        whole(state).await?;
        to.write_all(&bytes[..count]).await.ok()?;
    }
    whole(state).await?;
    to.shutdown().await.ok()
}

/// Waits until the proxy forwards; `None` if it has been dropped.
async fn whole(state: &watch::Receiver<ProxyMode>) -> Option<()> {
    state.clone().wait_for(|state| *state == ProxyMode::Whole).await.ok().map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// An echo server.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        addr
    }

    async fn answer(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.read_u8().await
    }

    #[tokio::test]
    async fn cut_proxy_holds_bytes_until_restored() {
        let line = TcpProxy::to(echo().await).await.unwrap();
        let mut old = TcpStream::connect(line.addr()).await.unwrap();
        old.write_u8(1).await.unwrap();
        assert_eq!(answer(&mut old).await.unwrap(), 1);
        line.set(ProxyMode::Cut);
        let mut new = TcpStream::connect(line.addr()).await.unwrap();
        for stream in [&mut old, &mut new] {
            stream.write_u8(2).await.unwrap();
            let waited = tokio::time::timeout(Duration::from_millis(100), answer(stream)).await;
            assert!(waited.is_err(), "{waited:?}");
        }
        line.set(ProxyMode::Whole);
        for stream in [&mut old, &mut new] {
            assert_eq!(answer(stream).await.unwrap(), 2);
        }
    }

    #[tokio::test]
    async fn reset_proxy_resets_connections_until_restored() {
        let line = TcpProxy::to(echo().await).await.unwrap();
        let mut old = TcpStream::connect(line.addr()).await.unwrap();
        old.write_u8(1).await.unwrap();
        assert_eq!(answer(&mut old).await.unwrap(), 1);
        line.set(ProxyMode::Reset);
        let kind = answer(&mut old).await.unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
        let mut new = TcpStream::connect(line.addr()).await.unwrap();
        assert!(answer(&mut new).await.is_err());
        line.set(ProxyMode::Whole);
        let mut new = TcpStream::connect(line.addr()).await.unwrap();
        new.write_u8(3).await.unwrap();
        assert_eq!(answer(&mut new).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn proxy_closes_when_server_closes() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let line = TcpProxy::to(free).await.unwrap();
        let mut stream = TcpStream::connect(line.addr()).await.unwrap();
        assert!(answer(&mut stream).await.is_err());
    }
}
