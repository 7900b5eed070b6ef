//! The in-process bus, for several nodes in one process, in tests and the simulator. Tests can
//! inject the failures of a network.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{broadcast, oneshot};
use tokio::time::Instant;

use super::calls::{ANSWER_BYTES_MAX, CallError, CallMessage, Calls};
use super::notices::SignedNotice;

/// The number of notices by which a receiver may lag before it misses some.
const NOTICES: usize = 256;

/// How a call is delivered. By default, the request and the answer arrive at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fate {
    /// Delay of the request.
    pub way: Duration,
    /// The request is lost, and its caller times out.
    pub lost: bool,
    /// The request arrives a second time, after this delay.
    pub again: Option<Duration>,
    /// Delay of the answer.
    pub back: Duration,
    /// The answer is lost.
    pub unanswered: bool,
}

/// A simulated network connection of a node.
#[async_trait]
pub trait CallLink: Send + Sync + 'static {
    /// How the node's next call is delivered.
    fn fate(&self) -> Fate;

    /// Returns at once while the node runs. After the node has stopped, never returns.
    async fn open(&self);
}

/// Someone on the network between nodes, who hears every message, and may answer calls before the
/// node that is called does.
pub trait Eavesdropper: Send + Sync + 'static {
    /// Hears a call to a node; an answer to it arrives instead of the node's, which carries the call
    /// out all the same.
    fn hears_call(&self, to: &str, call: &CallMessage) -> Option<CallMessage>;

    /// Hears a node's answer.
    fn hears_answer(&self, answer: &CallMessage);

    /// Hears a notice.
    fn hears_notice(&self, notice: &SignedNotice);
}

/// The registry through which nodes of one process find each other; clones share it.
#[derive(Clone)]
pub struct Board {
    inner: Arc<Inner>,
    line: Option<Arc<dyn CallLink>>,
}

/// A node that serves calls, and the connection over which it answers.
#[derive(Clone)]
struct Callee {
    calls: Calls,
    line: Option<Arc<dyn CallLink>>,
}

struct Inner {
    nodes: Mutex<HashMap<String, Callee>>,
    faults: Mutex<CallFaults>,
    eavesdropper: Mutex<Option<Arc<dyn Eavesdropper>>>,
    notices: broadcast::Sender<SignedNotice>,
}

#[derive(Default)]
struct CallFaults {
    cut: HashSet<String>,
    mute: HashSet<String>,
}

impl Default for Board {
    fn default() -> Self {
        let inner = Inner {
            nodes: Mutex::default(),
            faults: Mutex::default(),
            eavesdropper: Mutex::default(),
            notices: broadcast::Sender::new(NOTICES),
        };
        Self { inner: Arc::new(inner), line: None }
    }
}

impl Board {
    /// The same registry for use by one node, whose calls and answers go over the connection
    /// `line`.
    #[must_use]
    pub fn over(&self, line: Arc<dyn CallLink>) -> Self {
        Self { inner: self.inner.clone(), line: Some(line) }
    }

    /// Disconnects a node from all others (`off`), or connects it again. While disconnected, it
    /// neither makes nor receives calls.
    pub fn cut(&self, node: &str, off: bool) {
        let mut faults = self.faults();
        if off {
            faults.cut.insert(node.to_owned());
        } else {
            faults.cut.remove(node);
        }
    }

    /// Makes all answers of a node be lost (`on`), or stops that. The node still carries calls out.
    pub fn mute(&self, node: &str, on: bool) {
        let mut faults = self.faults();
        if on {
            faults.mute.insert(node.to_owned());
        } else {
            faults.mute.remove(node);
        }
    }

    /// Removes a node, as if its process had died.
    pub fn remove(&self, node: &str) {
        self.nodes().remove(node);
    }

    pub(super) fn add(&self, node: &str, calls: &Calls) {
        let callee = Callee { calls: calls.clone(), line: self.line.clone() };
        self.nodes().insert(node.to_owned(), callee);
    }

    /// Lets someone listen to, and answer, what nodes send each other from now on.
    pub fn overheard_by(&self, eavesdropper: Arc<dyn Eavesdropper>) {
        *self.inner.eavesdropper.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(eavesdropper);
    }

    fn eavesdropper(&self) -> Option<Arc<dyn Eavesdropper>> {
        self.inner.eavesdropper.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a call to a node, as whoever reaches the network can; `None` if there is no such node.
    pub async fn send_call(&self, to: &str, call: CallMessage) -> Option<CallMessage> {
        let callee = self.nodes().get(to).cloned()?;
        Some(callee.answer(call).await)
    }

    /// Sends a notice to all nodes, as whoever reaches the network can.
    pub fn send_notice(&self, notice: SignedNotice) {
        // Without nodes, nobody hears it.
        let _none = self.inner.notices.send(notice);
    }

    /// A node sends a notice.
    pub(super) fn tell(&self, notice: SignedNotice) {
        if let Some(eavesdropper) = self.eavesdropper() {
            eavesdropper.hears_notice(&notice);
        }
        self.send_notice(notice);
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<SignedNotice> {
        self.inner.notices.subscribe()
    }

    pub(super) fn is_cut(&self, node: &str) -> bool {
        self.faults().cut.contains(node)
    }

    /// Carries a call to a node; returns what came in answer to it.
    pub(super) async fn call(
        &self,
        from: &str,
        to: &str,
        call: CallMessage,
        until: Instant,
    ) -> Result<CallMessage, CallError> {
        self.open().await;
        let fate = self.line.as_ref().map(|line| line.fate()).unwrap_or_default();
        let done = self.carry((from, to), call, until, fate).await;
        self.open().await;
        done
    }

    async fn open(&self) {
        if let Some(line) = &self.line {
            line.open().await;
        }
    }

    async fn carry(
        &self,
        (from, to): (&str, &str),
        call: CallMessage,
        until: Instant,
        fate: Fate,
    ) -> Result<CallMessage, CallError> {
        let node = || to.to_owned();
        let unreachable = |why: &str| {
            let why = why.to_owned();
            CallError::Unreachable { node: node(), why }
        };
        let unknown = |why: &str| {
            let why = why.to_owned();
            CallError::Unknown { node: node(), why }
        };
        pause(fate.way).await;
        if self.is_cut(from) || self.is_cut(to) {
            return Err(unreachable("the node is cut off"));
        }
        let callee = self.nodes().get(to).cloned();
        let callee = callee.ok_or_else(|| unreachable("the node does not exist"))?;
        let eavesdropper = self.eavesdropper();
        let forged = eavesdropper.as_ref().and_then(|one| one.hears_call(to, &call));
        if fate.lost {
            tokio::time::sleep_until(until).await;
            return Err(unknown("no answer in time"));
        }
        if let Some(later) = fate.again {
            let (callee, call) = (callee.clone(), call.clone());
            tokio::spawn(async move {
                pause(later).await;
                drop(callee.answer(call).await);
            });
        }
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            // The caller may have stopped waiting.
            let _gone = answer.send(callee.answer(call).await);
        });
        if let Some(forged) = forged {
            return Ok(forged);
        }
        let answer = match tokio::time::timeout_at(until, answered).await {
            Err(_) => return Err(unknown("no answer in time")),
            Ok(Err(_)) => return Err(unknown("the connection broke off")),
            Ok(Ok(answer)) => answer,
        };
        if let Some(eavesdropper) = eavesdropper {
            eavesdropper.hears_answer(&answer);
        }
        pause(fate.back).await;
        if fate.unanswered || self.faults().mute.contains(to) {
            return Err(unknown("the answer was lost"));
        }
        Ok(answer)
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, HashMap<String, Callee>> {
        self.inner.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, CallFaults> {
        self.inner.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Callee {
    async fn answer(&self, call: CallMessage) -> CallMessage {
        let admitted = self.calls.receive(|name| call.header(name), call.body.clone());
        let answer = self.calls.reply("local", admitted, ANSWER_BYTES_MAX).await;
        if let Some(line) = &self.line {
            line.open().await;
        }
        answer
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
