//! A sandbox of one's own, clients of it, and a receiver of its webhooks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use kontor::domain::money::{Currency, Money};
use kontor::domain::time::Timestamp;
use kontor::providers::payment::{
    Authorization, AuthorizationStatus, Authorize, Error, Operation, PaymentNotice, Provider,
    WebhookRequest,
};
use kontor::providers::sandbox::{Options, Sandbox};
use kontor_sandbox_psp::Running;
use tempfile::TempDir;

pub const SECRET: &str = "whsec_test";

pub struct Fixture {
    pub dir: TempDir,
    pub running: Running,
    pub client: Sandbox,
}

impl Fixture {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let running = start_in(&dir).await.unwrap();
        let client = Sandbox::new(options(&running)).unwrap();
        Self { dir, running, client }
    }

    /// Stops it, and starts it again on the same folder.
    pub async fn restart(self) -> Self {
        self.running.stop().await;
        let running = start_in(&self.dir).await.unwrap();
        let client = Sandbox::new(options(&running)).unwrap();
        Self { dir: self.dir, running, client }
    }

    pub fn client_of(&self, account: &str) -> Sandbox {
        Sandbox::new(Options { account: account.into(), ..options(&self.running) }).unwrap()
    }

    /// A client that gives up after so many milliseconds.
    pub fn hasty(&self, timeout_ms: u64) -> Sandbox {
        Sandbox::new(Options { timeout_ms, ..options(&self.running) }).unwrap()
    }

    /// Authorizes by `tok_ok`, with the reference as the key.
    pub async fn authorized(&self, reference: &str, amount: i64) -> String {
        match self.client.authorize(&authorize(reference, reference, amount, "tok_ok")).await {
            Ok(Authorization::Authorized { payment, amount: held }) if held == gbp(amount) => {
                payment
            }
            other => panic!("{other:?}"),
        }
    }

    pub async fn until_status(&self, reference: &str, status: AuthorizationStatus) {
        until(async || {
            let payment = self.client.find(reference).await.unwrap()?;
            (payment.status == status).then_some(())
        })
        .await;
    }

    pub async fn set_faults(&self, faults: serde_json::Value) {
        let answer = self.put("/v1/faults", &faults).await;
        assert_eq!(answer.status(), 200);
    }

    pub async fn put(&self, path: &str, body: &serde_json::Value) -> reqwest::Response {
        let url = format!("{}{path}", self.running.url());
        plain().put(url).bearer_auth("shop").json(body).send().await.unwrap()
    }

    pub fn ledger(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("ledger.jsonl")).unwrap()
    }
}

pub async fn start_in(dir: &TempDir) -> Result<Running, kontor_sandbox_psp::Error> {
    let listen = ([127, 0, 0, 1], 0).into();
    kontor_sandbox_psp::start(kontor_sandbox_psp::Options { data: dir.path().into(), listen }).await
}

pub fn options(running: &Running) -> Options {
    Options {
        url: running.url(),
        account: "shop".into(),
        webhook_secret: SECRET.into(),
        ..Options::default()
    }
}

pub fn plain() -> reqwest::Client {
    kontor::providers::install_crypto();
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

pub fn gbp(amount: i64) -> Money {
    Money::new(amount, Currency::GBP)
}

pub fn authorize(reference: &str, key: &str, amount: i64, token: &str) -> Authorize {
    Authorize {
        reference: reference.into(),
        key: key.into(),
        amount: gbp(amount),
        token: token.into(),
    }
}

/// An operation with its reference as the key.
pub fn operation(payment: &str, reference: &str, amount: i64) -> Operation {
    Operation {
        payment: payment.into(),
        reference: reference.into(),
        key: reference.into(),
        amount: gbp(amount),
    }
}

/// The code of a rejection.
pub fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Rejected { code, .. }) => code,
        other => panic!("not rejected: {other:?}"),
    }
}

pub fn unknown<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Unknown(_)))
}

pub fn now() -> Timestamp {
    kontor::actors::engine::clock::Clock::system().now()
}

/// Asks again and again for up to 20 seconds.
pub async fn until<T>(mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < end, "it did not come about in 20 seconds");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[derive(Clone, Debug)]
pub struct Received {
    pub signature: String,
    pub body: Vec<u8>,
    pub at: Instant,
}

/// A webhook that is signed so.
pub fn webhook<'a>(signature: &'a str, body: &'a [u8]) -> WebhookRequest<'a> {
    WebhookRequest {
        method: "POST",
        path: "/",
        query: "",
        headers: vec![("sandbox-signature", signature.as_bytes())],
        body,
    }
}

/// Takes webhooks, but for the first few if asked so.
pub struct Receiver {
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
    server: ServerHandle,
}

struct Inbox {
    received: Arc<Mutex<Vec<Received>>>,
    refusals: AtomicUsize,
}

impl Receiver {
    pub async fn start(refusals: usize) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let inbox = web::Data::new(Inbox {
            received: Arc::clone(&received),
            refusals: AtomicUsize::new(refusals),
        });
        let (ready, started) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app =
                    move || App::new().app_data(inbox.clone()).route("/", web::post().to(take));
                let server = HttpServer::new(app).workers(1).disable_signals();
                let server = server.bind(("127.0.0.1", 0)).unwrap();
                let addr = server.addrs()[0];
                let server = server.run();
                ready.send((addr, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (addr, server) = started.await.unwrap();
        Self { url: format!("http://{addr}/"), received, server }
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Everything that came, checked and read.
    pub fn notices(&self, client: &Sandbox) -> Vec<PaymentNotice> {
        let read = |one: &Received| {
            client.read_webhook(&webhook(&one.signature, &one.body), now()).unwrap()
        };
        self.received().iter().map(read).collect()
    }

    pub async fn until_received(&self, count: usize) -> Vec<Received> {
        until(async || Some(self.received()).filter(|received| received.len() >= count)).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

async fn take(request: HttpRequest, body: Bytes, inbox: web::Data<Inbox>) -> HttpResponse {
    let signature = request.headers().get("Sandbox-Signature").unwrap().to_str().unwrap().into();
    let received = Received { signature, body: body.to_vec(), at: Instant::now() };
    inbox.received.lock().unwrap().push(received);
    let refuse =
        inbox.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    if refuse.is_ok() {
        return HttpResponse::ServiceUnavailable().finish();
    }
    HttpResponse::Ok().finish()
}
