//! What is wrong with TLS to a NATS server. The client library says only that it failed, so the server is
//! greeted once more, up to the point where it would ask who we are.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::domain::tls_files::TlsFiles;
use crate::tls;

const PORT: u16 = 4_222;
/// How long a server may take for everything. One that refuses a certificate says so at once.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most bytes of a server's description of itself.
const INFO_BYTES_MAX: u64 = 64 << 10;

/// The first fault of TLS to these servers, if there is one.
pub(super) async fn fault(servers: &[Url], files: &TlsFiles) -> Option<String> {
    let config = Arc::new(tls::read("bus.tls", files).ok()?.client()?);
    for server in servers {
        let greeted = timeout(PATIENCE, greet(server, Arc::clone(&config))).await;
        if let Ok(Err(error)) = greeted
            && error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>())
        {
            return Some(error.to_string());
        }
    }
    None
}

/// Greets a server, and waits until it ends the connection.
async fn greet(server: &Url, config: Arc<rustls::ClientConfig>) -> io::Result<()> {
    let host = server.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
    let wire = TcpStream::connect((host, server.port().unwrap_or(PORT))).await?;
    let mut wire = BufReader::new(wire);
    (&mut wire).take(INFO_BYTES_MAX).read_line(&mut String::new()).await?;
    let mut wire = TlsConnector::from(config).connect(name, wire).await?;
    wire.read(&mut [0]).await.map(drop)
}
