//! The outbox of a socket: a queue of frames, and a writer that passes one frame at a time to the
//! connection. The writer waits until the connection has taken a frame before it passes the next
//! one.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;
use actix_ws::{CloseCode, CloseReason, Session};
use bytestring::ByteString;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::message::{Bye, ServerMessage};
use crate::http::edge::connection::ConnectionHandle;

/// The maximum number of frames that are queued for a socket. The hub adds changes only when the
/// queue is empty.
pub const WAITING_MAX: usize = 40;
/// How long closing a socket may take before its connection is cut.
pub const GOING: Duration = Duration::from_secs(2);
/// How long closing a socket may take when the server stops.
pub const GOING_AT_STOP: Duration = Duration::from_millis(500);

/// Why the server closes a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The server stops.
    Stopping,
    /// The caller's key was revoked, or the session ended.
    Ended,
    /// The client violated the protocol, in this way.
    Policy(&'static str),
    /// Nothing was received, or nothing could be sent.
    Silent,
    /// The client closed it.
    Left,
}

impl Farewell {
    fn parts(self) -> Option<(CloseCode, &'static str)> {
        match self {
            Self::Stopping => Some((CloseCode::Away, "the server is stopping")),
            Self::Ended => Some((CloseCode::Other(4401), "the session or key has ended")),
            Self::Policy(reason) => Some((CloseCode::Policy, reason)),
            Self::Silent => Some((CloseCode::Policy, "no answer to pings for too long")),
            Self::Left => None,
        }
    }
}

/// Counts the chunks of a response's body that the connection has taken.
#[derive(Default)]
pub struct BodyGate {
    taken: Cell<u64>,
    gone: Cell<bool>,
    changed: Notify,
}

/// The watched body of a socket's response.
struct Watched {
    body: BoxBody,
    gate: Rc<BodyGate>,
}

/// Wraps a response's body so that the gate shows what the connection has taken of it.
pub fn watch(body: BoxBody) -> (BoxBody, Rc<BodyGate>) {
    let gate = Rc::<BodyGate>::default();
    (BoxBody::new(Watched { body, gate: gate.clone() }), gate)
}

impl MessageBody for Watched {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_next(cx);
        if polled.is_ready() {
            self.gate.taken.set(self.gate.taken.get() + 1);
            self.gate.changed.notify_waiters();
        }
        polled
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.gate.gone.set(true);
        self.gate.changed.notify_waiters();
    }
}

impl BodyGate {
    /// Waits until more than `seen` chunks were taken, or the body was dropped because the
    /// connection is closed.
    async fn past(&self, seen: u64) {
        loop {
            let changed = self.changed.notified();
            if self.taken.get() > seen || self.gone.get() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the connection is closed.
    pub async fn gone(&self) {
        loop {
            let changed = self.changed.notified();
            if self.gone.get() {
                return;
            }
            changed.await;
        }
    }
}

/// The writer of one socket.
pub struct SocketWriter {
    /// The socket.
    pub session: Session,
    /// Shows what the connection has taken.
    pub gate: Rc<BodyGate>,
    /// A handle to the connection.
    pub handle: Option<Rc<ConnectionHandle>>,
    /// The queue of frames.
    pub frames: mpsc::Receiver<ByteString>,
    /// Pings of the client, which are answered with pongs.
    pub pings: mpsc::Receiver<Bytes>,
    /// Receives the reason to close the socket.
    pub farewell: oneshot::Receiver<Farewell>,
    /// The period of pings.
    pub ping_every: Duration,
    /// How long the connection may take nothing of a frame before the socket is closed.
    pub patience: Duration,
}

enum Next {
    Frame(ByteString),
    Ping,
    Pong(Bytes),
    End(Farewell),
}

impl SocketWriter {
    /// Sends frames, pings and pongs until the socket is to be closed.
    pub async fn run(mut self) {
        let mut pings = tokio::time::interval_at(Instant::now() + self.ping_every, self.ping_every);
        let farewell = loop {
            let next = tokio::select! {
                biased;
                end = &mut self.farewell => Next::End(end.unwrap_or(Farewell::Left)),
                Some(bytes) = self.pings.recv() => Next::Pong(bytes),
                _ = pings.tick() => Next::Ping,
                frame = self.frames.recv() => match frame {
                    Some(frame) => Next::Frame(frame),
                    None => Next::End(Farewell::Left),
                },
            };
            let seen = self.gate.taken.get();
            let sent = match next {
                Next::Frame(frame) => self.session.text(frame).await,
                Next::Ping => self.session.ping(b"").await,
                Next::Pong(bytes) => self.session.pong(&bytes).await,
                Next::End(farewell) => break farewell,
            };
            if sent.is_err() {
                break Farewell::Left;
            }
            tokio::select! {
                biased;
                end = &mut self.farewell => break end.unwrap_or(Farewell::Left),
                taken = timeout(self.patience, self.gate.past(seen)) => if taken.is_err() {
                    break Farewell::Silent;
                },
            }
        };
        self.end(farewell).await;
    }

    /// Sends the reason and a close frame; cuts the connection if it is not closed in time.
    async fn end(mut self, farewell: Farewell) {
        let going = if farewell == Farewell::Stopping { GOING_AT_STOP } else { GOING };
        let until = Instant::now() + going;
        let close = async {
            let reason = farewell.parts().map(|(code, text)| (code, Some(text)));
            if let Some((_, Some(reason))) = reason {
                let _gone = self.session.text(ServerMessage::Bye(Bye { reason }).frame()).await;
            }
            let reason = reason
                .map(|(code, text)| CloseReason { code, description: text.map(str::to_owned) });
            let _gone = self.session.close(reason).await;
        };
        let _late = timeout_at(until, close).await;
        if timeout_at(until, self.gate.gone()).await.is_err()
            && let Some(handle) = &self.handle
        {
            handle.cut();
        }
    }
}
