//! Webhooks: signed, sent by a small pool, retried until they are acknowledged, and faulty on
//! request. Undelivered ones are lost when the process ends; a real provider's would be late, so
//! receivers must use lookups anyway.

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

/// Webhooks that are sent at once.
const POOL: usize = 16;
/// The most queued webhooks; more are dropped.
const WAITING_MAX: usize = 65_536;
const TRIES_MAX: u32 = 8;
/// The delay after the first failed attempt; each later one is twice as long.
const BACKOFF: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest delay of a shuffled webhook, in milliseconds.
const SHUFFLE_MS_MAX: u64 = 250;

/// A change of a payment to be sent to its account.
pub struct PaymentNews<'a> {
    pub account: &'a str,
    pub kind: &'static str,
    pub payment: &'a PaymentView,
    pub operation: Option<&'a OperationView>,
    /// Sent only once this position is durable.
    pub position: LedgerPosition,
    /// Sent only after this delay, in addition to that of the faults.
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

/// The queue and the pool.
pub struct WebhookSender {
    client: reqwest::Client,
    ledger: Arc<SandboxLedger>,
    waiting: Mutex<BinaryHeap<Job>>,
    more: Notify,
    serial: AtomicU64,
    background: Handle,
}

impl WebhookSender {
    /// Starts the pool on the current runtime.
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

    /// Sends news by the faults of an account. An early webhook is returned, to be awaited.
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

    /// One attempt; the next one is queued if it fails.
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

    /// Whether the endpoint acknowledged it.
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
    // Another thread may have installed one; the result says only that.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = || {
        reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT)
            .tcp_nodelay(true)
    };
    // Without the system's certificates, endpoints on http can still be reached.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

/// The hex hmac-sha256 of `{secs}.{body}`.
fn sign(secret: &str, secs: i64, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(secs.to_string().as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    Some(hex::encode(mac.finalize().into_bytes()))
}

impl Ord for Job {
    /// The earliest due one is the greatest, because the heap returns the greatest.
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
