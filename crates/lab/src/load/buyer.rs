//! The simulated clients' requests, and the answers that they got.
//!
//! Requests are built with `format!`, and only the needed fields of answers are parsed, borrowed
//! from the received bytes. `pace` starts the flows.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::answer::{CartAnswer, OrderAnswer, code_of, refused_outcome};
use super::check::{ReportedOutcome, ServerAnswer};
use super::echo;
use super::id::{CartId, OrderId};
use super::measure::{End, Recorder, RequestStep};
use super::setup::Goods;
use super::wire::{HttpLink, PreparedRequest, RequestFault, RequestTarget};

/// The pause of a client that cannot connect.
const NO_SERVER_PAUSE: Duration = Duration::from_millis(100);
const CARTS: &str = "/v1/store/carts";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The kind of a flow. A flow is a sequence of requests of one simulated client; it is unrelated to
/// the flows in kontor's `actors::flows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScenarioKind {
    /// Fills a cart and checks out.
    Checkout,
    /// Fills a cart and abandons it.
    Leave,
    /// Reads a page.
    Browse,
    /// Posts a document to an echo server.
    Echo,
}

/// The distribution of flows.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Weights of browsing, abandoned carts, and checkouts.
    pub weights: [u32; 3],
    /// Only echoes.
    pub echo: bool,
}

impl Mix {
    /// Only checkouts.
    pub const CHECKOUT: Self = Self { weights: [0, 0, 1], echo: false };

    fn draw(&self, random: &mut SmallRng) -> ScenarioKind {
        if self.echo {
            return ScenarioKind::Echo;
        }
        let [browse, leave, checkout] = self.weights;
        let place = random.random_range(0..(browse + leave + checkout).max(1));
        match place {
            _ if place < browse => ScenarioKind::Browse,
            _ if place < browse + leave => ScenarioKind::Leave,
            _ => ScenarioKind::Checkout,
        }
    }
}

/// How buyers check out.
#[derive(Clone, Debug)]
pub struct CheckoutOptions {
    /// The payment token.
    pub token: String,
    /// The value of `Prefer`, `wait=N`.
    pub prefer: HeaderValue,
    /// Whether they fill their cart with three requests instead of one.
    pub stepwise: bool,
}

impl Default for CheckoutOptions {
    fn default() -> Self {
        let prefer = HeaderValue::from_static("wait=5");
        Self { token: "tok_ok".to_owned(), prefer, stepwise: false }
    }
}

/// State shared by all clients of a run, which are tasks on one thread.
pub struct LoadRun {
    /// The name of the run: the `reference` of its carts, and the prefix of their idempotency keys.
    pub name: String,
    /// The server's address.
    pub place: Rc<RequestTarget>,
    /// Its products.
    pub goods: Goods,
    /// How buyers check out.
    pub checkout_options: CheckoutOptions,
    /// The distribution of flows.
    pub mix: Mix,
    /// The measurements.
    pub recorder: RefCell<Recorder>,
    /// What the server has answered about each order.
    pub answers: RefCell<Vec<ServerAnswer>>,
    /// The number of carts so far.
    pub carts: Cell<u64>,
}

impl LoadRun {
    /// The number of the next cart.
    pub fn next_cart(&self) -> u64 {
        self.carts.set(self.carts.get() + 1);
        self.carts.get()
    }
}

/// The fields of a cart that a checkout needs.
#[derive(Clone, Debug)]
pub struct FilledCart {
    /// Its id.
    pub id: CartId,
    /// Its token, as the value of `Authorization`.
    pub token: HeaderValue,
    /// Its total, in minor units.
    pub total: i64,
    /// The number of its lines.
    pub lines: u32,
    /// Its number in the run.
    pub number: u64,
}

/// A cart's token as the value of `Authorization`.
fn bearer(token: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("Bearer {token}")).ok()
}

/// A flow that failed; it has been counted.
struct Broken;

/// One client with its connection.
pub struct LoadBuyer {
    run: Rc<LoadRun>,
    link: HttpLink,
    random: SmallRng,
}

impl LoadBuyer {
    /// A client that is not connected yet.
    #[must_use]
    pub fn new(run: Rc<LoadRun>, random: SmallRng) -> Self {
        Self { link: HttpLink::new(run.place.clone()), run, random }
    }

    /// Connects.
    ///
    /// # Errors
    /// [`RequestFault`].
    pub async fn connect(&mut self) -> Result<(), RequestFault> {
        self.link.connect().await
    }

    /// Runs one flow that should have started at `due`; latencies are measured from then.
    pub async fn flow(mut self, due: Instant) -> Self {
        self.run.recorder.borrow_mut().start(due, Instant::now());
        let kind = self.run.mix.draw(&mut self.random);
        // A failure is counted where it happens.
        let _counted = match kind {
            ScenarioKind::Checkout => self.buy(due).await,
            ScenarioKind::Leave => self.fill(due).await.map(|_| ()),
            ScenarioKind::Browse => self.browse(due).await,
            ScenarioKind::Echo => self.echo(due).await,
        };
        self
    }

    async fn buy(&mut self, due: Instant) -> Result<(), Broken> {
        let filled = self.fill(due).await;
        let confirmed = match filled {
            Ok(cart) => self.check_out(cart, Instant::now()).await,
            Err(Broken) => false,
        };
        self.run.recorder.borrow_mut().whole(due, Instant::now(), confirmed);
        Ok(())
    }

    /// Creates a cart of two lines that is ready for checkout: with one request, or with three
    /// ([`CheckoutOptions::stepwise`]).
    async fn fill(&mut self, due: Instant) -> Result<FilledCart, Broken> {
        let (first, second) = self.run.goods.pair(&mut self.random);
        let lines =
            format!(r#"[{{"sku":"{first}","quantity":1}},{{"sku":"{second}","quantity":1}}]"#);
        if !self.run.checkout_options.stepwise {
            return self.make_cart(&lines, due).await;
        }
        let run = self.run.clone();
        let number = run.next_cart();
        let body = format!(r#"{{"currency":"GBP","reference":"{}"}}"#, run.name);
        let made = self.ask(Method::POST, CARTS, body)?;
        let cart = self.cart(RequestStep::CreateCart, made, due, (number, None)).await?;
        let token = cart.token;
        let body = format!(r#"{{"lines":{lines}}}"#);
        let path = format!("{CARTS}/{}/lines", cart.id);
        let lines = self.ask_as(&token, Method::POST, &path, body)?;
        let of = (number, Some(token.clone()));
        self.cart(RequestStep::AddLines, lines, Instant::now(), of.clone()).await?;
        let body = format!("{{{}}}", self.details(number));
        let path = format!("{CARTS}/{}", cart.id);
        let details = self.ask_as(&token, Method::PATCH, &path, body)?;
        self.cart(RequestStep::SetDetails, details, Instant::now(), of).await
    }

    /// Creates a complete cart with one request.
    async fn make_cart(&mut self, lines: &str, due: Instant) -> Result<FilledCart, Broken> {
        let run = self.run.clone();
        let number = run.next_cart();
        let body = format!(
            r#"{{"currency":"GBP","reference":"{}","lines":{lines},{}}}"#,
            run.name,
            self.details(number)
        );
        let made = self.ask(Method::POST, CARTS, body)?;
        self.cart(RequestStep::CreateCart, made, due, (number, None)).await
    }

    /// Creates a cart with one unit of one SKU.
    pub async fn cart_of(&mut self, sku: &str) -> Option<FilledCart> {
        let lines = format!(r#"[{{"sku":"{sku}","quantity":1}}]"#);
        self.make_cart(&lines, Instant::now()).await.ok()
    }

    fn details(&self, number: u64) -> String {
        let LoadRun { name, goods, .. } = &*self.run;
        let delivery = &goods.delivery;
        format!(
            r#""email":"b{number}@{name}.example","delivery_option":"{delivery}","shipping_address":{{"name":"Buyer {number}","line1":"{number} Market Street","city":"London","postal_code":"EC1A 1BB","country":"GB"}}"#
        )
    }

    /// Sends a request that is answered with a cart: a new one, whose token is in the answer, or the
    /// one whose token is given.
    async fn cart(
        &mut self,
        step: RequestStep,
        ask: PreparedRequest,
        due: Instant,
        (number, token): (u64, Option<HeaderValue>),
    ) -> Result<FilledCart, Broken> {
        self.answer(step, ask, due).await?;
        let read = serde_json::from_slice::<CartAnswer<'_>>(self.link.body()).ok();
        let filled = read.and_then(|cart| {
            let lines = u32::try_from(cart.lines.len()).ok()?;
            let id = cart.id.parse().ok()?;
            let token = token.or_else(|| bearer(cart.token?))?;
            Some(FilledCart { id, token, total: cart.totals.total.amount, lines, number })
        });
        filled.ok_or_else(|| self.unreadable())
    }

    /// Checks a cart out; returns whether the order is confirmed.
    pub async fn check_out(&mut self, cart: FilledCart, due: Instant) -> bool {
        let FilledCart { id, token, total, lines, number } = cart;
        let card = &self.run.checkout_options.token;
        let body = format!(
            r#"{{"payment":{{"provider":"sandbox","token":"{card}"}},"expected_total":{{"amount":{total},"currency":"GBP"}}}}"#
        );
        let path = format!("{CARTS}/{id}/checkout");
        let key = HeaderValue::from_str(&format!("{}-{number}", self.run.name));
        let (Ok(mut ask), Ok(key)) = (self.ask_as(&token, Method::POST, &path, body), key) else {
            return false;
        };
        ask.headers_mut().insert(IDEMPOTENCY_KEY, key);
        ask.headers_mut().insert(PREFER, self.run.checkout_options.prefer.clone());
        let mut answer =
            ServerAnswer { order: OrderId(id.0), total, lines, outcome: ReportedOutcome::Nothing };
        let status = self.send(RequestStep::Checkout, ask, due).await;
        match status {
            Some(201 | 202) => match serde_json::from_slice::<OrderAnswer<'_>>(self.link.body()) {
                Ok(order) => {
                    answer.outcome = if status == Some(201) {
                        ReportedOutcome::Confirmed
                    } else {
                        ReportedOutcome::Undecided
                    };
                    let same = order.id.parse() == Ok(answer.order)
                        && order.total.amount == total
                        && order.lines.len() == lines as usize;
                    if !same {
                        answer.outcome = ReportedOutcome::Otherwise;
                    }
                }
                Err(_) => {
                    self.unreadable();
                }
            },
            Some(status) => match refused_outcome(status, self.link.body()) {
                Some(outcome) => answer.outcome = outcome,
                None => return false,
            },
            None => {}
        }
        self.run.answers.borrow_mut().push(answer);
        let confirmed = answer.outcome == ReportedOutcome::Confirmed;
        if confirmed {
            self.run.recorder.borrow_mut().confirmed(Instant::now());
        }
        confirmed
    }

    async fn browse(&mut self, due: Instant) -> Result<(), Broken> {
        let goods = &self.run.goods;
        let mut token = None;
        let (step, path) = match self.random.random_range(0..10) {
            0..3 => {
                let page = self.random.random_range(0..goods.pages.len().max(1));
                let after = goods.pages.get(page).map_or("", String::as_str);
                (RequestStep::ListProducts, format!("/v1/store/products?limit=20{after}"))
            }
            3..8 => {
                let sku = goods.sku(&mut self.random);
                (RequestStep::ReadProduct, format!("/v1/store/products/{sku}"))
            }
            _ => {
                let place = self.random.random_range(0..goods.carts.len().max(1));
                let cart = goods.carts.get(place);
                token = cart.and_then(|(_, token)| bearer(token));
                let cart = cart.map_or("", |(id, _)| id.as_str());
                (RequestStep::ReadCart, format!("{CARTS}/{cart}"))
            }
        };
        let mut ask = self.ask(Method::GET, &path, String::new())?;
        if let Some(token) = token {
            ask.headers_mut().insert(AUTHORIZATION, token);
        }
        self.answer(step, ask, due).await
    }

    async fn echo(&mut self, due: Instant) -> Result<(), Broken> {
        let number = self.run.next_cart();
        let body = echo::document(number);
        let ask = self.ask(Method::POST, "", body)?;
        self.answer(RequestStep::Echo, ask, due).await
    }

    /// A request with the token of a cart.
    fn ask_as(
        &self,
        token: &HeaderValue,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<PreparedRequest, Broken> {
        let mut ask = self.ask(method, path, body)?;
        ask.headers_mut().insert(AUTHORIZATION, token.clone());
        Ok(ask)
    }

    fn ask(&self, method: Method, path: &str, body: String) -> Result<PreparedRequest, Broken> {
        let place = self.link.place();
        let uri = match (place.path.as_str(), path) {
            ("", "") => "/".to_owned(),
            ("", path) => path.to_owned(),
            (base, path) => format!("{base}{path}"),
        };
        let request = Request::builder().method(method).uri(uri).header(HOST, place.host());
        let request = if body.is_empty() {
            request
        } else {
            request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        };
        request.body(Full::new(Bytes::from(body))).map_err(|_| Broken)
    }

    /// Sends a request that must be answered with 2xx.
    async fn answer(
        &mut self,
        step: RequestStep,
        ask: PreparedRequest,
        due: Instant,
    ) -> Result<(), Broken> {
        match self.send(step, ask, due).await {
            Some(200..=299) => Ok(()),
            _ => Err(Broken),
        }
    }

    /// Sends a request and counts its outcome; returns its status if there is one.
    async fn send(&mut self, step: RequestStep, ask: PreparedRequest, due: Instant) -> Option<u16> {
        let outcome = self.link.send(ask).await;
        let now = Instant::now();
        let code;
        let (status, end) = match outcome {
            Ok(status @ 200..=299) => (Some(status), End::Good),
            Ok(status) => {
                code = code_of(status, self.link.body());
                (Some(status), End::Refused(&code))
            }
            Err(fault) => (None, End::Unanswered(fault.into())),
        };
        self.run.recorder.borrow_mut().request(step, due, now, end);
        if matches!(outcome, Err(RequestFault::Connect)) {
            tokio::time::sleep(NO_SERVER_PAUSE).await;
        }
        status
    }

    fn unreadable(&self) -> Broken {
        *self.run.recorder.borrow_mut().unanswered.entry("unreadable").or_default() += 1;
        Broken
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn flows_are_drawn_by_their_weights() {
        let mut random = SmallRng::seed_from_u64(1);
        let mix = Mix { weights: [90, 8, 2], echo: false };
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            match mix.draw(&mut random) {
                ScenarioKind::Browse => counts[0] += 1,
                ScenarioKind::Leave => counts[1] += 1,
                ScenarioKind::Checkout => counts[2] += 1,
                ScenarioKind::Echo => panic!("no echo is in it"),
            }
        }
        assert!((8_900..9_100).contains(&counts[0]), "{counts:?}");
        assert!((150..250).contains(&counts[2]), "{counts:?}");
    }
}
