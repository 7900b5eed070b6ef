//! Binds the address, limits the connections, and sets up each connection for the app. The app,
//! with its middleware from `observe` and `edge`, is built in `server`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Request};
use actix_server::Server;
use actix_service::{IntoServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceFactory, ServiceResponse};
use actix_web::rt::net::TcpStream;
use rustls::ServerConfig;

use crate::http::edge::connection::{self, ConnectionLimits, WorkerConnections};
use crate::http::edge::wire::Wire;

/// File descriptors that are reserved for the store, connections to payment providers and other
/// uses.
const FILES_BESIDE: u64 = 256;

/// The address and the limits of connections.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on; port 0 stands for any free port.
    pub addr: SocketAddr,
    /// How clients are admitted by their certificates; `None` for connections without TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// The number of threads that serve requests (workers); 0 for one per core.
    pub workers: usize,
    /// The maximum number of connections of one worker; 0 for as many as the limit on open files
    /// allows, at most 10,000.
    pub connections_max: usize,
    /// The maximum number of connections that wait to be accepted.
    pub backlog: u32,
    /// The idle timeout of a connection.
    pub keep_alive: Duration,
    /// How long a request head may take to arrive.
    pub head_timeout: Duration,
    /// How long a client may go without reading any of its response.
    pub answer_timeout: Duration,
    /// How long requests in progress may take when the server stops, in seconds.
    pub shutdown_timeout_secs: u64,
}

/// Listens, and serves an app on each worker.
///
/// # Errors
/// The address cannot be bound.
pub fn listen<F, I, S>(options: &Options, app: F) -> io::Result<(SocketAddr, Server)>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<
            Request,
            Config = AppConfig,
            Response = ServiceResponse<BoxBody>,
            Error = Error,
            InitError = (),
        > + 'static,
{
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let workers = if options.workers == 0 { cores } else { options.workers };
    let limits = ConnectionLimits {
        head: options.head_timeout,
        answer: options.answer_timeout,
        connections: connections(options.connections_max, workers, open_files()),
    };
    let listener = TcpListener::bind(options.addr)?;
    backlog(&listener, options.backlog)?;
    let addr = listener.local_addr()?;
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(limits.connections)
        .shutdown_timeout(options.shutdown_timeout_secs)
        .disable_signals();
    let stopping = builder.graceful_shutdown_signal();
    let keep_alive = options.keep_alive;
    let (head, tls) = (limits.head, options.tls.clone());
    let builder = builder.listen("http", listener, move || {
        let (stopping, tls) = (stopping.clone(), tls.clone());
        let (greeting_ends, lines) = (stopping.clone(), WorkerConnections::default());
        let service = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(keep_alive)
            .client_request_timeout(head)
            .client_disconnect_timeout(Duration::from_secs(2))
            // If a client closes its connection, or its sending half, the handler of its request is
            // dropped.
            .h1_allow_half_closed(false)
            .local_addr(addr)
            .on_connect_ext(connection::connected);
        let app = app().into_factory().map_err(|error: Error| error.error_response());
        let app = map_config(app, |()| AppConfig::default());
        fn_service(move |io: TcpStream| {
            let (lines, tls, stopping) = (lines.clone(), tls.clone(), greeting_ends.clone());
            async move {
                let peer = io.peer_addr().ok();
                let greeted = tokio::select! {
                    greeted = Wire::greet(io, tls, peer, head) => greeted,
                    () = stopping.notified() => Err(io::ErrorKind::ConnectionAborted.into()),
                };
                greeted.map(|wire| (lines.accept(wire, limits), peer)).map_err(DispatchError::Io)
            }
        })
        .and_then(service.h1(app))
    })?;
    Ok((addr, builder.run()))
}

/// The lowest limit of connections of a worker, unless the setting is lower.
const CONNECTIONS_MIN: usize = 32;
/// The highest limit of connections of a worker if the setting is 0.
const CONNECTIONS_MAX: usize = 10_000;
/// If a node can have fewer connections than this, the log warns.
const CONNECTIONS_ENOUGH: usize = 500;

/// The limit of connections of a worker: the wanted number, but no more than the limit on open
/// files (`files`) leaves for each worker.
fn connections(wanted: usize, workers: usize, files: Option<u64>) -> usize {
    let max = if wanted == 0 { CONNECTIONS_MAX } else { wanted };
    let Some(files) = files else { return max };
    let beside = FILES_BESIDE.min(files / 4);
    let each = usize::try_from(files - beside).unwrap_or(max) / workers.max(1);
    if each < max && (wanted > 0 || each * workers < CONNECTIONS_ENOUGH) {
        tracing::warn!(
            open_files = files,
            connections = each * workers,
            wanted = max * workers,
            "few connections: raise the limit of open files (ulimit -Hn)"
        );
    }
    each.clamp(CONNECTIONS_MIN.min(max), max)
}

#[cfg(unix)]
fn backlog(listener: &TcpListener, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    Ok(rustix::net::listen(listener, backlog)?)
}

/// Raises the soft limit on open files to the hard limit, and returns it; `None` if there is no
/// limit.
#[cfg(unix)]
#[must_use]
pub fn open_files() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let before = limit.current;
        limit.current = limit.maximum;
        if setrlimit(Resource::Nofile, limit).is_err() {
            return before;
        }
    }
    limit.current
}

#[cfg(not(unix))]
fn backlog(_: &TcpListener, _: u32) -> io::Result<()> {
    Ok(())
}

/// Returns `None`: this system has no such limit.
#[cfg(not(unix))]
#[must_use]
pub fn open_files() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_connections_than_descriptors() {
        assert_eq!(connections(10_000, 2, None), 10_000);
        assert_eq!(connections(10_000, 2, Some(1_000_000)), 10_000);
        assert_eq!(connections(10_000, 2, Some(1_256)), 500);
        assert_eq!(connections(10_000, 2, Some(10)), 32, "whatever the limit says");
        assert_eq!(connections(0, 2, None), 10_000);
        assert_eq!(connections(0, 2, Some(1_000_000)), 10_000);
        assert_eq!(connections(0, 2, Some(20_000)), 9_872);
        assert_eq!(connections(0, 2, Some(1_024)), 384);
        assert_eq!(open_files(), open_files(), "raised once");
    }
}
