//! A line that can be cut: a TCP proxy between one node and one server.
//!
//! What deliberately is not here: delays and damage. A cut line is a network that swallows
//! everything, a reset one a network that refuses.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The bytes that are on their way at most, one way.
const BUFFER: usize = 16 * 1024;

/// What a proxy does with the bytes that it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyMode {
    /// It carries it.
    #[default]
    Whole,
    /// It takes connections, keeps those it has, and carries nothing: what is under way arrives
    /// when the line is whole again.
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
    /// Opens a whole line to a server, on a free port of the loopback.
    ///
    /// # Errors
    /// The system's.
    pub async fn to(server: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(watch::Sender::new(ProxyMode::Whole));
        let work = tokio::spawn(accept_connections(listener, server, state.clone()));
        Ok(Self { addr, state, work })
    }

    /// Where a client finds it.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// An address of the server with this line's in its place.
    #[must_use]
    pub fn instead(&self, url: &str, of: SocketAddr) -> String {
        url.replacen(&of.to_string(), &self.addr.to_string(), 1)
    }

    /// Cuts it, resets it, or makes it whole.
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
            // A connection that is gone before it is taken is nothing to carry.
            taken = listener.accept() => if let Ok((client, _)) = taken {
                carried.spawn(carry(client, server, state.subscribe()));
            },
            Some(_) = carried.join_next() => {}
        }
    }
}

/// Carries one connection until a side ends it, or the line is reset.
async fn carry(mut client: TcpStream, server: SocketAddr, state: watch::Receiver<ProxyMode>) {
    let mut reset = state.clone();
    let mut other = None;
    let ended = tokio::select! {
        ended = both_ways(&mut client, &mut other, server, &state) => ended,
        _ = reset.wait_for(|state| *state == ProxyMode::Reset) => None,
    };
    if ended.is_none() {
        // Closed like this, a connection is reset.
        let _ = client.set_zero_linger();
        let _ = other.map(|other| other.set_zero_linger());
    }
}

/// Carries until both sides have ended; `None` if the server cannot be reached.
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

/// Carries bytes one way until they end. Who was cut off hears nothing, not even the end.
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

/// Waits until the line is whole; `None` if it is gone.
async fn whole(state: &watch::Receiver<ProxyMode>) -> Option<()> {
    state.clone().wait_for(|state| *state == ProxyMode::Whole).await.ok().map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A server that sends everything back.
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
    async fn a_line_that_is_cut_carries_nothing_until_it_is_whole_again() {
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
    async fn a_reset_ends_old_and_new_connections_until_it_is_whole_again() {
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
    async fn the_end_of_a_server_is_the_end_of_the_line() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let line = TcpProxy::to(free).await.unwrap();
        let mut stream = TcpStream::connect(line.addr()).await.unwrap();
        assert!(answer(&mut stream).await.is_err());
    }
}
