//! Webhooks: signed, sent by a pool of 16 tasks, tried up to 8 times until they are acknowledged,
//! and dropped, duplicated or delayed on request. Undelivered webhooks are lost when the process
//! ends. A real provider would deliver them late, so a receiver needs lookups in any case.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering as Memory};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Error;
use super::clock::{new_id, now};
use super::fact::{Endpoint, OperationView, PaymentView};
use super::faults::{Faults, happens};
use super::ledger::{LedgerPosition, SandboxLedger, locked};

/// The number of webhooks that are sent concurrently.
const POOL: usize = 16;
/// The maximum number of queued webhooks; further ones are dropped.
const WAITING_MAX: usize = 65_536;
const TRIES_MAX: u32 = 8;
/// The delay after the first failed attempt to send a webhook; it doubles with each further
/// failure.
const BACKOFF: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest random delay of a webhook that is sent out of order, in milliseconds.
const SHUFFLE_MS_MAX: u64 = 250;

/// A change of a payment that is to be reported by webhook.
pub struct PaymentNews<'a> {
    pub account: &'a str,
    pub kind: &'static str,
    pub payment: &'a PaymentView,
    pub operation: Option<&'a OperationView>,
    /// The webhook is sent only after this position is durable.
    pub position: LedgerPosition,
    /// The webhook is sent only after this delay, in addition to the delay of the faults.
    pub delay: Duration,
}

struct Event {
    account: String,
    body: String,
    position: LedgerPosition,
}

struct Job {
    due: Instant,
    serial: u64,
    tries: u32,
    event: Arc<Event>,
}

/// The queue of webhooks, and the tasks that send them.
pub struct WebhookSender {
    client: reqwest::Client,
    ledger: Arc<SandboxLedger>,
    waiting: Mutex<BinaryHeap<Job>>,
    more: Notify,
    serial: AtomicU64,
    background: Handle,
}

impl WebhookSender {
    /// Starts the tasks that send webhooks, on the current runtime.
    pub fn start(ledger: Arc<SandboxLedger>) -> Result<Arc<Self>, Error> {
        let webhooks = Arc::new(Self {
            client: client().map_err(|error| Error::Client(error.to_string()))?,
            ledger,
            waiting: Mutex::default(),
            more: Notify::new(),
            serial: AtomicU64::new(0),
            background: Handle::current(),
        });
        for _ in 0..POOL {
            let worker = Arc::clone(&webhooks);
            webhooks.background.spawn(async move {
                loop {
                    let job = worker.next().await;
                    worker.deliver(job).await;
                }
            });
        }
        Ok(webhooks)
    }

    /// Queues the webhook of a change, subject to the faults of the account. With `webhook_early`,
    /// it is sent at once, and the returned task must be awaited before the call is answered.
    pub fn announce(
        self: &Arc<Self>,
        news: &PaymentNews<'_>,
        faults: &Faults,
    ) -> Option<JoinHandle<()>> {
        if happens(faults.webhook_drop) {
            return None;
        }
        let event = Arc::new(Event::of(news));
        if happens(faults.webhook_duplicate) {
            self.push(late(news, faults), 0, Arc::clone(&event));
        }
        if !faults.webhook_early {
            self.push(late(news, faults), 0, event);
            return None;
        }
        let job = self.job(Duration::ZERO, 0, event);
        let webhooks = Arc::clone(self);
        Some(self.background.spawn(async move { webhooks.deliver(job).await }))
    }

    fn job(&self, delay: Duration, tries: u32, event: Arc<Event>) -> Job {
        let serial = self.serial.fetch_add(1, Memory::Relaxed);
        Job { due: Instant::now() + delay, serial, tries, event }
    }

    fn push(&self, delay: Duration, tries: u32, event: Arc<Event>) {
        let job = self.job(delay, tries, event);
        let mut waiting = locked(&self.waiting);
        if waiting.len() >= WAITING_MAX {
            tracing::warn!("the queue of webhooks is full: one was dropped");
            return;
        }
        waiting.push(job);
        drop(waiting);
        self.more.notify_one();
    }

    async fn next(&self) -> Job {
        loop {
            let due = {
                let mut waiting = locked(&self.waiting);
                let due = waiting.peek().map(|job| job.due);
                if due.is_some_and(|due| due <= Instant::now())
                    && let Some(job) = waiting.pop()
                {
                    return job;
                }
                due
            };
            match due {
                None => self.more.notified().await,
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.more.notified() => {}
                },
            }
        }
    }

    /// Tries to deliver a webhook once; if that fails, the next attempt is queued.
    async fn deliver(&self, job: Job) {
        if self.ledger.durable(job.event.position).await.is_err() {
            return;
        }
        let endpoint =
            self.ledger.enter(|entry| Ok(entry.book.endpoint(&job.event.account).cloned()));
        let (Ok(Some(endpoint)), _) = endpoint else { return };
        if self.send(&endpoint, &job.event.body).await {
            return;
        }
        let tries = job.tries + 1;
        if tries < TRIES_MAX {
            self.push(BACKOFF * 2_u32.pow(job.tries), tries, job.event);
        } else {
            tracing::warn!(tries, "a webhook was given up");
        }
    }

    /// Sends a webhook, and returns whether the endpoint acknowledged it.
    async fn send(&self, endpoint: &Endpoint, body: &str) -> bool {
        let signed_secs = now().secs();
        let Some(tag) = sign(&endpoint.secret, signed_secs, body) else { return false };
        let request = self
            .client
            .post(&endpoint.url)
            .header("Content-Type", "application/json")
            .header("Sandbox-Signature", format!("t={signed_secs},v1={tag}"))
            .body(body.to_owned());
        request.send().await.is_ok_and(|response| response.status().is_success())
    }
}

impl Event {
    fn of(news: &PaymentNews<'_>) -> Self {
        let mut data = json!({ "payment": news.payment });
        if let (Some(operation), Some(data)) = (news.operation, data.as_object_mut()) {
            data.insert("operation".into(), json!(operation));
        }
        let body = json!({
            "id": new_id("evt"),
            "type": news.kind,
            "created_at": now().to_string(),
            "account": news.account,
            "data": data,
        });
        Self { account: news.account.to_owned(), body: body.to_string(), position: news.position }
    }
}

fn late(news: &PaymentNews<'_>, faults: &Faults) -> Duration {
    let shuffled = if faults.webhook_shuffle { rand::random_range(0..=SHUFFLE_MS_MAX) } else { 0 };
    news.delay + Duration::from_millis(faults.webhook_late_ms + shuffled)
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    // An error only means that another thread has installed a provider.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = || {
        reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT)
            .tcp_nodelay(true)
    };
    // If the system has no certificates, http endpoints can still be reached.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

/// Returns the HMAC-SHA256 of `{secs}.{body}`, in hex.
fn sign(secret: &str, secs: i64, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(secs.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    Some(hex::encode(mac.finalize().into_bytes()))
}

impl Ord for Job {
    /// The job that is due first is the greatest, because the heap returns its greatest element.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.serial).cmp(&(self.due, self.serial))
    }
}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Job {}
