//! A client's connection: its deadlines, and how it is closed.
//!
//! actix limits the time of a connection's first request head only. Here every head has a deadline.
//! A connection is also closed if its client reads nothing of an answer for too long, or if another
//! part of the server closes it ([`ConnectionHandle::cut`]); and when a worker comes near its limit
//! of connections, the ones that have had no request in progress for longest are closed. The
//! deadlines of bodies are in `json_body`, those of live feeds in `live`. This module does not
//! parse requests; the ends of their lines are checked in `head_lines`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future as _;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::head_lines::HeadLines;
use super::wire::Wire;

/// How long after the deadline of a request head the connection is closed. actix has the same
/// deadline for the first head of a connection, and needs this time to answer it with 408.
const GRACE: Duration = Duration::from_secs(1);

/// The deadlines of a connection, and the limit of connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// How long a request head may take to arrive.
    pub head: Duration,
    /// How long a client may read nothing of an answer.
    pub answer: Duration,
    /// The maximum number of connections of one worker.
    pub connections: usize,
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    /// Idle, since this instant.
    Idle(Instant),
    /// Receiving bytes while no request is in progress, since this instant: a request head, or the
    /// rest of a body that was not read.
    Receiving(Instant),
    /// A request is in progress.
    Busy,
    /// The connection serves a live feed, which has deadlines of its own.
    Streaming,
}

/// A handle to a connection.
pub struct ConnectionHandle {
    state: Cell<ConnectionState>,
    write_blocked_since: Cell<Option<Instant>>,
    cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl ConnectionHandle {
    /// Closes the connection at once.
    pub fn cut(&self) {
        self.cut.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Marks the connection as serving a live feed: it has no deadlines here any more.
    pub fn stream(&self) {
        self.state.set(ConnectionState::Streaming);
    }

    /// Marks the connection as idle after its live feed has ended, unless the next request has
    /// begun already.
    pub fn end_stream(&self) {
        if self.state.get() == ConnectionState::Streaming {
            self.state.set(ConnectionState::Idle(Instant::now()));
        }
    }

    /// Marks a request as in progress until the guard is dropped.
    fn works(self: &Rc<Self>) -> Works {
        self.state.set(ConnectionState::Busy);
        Works(self.clone())
    }
}

/// Marks a request as in progress until it is dropped.
pub struct Works(Rc<ConnectionHandle>);

impl Drop for Works {
    fn drop(&mut self) {
        if self.0.state.get() == ConnectionState::Busy {
            self.0.state.set(ConnectionState::Idle(Instant::now()));
        }
    }
}

/// The handle to a request's connection.
pub fn of(request: &HttpRequest) -> Option<Rc<ConnectionHandle>> {
    request.conn_data::<Rc<ConnectionHandle>>().cloned()
}

/// Marks a request, whose head has been received, as in progress until the returned guard is
/// dropped.
pub fn works(request: &HttpRequest) -> Option<Works> {
    request.conn_data::<Rc<ConnectionHandle>>().map(ConnectionHandle::works)
}

/// Makes a new connection's handle available to its requests.
pub fn connected(connection: &ClientConnection, extensions: &mut Extensions) {
    extensions.insert(connection.handle());
}

/// The connections of one worker.
#[derive(Clone, Default)]
pub struct WorkerConnections(Rc<RefCell<Held>>);

#[derive(Default)]
struct Held {
    next: u64,
    all: HashMap<u64, Weak<ConnectionHandle>>,
}

impl WorkerConnections {
    /// Accepts a new connection. From nine tenths of the limit on, a twentieth of the limit is
    /// freed: the connections that have had no request in progress for longest are closed.
    pub fn accept(&self, io: Wire, limits: ConnectionLimits) -> ClientConnection {
        let handle = Rc::new(ConnectionHandle {
            state: Cell::new(ConnectionState::Idle(Instant::now())),
            write_blocked_since: Cell::new(None),
            cut: Cell::new(false),
            waker: RefCell::new(None),
        });
        let mut held = self.0.borrow_mut();
        let number = held.next;
        held.next += 1;
        if held.all.len() >= limits.connections - limits.connections / 10 {
            held.make_room(limits.connections / 20 + 1);
        }
        held.all.insert(number, Rc::downgrade(&handle));
        drop(held);
        let lines = HeadLines::default();
        ClientConnection { io, handle, limits, timer: None, lines, of: self.clone(), number }
    }
}

impl Held {
    fn make_room(&self, places: usize) {
        let mut resting: Vec<(Instant, Rc<ConnectionHandle>)> = self
            .all
            .values()
            .filter_map(Weak::upgrade)
            .filter_map(|handle| match handle.state.get() {
                ConnectionState::Idle(since) | ConnectionState::Receiving(since) => {
                    Some((since, handle))
                }
                ConnectionState::Busy | ConnectionState::Streaming => None,
            })
            .collect();
        resting.sort_by_key(|(since, _)| *since);
        for (_, handle) in resting.into_iter().take(places) {
            handle.cut();
        }
    }
}

/// A client's connection.
pub struct ClientConnection {
    io: Wire,
    handle: Rc<ConnectionHandle>,
    limits: ConnectionLimits,
    timer: Option<Pin<Box<Sleep>>>,
    lines: HeadLines,
    of: WorkerConnections,
    number: u64,
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        self.of.0.borrow_mut().all.remove(&self.number);
    }
}

impl ClientConnection {
    /// The handle to this connection.
    pub fn handle(&self) -> Rc<ConnectionHandle> {
        self.handle.clone()
    }

    /// Returns an error if the connection was closed by its handle, or if a deadline has passed;
    /// otherwise wakes the task at the next deadline.
    fn check(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.handle.cut.get() {
            return Err(Error::new(ErrorKind::ConnectionAborted, "the connection was closed"));
        }
        let mut waker = self.handle.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        let state = self.handle.state.get();
        let head = match state {
            ConnectionState::Receiving(since) => Some(since + self.limits.head + GRACE),
            _ => None,
        };
        let answer =
            self.handle.write_blocked_since.get().filter(|_| state != ConnectionState::Streaming);
        let answer = answer.map(|since| since + self.limits.answer);
        let Some(until) = head.into_iter().chain(answer).min() else {
            return Ok(());
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        if timer.as_mut().poll(cx).is_ready() {
            return Err(Error::new(ErrorKind::TimedOut, "the connection exceeded a deadline"));
        }
        Ok(())
    }
}

impl AsyncRead for ClientConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if self.handle.state.get() != ConnectionState::Streaming {
            self.lines.read(&mut buffer.filled_mut()[before..]);
        }
        if buffer.filled().len() > before
            && let ConnectionState::Idle(_) = self.handle.state.get()
        {
            self.handle.state.set(ConnectionState::Receiving(Instant::now()));
        }
        self.check(cx)?;
        polled
    }
}

impl AsyncWrite for ClientConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        match &polled {
            Poll::Ready(_) => self.handle.write_blocked_since.set(None),
            Poll::Pending if self.handle.write_blocked_since.get().is_none() => {
                self.handle.write_blocked_since.set(Some(Instant::now()));
            }
            Poll::Pending => {}
        }
        self.check(cx)?;
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
pub(in crate::http) mod tests {
    use actix_web::rt::net::{TcpListener, TcpStream};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMITS: ConnectionLimits =
        ConnectionLimits { head: Duration::ZERO, answer: Duration::from_secs(1), connections: 10 };

    /// A connection, and its client's end.
    pub async fn pair() -> (ClientConnection, TcpStream) {
        among(&WorkerConnections::default()).await
    }

    async fn among(connections: &WorkerConnections) -> (ClientConnection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let wire = Wire::Plain(listener.accept().await.unwrap().0);
        (connections.accept(wire, LIMITS), client)
    }

    /// Reads a connection until it ends; returns its error.
    pub async fn drive(mut connection: ClientConnection) -> Option<ErrorKind> {
        loop {
            match connection.read(&mut [0; 64]).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(error.kind()),
            }
        }
    }

    #[actix_web::test]
    async fn every_request_head_has_a_deadline() {
        let (connection, mut client) = pair().await;
        let handle = connection.handle();
        let mut driven = actix_web::rt::spawn(drive(connection));
        drop(handle.works());
        client.write_all(b"GET /").await.unwrap();
        assert_eq!((&mut driven).await.unwrap(), Some(ErrorKind::TimedOut));

        let (connection, mut client) = pair().await;
        let works = connection.handle().works();
        client.write_all(b"a body").await.unwrap();
        drop(client);
        assert_eq!(drive(connection).await, None, "what is worked on has its time elsewhere");
        drop(works);
    }

    #[actix_web::test]
    async fn client_that_reads_no_answer_is_closed() {
        let (mut connection, _client) = pair().await;
        let much = vec![0; 64 << 20];
        assert_eq!(connection.write_all(&much).await.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[actix_web::test]
    async fn longest_idle_connections_are_closed_first() {
        let connections = WorkerConnections::default();
        let mut all = Vec::new();
        for _ in 0..9 {
            all.push(among(&connections).await);
        }
        let works = all[0].0.handle().works();
        all[1].0.handle().stream();
        assert!(all.iter().all(|(connection, _)| !connection.handle.cut.get()));
        let _tenth = among(&connections).await;
        let cut: Vec<bool> =
            all.iter().map(|(connection, _)| connection.handle.cut.get()).collect();
        assert_eq!(cut.iter().position(|cut| *cut), Some(2), "{cut:?}");
        assert_eq!(cut.iter().filter(|cut| **cut).count(), 1);
        drop((works, all));
        assert_eq!(connections.0.borrow().all.len(), 1);
    }
}
