//! Serves received calls: verifies them, limits how many are served at once, and applies the
//! timeout.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use futures_util::StreamExt as _;
use tokio::time::Instant;
use tokio_util::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::seal::{MAC, OUTCOME, Seal, sign_answer, sign_refusal};
use super::{
    ANSWER_BYTES_MAX, CALL_BYTES_MAX, CallFailure, CallMessage, CallRefusal, CallSlot, Calls,
    Handler, IncomingCall, WAITS, Way, subject,
};
use crate::bus::nats::Connection;
use crate::telemetry::security::SecurityEvent;

/// The longest time for which a call is served, whatever its caller's timeout.
pub const LONGEST: Duration = Duration::from_secs(60);
/// The number of bytes of a message that are reserved for its headers.
const HEADERS: usize = 1_024;
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);

/// A call whose headers are verified, and whose body is not read yet.
#[derive(Debug)]
pub struct AnnouncedCall(Seal);

impl Calls {
    /// Accepts calls until stopped. Then the returned task ends when the calls in progress are
    /// answered.
    pub fn serve(&self, handler: Handler, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
        if self.0.handler.set(handler).is_err() {
            tracing::error!("a call handler is registered already");
        }
        let this = self.clone();
        tokio::spawn(async move {
            match &this.0.way {
                Way::Wire { nats: Some(nats), .. } => this.listen(nats, &stop).await,
                Way::Wire { nats: None, .. } | Way::Local(_) => stop.cancelled().await,
            }
            this.0.closed.cancel();
            let under_way = async {
                tokio::join!(
                    this.0.places.acquire_many(this.0.places_max),
                    this.0.waits.acquire_many(WAITS * this.0.places_max),
                )
            };
            if tokio::time::timeout(LONGEST, under_way).await.is_err() {
                tracing::warn!("calls of other nodes were still in progress");
            }
        })
    }

    /// Whether calls are accepted: there is a handler, and serving was not stopped.
    fn is_open(&self) -> bool {
        self.0.handler.get().is_some() && !self.0.closed.is_cancelled()
    }

    /// Verifies the headers of a call that arrives over HTTP, before its body is read.
    ///
    /// # Errors
    /// [`CallRefusal`].
    pub fn admit_http<'a>(
        &self,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<AnnouncedCall, CallRefusal> {
        self.noted(self.announced(header))
    }

    /// Verifies the body of a call that arrived over HTTP.
    ///
    /// # Errors
    /// [`CallRefusal`].
    pub fn admit_body(
        &self,
        call: AnnouncedCall,
        body: Bytes,
    ) -> Result<IncomingCall, CallRefusal> {
        self.noted(self.admit(call, body))
    }

    fn noted<T>(&self, admitted: Result<T, CallRefusal>) -> Result<T, CallRefusal> {
        admitted.inspect_err(|refusal| self.0.metrics.answered("http", refusal.outcome()))
    }

    fn announced<'a>(
        &self,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<AnnouncedCall, CallRefusal> {
        let inner = &self.0;
        let times = (inner.began_at, (inner.now)());
        Seal::read(&inner.key, &inner.node, header, times).map(AnnouncedCall)
    }

    fn admit(
        &self,
        AnnouncedCall(seal): AnnouncedCall,
        body: Bytes,
    ) -> Result<IncomingCall, CallRefusal> {
        if body.len() > CALL_BYTES_MAX {
            return Err(CallRefusal::TooLarge);
        }
        if !seal.covers(&body) {
            return Err(CallRefusal::Unsigned);
        }
        if !self.0.repeats.is_first(seal.id, (self.0.now)()) {
            return Err(CallRefusal::Repeated);
        }
        // The deadline is computed by this node's clock, because clocks differ: the caller waits at
        // most its timeout from now.
        let until = Instant::now() + seal.left.min(LONGEST);
        Ok(seal.into_call(body, until))
    }

    /// Carries out an accepted call.
    ///
    /// # Errors
    /// [`CallFailure`]: the call was refused, or took longer than its caller waits.
    pub async fn answer(
        &self,
        way: &'static str,
        call: IncomingCall,
    ) -> Result<Bytes, CallFailure> {
        let done = self.carry_out(call).await;
        let outcome = match &done {
            Ok(_) => "answered",
            Err(CallFailure::Refused(refusal)) => refusal.outcome(),
            Err(CallFailure::Expired) => "expired",
        };
        self.0.metrics.answered(way, outcome);
        done
    }

    async fn carry_out(&self, call: IncomingCall) -> Result<Bytes, CallFailure> {
        let place = self.place()?;
        let handler = self.0.handler.get().ok_or(CallRefusal::Closed)?;
        let until = call.until;
        tracing::debug!(
            call = call.id,
            from = call.from,
            trace = call.trace,
            "received a call \
                                                                               from another node"
        );
        let answer = tokio::time::timeout_at(until, handler(call, place)).await;
        let answer = answer.map_err(|_| CallFailure::Expired)?;
        if answer.len() > ANSWER_BYTES_MAX {
            tracing::error!(bytes = answer.len(), "the answer to a call is too large");
            return Err(CallFailure::Expired);
        }
        Ok(answer)
    }

    /// The signature of the answer to a call, for the header [`MAC`].
    #[must_use]
    pub fn sign_answer(&self, call: &str, answer: &[u8]) -> String {
        sign_answer(&self.0.key, call, &self.0.node, answer)
    }

    /// The headers of the refusal of a call that was admitted. A call that was not admitted is refused
    /// without a signature: whoever has overheard a call could otherwise make its caller believe
    /// that nothing was done.
    #[must_use]
    pub fn refusal_headers(&self, call: &str, refusal: CallRefusal) -> [(&'static str, String); 2] {
        let outcome = refusal.outcome();
        let signature = sign_refusal(&self.0.key, call, &self.0.node, outcome);
        [(OUTCOME, outcome.to_owned()), (MAC, signature)]
    }

    fn place(&self) -> Result<CallSlot, CallRefusal> {
        if !self.is_open() {
            return Err(CallRefusal::Closed);
        }
        let taken =
            Arc::clone(&self.0.places).try_acquire_owned().map_err(|_| CallRefusal::Busy)?;
        Ok(CallSlot { taken, waits: Arc::clone(&self.0.waits) })
    }

    /// Receives calls from NATS until stopped.
    async fn listen(&self, nats: &Connection, stop: &CancellationToken) {
        loop {
            let subscribed = nats.client().subscribe(subject(&self.0.node)).await;
            let mut calls = match subscribed {
                Ok(calls) => calls,
                Err(error) => {
                    tracing::warn!(%error, "cannot receive calls through NATS");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(SUBSCRIBE_AGAIN) => continue,
                    }
                }
            };
            loop {
                let message = tokio::select! {
                    () = stop.cancelled() => break,
                    message = calls.next() => message,
                };
                match message {
                    Some(message) => self.take(nats, message),
                    None => break,
                }
            }
            if stop.is_cancelled() {
                // After the drain, the server sends no more messages; those that it has already
                // sent are still answered.
                if calls.drain().await.is_ok() && nats.is_up() {
                    while let Some(message) = calls.next().await {
                        self.take(nats, message);
                    }
                }
                return;
            }
        }
    }

    /// Answers a call from NATS in a task of its own.
    fn take(&self, nats: &Connection, message: Message) {
        let Some(reply) = message.reply else {
            return;
        };
        let (this, nats) = (self.clone(), nats.clone());
        let headers = message.headers.unwrap_or_default();
        let header = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
        let admitted = this.receive(header, message.payload);
        tokio::spawn(async move {
            let bytes_max = nats.message_bytes_max().saturating_sub(HEADERS);
            let answer = this.reply("nats", admitted, bytes_max).await;
            let mut headers = async_nats::HeaderMap::new();
            for (name, value) in answer.headers {
                headers.insert(name, value);
            }
            let sent = nats.client().publish_with_headers(reply, headers, answer.body).await;
            if let Err(error) = sent {
                tracing::warn!(%error, "a call was carried out, but its answer cannot be sent");
            }
        });
    }

    /// Verifies a call that has arrived whole.
    pub(in crate::bus) fn receive<'a>(
        &self,
        header: impl Fn(&str) -> Option<&'a str>,
        body: Bytes,
    ) -> Result<IncomingCall, CallRefusal> {
        self.announced(header).and_then(|call| self.admit(call, body))
    }

    /// Carries out a call if it was admitted; returns the answer as it is sent, whose body has at most
    /// `bytes_max`.
    pub(in crate::bus) async fn reply(
        &self,
        way: &'static str,
        admitted: Result<IncomingCall, CallRefusal>,
        bytes_max: usize,
    ) -> CallMessage {
        let call = match admitted {
            Ok(call) => call,
            Err(refusal) => {
                self.0.metrics.answered(way, refusal.outcome());
                if refusal.is_of_stranger() {
                    let about = format!("{}: {refusal}", subject(&self.0.node));
                    SecurityEvent::NodeCallForged.log("anyone", &way.to_uppercase(), &about);
                }
                return without_body(refusal.outcome());
            }
        };
        let id = call.id.clone();
        match self.answer(way, call).await {
            Ok(large) if large.len() > bytes_max => without_body("answer_too_large"),
            Ok(body) => CallMessage { headers: vec![(MAC, self.sign_answer(&id, &body))], body },
            Err(CallFailure::Refused(refusal)) => {
                let headers = self.refusal_headers(&id, refusal).into();
                CallMessage { headers, body: Bytes::new() }
            }
            Err(CallFailure::Expired) => without_body("expired"),
        }
    }
}

/// An answer that only says why there is none.
fn without_body(outcome: &str) -> CallMessage {
    CallMessage { headers: vec![(OUTCOME, outcome.to_owned())], body: Bytes::new() }
}
