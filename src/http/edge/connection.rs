//! A connection as the server holds it: its deadlines, and how it is cut.
//!
//! actix times the first head of a connection and nothing after it. Here every head has its time,
//! whoever takes no answer is let go, whoever nothing can be told is cut, and when places get
//! scarce those that rested longest are closed. Bodies have their time in `json_body`, live feeds
//! (`stream`) in `live`. What is said on a connection is not known here.

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
use actix_web::rt::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How much longer than a head's time a connection is kept, so that whoever was too slow with its
/// first one is told so by actix.
const GRACE: Duration = Duration::from_secs(1);

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// How long a head may take.
    pub head: Duration,
    /// How long nothing may be taken of an answer.
    pub answer: Duration,
    /// The most connections of one worker.
    pub connections: usize,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Nothing, since then.
    Rests(Instant),
    /// A head is coming, since then; or the rest of a body that nobody reads.
    Comes(Instant),
    /// A request is being worked on.
    Works,
    /// A live feed, which has deadlines of its own.
    Streams,
}

/// A handle on a connection.
pub struct ConnectionHandle {
    doing: Cell<Doing>,
    stuck: Cell<Option<Instant>>,
    cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl ConnectionHandle {
    /// Cuts the connection, whatever it is waiting for.
    pub fn cut(&self) {
        self.cut.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Leaves its deadlines to a live feed.
    pub fn stream(&self) {
        self.doing.set(Doing::Streams);
    }

    /// Its live feed is over, unless the next request has begun already.
    pub fn rests(&self) {
        if self.doing.get() == Doing::Streams {
            self.doing.set(Doing::Rests(Instant::now()));
        }
    }

    /// A request is being worked on until this is dropped.
    fn works(self: &Rc<Self>) -> Works {
        self.doing.set(Doing::Works);
        Works(self.clone())
    }
}

/// A request that is being worked on.
pub struct Works(Rc<ConnectionHandle>);

impl Drop for Works {
    fn drop(&mut self) {
        if self.0.doing.get() == Doing::Works {
            self.0.doing.set(Doing::Rests(Instant::now()));
        }
    }
}

/// The hold on a request's connection.
pub fn of(request: &HttpRequest) -> Option<Rc<ConnectionHandle>> {
    request.conn_data::<Rc<ConnectionHandle>>().cloned()
}

/// Notes that a request's head has come, and that it is worked on until what this answers is
/// dropped.
pub fn works(request: &HttpRequest) -> Option<Works> {
    request.conn_data::<Rc<ConnectionHandle>>().map(ConnectionHandle::works)
}

/// Keeps a hold on a new connection for its requests.
pub fn connected(line: &ClientConnection, extensions: &mut Extensions) {
    extensions.insert(line.hold());
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
    /// Takes a new connection. When nine tenths of the places are taken, a twentieth is made free:
    /// those who rested longest go.
    pub fn accept(&self, io: TcpStream, limits: ConnectionLimits) -> ClientConnection {
        let hold = Rc::new(ConnectionHandle {
            doing: Cell::new(Doing::Rests(Instant::now())),
            stuck: Cell::new(None),
            cut: Cell::new(false),
            waker: RefCell::new(None),
        });
        let mut held = self.0.borrow_mut();
        let number = held.next;
        held.next += 1;
        if held.all.len() >= limits.connections - limits.connections / 10 {
            held.make_room(limits.connections / 20 + 1);
        }
        held.all.insert(number, Rc::downgrade(&hold));
        drop(held);
        ClientConnection { io, hold, limits, timer: None, of: self.clone(), number }
    }
}

impl Held {
    fn make_room(&self, places: usize) {
        let mut resting: Vec<(Instant, Rc<ConnectionHandle>)> = self
            .all
            .values()
            .filter_map(Weak::upgrade)
            .filter_map(|hold| match hold.doing.get() {
                Doing::Rests(since) | Doing::Comes(since) => Some((since, hold)),
                Doing::Works | Doing::Streams => None,
            })
            .collect();
        resting.sort_by_key(|(since, _)| *since);
        for (_, hold) in resting.into_iter().take(places) {
            hold.cut();
        }
    }
}

/// A client's connection.
pub struct ClientConnection {
    io: TcpStream,
    hold: Rc<ConnectionHandle>,
    limits: ConnectionLimits,
    timer: Option<Pin<Box<Sleep>>>,
    of: WorkerConnections,
    number: u64,
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        self.of.0.borrow_mut().all.remove(&self.number);
    }
}

impl ClientConnection {
    /// The hold on it.
    pub fn hold(&self) -> Rc<ConnectionHandle> {
        self.hold.clone()
    }

    /// Whether it may go on; an error if it was cut, or its time is over.
    fn check(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.hold.cut.get() {
            return Err(Error::new(ErrorKind::ConnectionAborted, "the connection was closed"));
        }
        let mut waker = self.hold.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        let doing = self.hold.doing.get();
        let head = match doing {
            Doing::Comes(since) => Some(since + self.limits.head + GRACE),
            _ => None,
        };
        let answer = self.hold.stuck.get().filter(|_| doing != Doing::Streams);
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
        if buffer.filled().len() > before
            && let Doing::Rests(_) = self.hold.doing.get()
        {
            self.hold.doing.set(Doing::Comes(Instant::now()));
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
            Poll::Ready(_) => self.hold.stuck.set(None),
            Poll::Pending if self.hold.stuck.get().is_none() => {
                self.hold.stuck.set(Some(Instant::now()));
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
    use actix_web::rt::net::TcpListener;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMITS: ConnectionLimits =
        ConnectionLimits { head: Duration::ZERO, answer: Duration::from_secs(1), connections: 10 };

    /// A connection, and its client's end.
    pub async fn pair() -> (ClientConnection, TcpStream) {
        among(&WorkerConnections::default()).await
    }

    async fn among(lines: &WorkerConnections) -> (ClientConnection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (lines.accept(listener.accept().await.unwrap().0, LIMITS), client)
    }

    /// Reads a connection until it is over; how it ended.
    pub async fn drive(mut line: ClientConnection) -> Option<ErrorKind> {
        loop {
            match line.read(&mut [0; 64]).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(error.kind()),
            }
        }
    }

    #[actix_web::test]
    async fn every_head_has_its_time() {
        let (line, mut client) = pair().await;
        let hold = line.hold();
        let mut driven = actix_web::rt::spawn(drive(line));
        drop(hold.works());
        client.write_all(b"GET /").await.unwrap();
        assert_eq!((&mut driven).await.unwrap(), Some(ErrorKind::TimedOut));

        let (line, mut client) = pair().await;
        let works = line.hold().works();
        client.write_all(b"a body").await.unwrap();
        drop(client);
        assert_eq!(drive(line).await, None, "what is worked on has its time elsewhere");
        drop(works);
    }

    #[actix_web::test]
    async fn whoever_takes_nothing_is_let_go() {
        let (mut line, _client) = pair().await;
        let much = vec![0; 64 << 20];
        assert_eq!(line.write_all(&much).await.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[actix_web::test]
    async fn those_who_rested_longest_make_room() {
        let lines = WorkerConnections::default();
        let mut all = Vec::new();
        for _ in 0..9 {
            all.push(among(&lines).await);
        }
        let works = all[0].0.hold().works();
        all[1].0.hold().stream();
        assert!(all.iter().all(|(line, _)| !line.hold.cut.get()));
        let _tenth = among(&lines).await;
        let cut: Vec<bool> = all.iter().map(|(line, _)| line.hold.cut.get()).collect();
        assert_eq!(cut.iter().position(|cut| *cut), Some(2), "{cut:?}");
        assert_eq!(cut.iter().filter(|cut| **cut).count(), 1);
        drop((works, all));
        assert_eq!(lines.0.borrow().all.len(), 1);
    }
}
