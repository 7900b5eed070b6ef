//! The bytes of a client's connection: in clear, or in TLS with a certificate of the client.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::telemetry::security::SecurityEvent;

/// The bytes of a connection.
pub enum Wire {
    /// In clear.
    Plain(TcpStream),
    /// In TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Greets a new client, in TLS if there is a configuration for it.
    ///
    /// # Errors
    /// The client does not speak TLS, has no certificate that is admitted, or is too slow.
    pub async fn greet(
        io: TcpStream,
        tls: Option<Arc<ServerConfig>>,
        from: Option<SocketAddr>,
        patience: Duration,
    ) -> Result<Self> {
        io.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(Self::Plain(io)) };
        let Ok(greeted) = timeout(patience, TlsAcceptor::from(tls).accept(io)).await else {
            return Err(ErrorKind::TimedOut.into());
        };
        greeted.map(|io| Self::Tls(Box::new(io))).inspect_err(|error| log_refusal(error, from))
    }
}

/// Logs that a client was not admitted, unless it said nothing.
fn log_refusal(error: &Error, from: Option<SocketAddr>) {
    if error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) {
        let from = from.map_or_else(|| "unknown".to_owned(), |from| from.ip().to_string());
        SecurityEvent::NodeConnectionRefused.log("anyone", &from, &error.to_string());
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        match &mut *self {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buffer),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        match &mut *self {
            Self::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut *self {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut *self {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
