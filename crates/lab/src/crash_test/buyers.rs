//! Buyers who shop until the server dies or they are stopped, record their answers, and check
//! afterwards whether these are still true.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use kontor_client::{Client, Error};
use serde_json::{Value, json};

/// Concurrent buyers, and concurrent checks.
const BUYERS: usize = 24;
/// The number of products.
const SKUS: usize = 4;
/// The buyers' payment tokens, used in turn.
const TOKENS: [&str; 4] = ["tok_ok", "tok_ok", "tok_500", "tok_declined"];
/// Units of each SKU that are received before every round: fewer than are wanted.
const UNITS: i64 = 60;
/// The status that is recorded for an answer after which the request may be repeated.
const LATER: u16 = 503;
/// The pause of a buyer after a failure.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// The unit price.
const PRICE: i64 = 1_000;
/// Orders of earlier rounds that are checked again after every kill.
const AGAIN: usize = 500;
/// The longest time until an order has finished.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most violations that are described.
const NAMED_MAX: usize = 20;

/// A buyer's knowledge of its checkout.
#[derive(Clone, Debug)]
struct Try {
    key: String,
    /// The cart's token.
    token: String,
    /// The payment token.
    card: &'static str,
    sku: String,
    quantity: i64,
    /// The status of the last answer, if any.
    answered: Option<u16>,
    /// The order number, once it was answered.
    number: Option<i64>,
}

impl Try {
    /// Whether the outcome was answered.
    fn settled(&self) -> bool {
        matches!(self.answered, Some(201 | 402 | 409))
    }
}

/// All buyers of a run.
#[derive(Debug, Default)]
pub struct Buyers {
    tries: Mutex<BTreeMap<String, Try>>,
    violations: Mutex<Vec<String>>,
    violations_total: AtomicU64,
    /// Orders that were read and compared with their buyers' answers.
    looks: AtomicU64,
    /// Checkouts that were answered as confirmed.
    confirmed: AtomicU64,
    /// Checkouts that were refused for lack of stock.
    refused: AtomicU64,
    /// Requests without an answer, or with a failure.
    failed: AtomicU64,
    /// The last order of earlier rounds that was checked again.
    looked_at: Mutex<String>,
}

impl Buyers {
    /// Adds a few units of stock, fewer than the buyers want, so that some find it sold out.
    ///
    /// # Errors
    /// The server's error.
    pub async fn fill(&self, admin: &Client) -> Result<(), Error> {
        for number in 0..SKUS {
            let sku = format!("P{number}");
            let prices = json!([{"amount": PRICE, "currency": "GBP"}]);
            let product = json!({"name": "Lamp", "sku": sku, "prices": prices});
            let call = admin.put::<Value>(&format!("/v1/admin/products/{sku}"));
            call.json(&product).send().await?;
            let path = format!("/v1/admin/stock/{sku}/main/receipts");
            admin.post::<Value>(&path).json(&json!({"quantity": UNITS})).send().await?;
        }
        Ok(())
    }

    /// All buyers shop until the server dies.
    pub async fn shop(&self, anybody: &Client, round: usize) {
        let all = (0..BUYERS).map(|buyer| self.shop_alone(anybody, round, buyer, |served| served));
        join_all(all).await;
    }

    /// Some buyers shop, whatever happens, until `stop` is set.
    pub async fn shop_on(&self, anybody: &Client, round: usize, buyers: usize, stop: &AtomicBool) {
        let go_on = |_| !stop.load(Ordering::Relaxed);
        let all = (0..buyers).map(|buyer| self.shop_alone(anybody, round, buyer, go_on));
        join_all(all).await;
    }

    /// One buyer, who checks out one cart after the other as long as `go_on` returns true. Its
    /// argument is whether the last checkout was answered.
    async fn shop_alone(
        &self,
        anybody: &Client,
        round: usize,
        buyer: usize,
        go_on: impl Fn(bool) -> bool,
    ) {
        for number in 0.. {
            let served = self.buy(anybody, (round, buyer, number)).await;
            if !served {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            if !go_on(served) {
                return;
            }
            if !served {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    /// Fills a cart and checks out; returns whether there was an answer.
    async fn buy(&self, anybody: &Client, (round, buyer, number): (usize, usize, usize)) -> bool {
        let sku = format!("P{}", (round + buyer + number) % SKUS);
        let quantity = if number % 5 == 0 { 2 } else { 1 };
        let Some((cart, token)) = make_cart(anybody, &sku, quantity).await else { return false };
        let card = TOKENS[(buyer + number + number / SKUS) % TOKENS.len()];
        let key = format!("key-{round}-{buyer}-{number}");
        let new = Try { key, token, card, sku, quantity, answered: None, number: None };
        self.tries().insert(cart.clone(), new);
        self.checkout(anybody, &cart).await.is_some_and(|status| status < 500)
    }

    /// Sends or repeats the checkout of a cart; `None` if there was no answer.
    async fn checkout(&self, anybody: &Client, cart: &str) -> Option<u16> {
        let (key, token, card) = {
            let tries = self.tries();
            let one = tries.get(cart)?;
            (one.key.clone(), one.token.clone(), one.card)
        };
        let body = json!({"payment": {"provider": "sandbox", "token": card}});
        let path = format!("/v1/store/carts/{cart}/checkout");
        let call = anybody.post::<Value>(&path).token(&token).idempotency_key(&key);
        let call = call.prefer_wait(20).json(&body);
        let (status, number) = match call.send().await {
            Ok(answer) => (answer.status, answer.body["number"].as_i64()),
            // This is also the answer while the first request is still in progress.
            Err(error @ Error::Problem(_)) if error.retryable() => (LATER, None),
            Err(Error::Problem(problem)) => (problem.status, None),
            Err(_) => return None,
        };
        match status {
            201 => drop(self.confirmed.fetch_add(1, Ordering::Relaxed)),
            409 => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        if let Some(one) = self.tries().get_mut(cart) {
            one.answered = Some(status);
            one.number = one.number.or(number);
        }
        Some(status)
    }

    /// The check after a kill: unanswered checkouts are repeated with their idempotency keys;
    /// answered orders of the last two rounds, and some of the earlier ones, must equal their
    /// answers.
    pub async fn check(&self, anybody: &Client, admin: &Client, round: usize) {
        let carts: Vec<String> = {
            let tries = self.tries();
            let last = format!("key-{}-", round.saturating_sub(1));
            let before = format!("key-{}-", round.saturating_sub(2));
            let recent = |one: &Try| one.key.starts_with(&last) || one.key.starts_with(&before);
            let due = |one: &Try| recent(one) || !one.settled();
            let mut carts: Vec<String> =
                tries.iter().filter(|(_, one)| due(one)).map(|(cart, _)| cart.clone()).collect();
            let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
            let from = looked_at.clone();
            let next = tries.range(from..).filter(|(_, one)| !due(one)).take(AGAIN);
            let next: Vec<String> = next.map(|(cart, _)| cart.clone()).collect();
            *looked_at = if next.len() < AGAIN {
                String::new()
            } else {
                next.last().cloned().unwrap_or_default()
            };
            carts.extend(next);
            carts
        };
        let all = carts.into_iter().map(|cart| self.check_one(anybody, admin, cart));
        futures_util::stream::iter(all).buffer_unordered(BUYERS).collect::<Vec<()>>().await;
    }

    async fn check_one(&self, anybody: &Client, admin: &Client, cart: String) {
        let Some(before) = self.tries().get(&cart).cloned() else { return };
        if !before.settled() {
            let status = self.checkout(anybody, &cart).await;
            if !matches!(status, Some(201 | 202 | 402 | 409)) {
                self.violation(format!("{cart} {before:?}: sent again, it got {status:?}"));
            }
        }
        let Some(one) = self.tries().get(&cart).cloned() else { return };
        match order(admin, &cart).await {
            Ok(found) => {
                self.looks.fetch_add(1, Ordering::Relaxed);
                if let Some(why) = contradiction(&one, found.as_ref()) {
                    self.violation(format!("{cart} {one:?}: {why}"));
                }
            }
            Err(error) => self.violation(format!("{cart} {one:?} cannot be read: {error}")),
        }
    }

    /// Waits until every order has finished and every confirmed one is paid, and checks all of
    /// them; returns the number of confirmed ones.
    pub async fn settle(&self, anybody: &Client, admin: &Client) -> usize {
        let carts: Vec<String> = self.tries().keys().cloned().collect();
        let all = carts.into_iter().map(|cart| async move {
            self.check_one(anybody, admin, cart.clone()).await;
            let until = Instant::now() + PATIENCE;
            loop {
                let Ok(Some(order)) = order(admin, &cart).await else { return 0 };
                match order["status"].as_str() {
                    Some("confirmed") if order["payment_status"] == "captured" => return 1,
                    Some("cancelled" | "awaiting_payment") => return 0,
                    _ if Instant::now() >= until => {
                        self.violation(format!(
                            "{cart}: its order never reached a final state: {order}"
                        ));
                        return 0;
                    }
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        let stream = futures_util::stream::iter(all).buffer_unordered(BUYERS);
        stream.collect::<Vec<usize>>().await.into_iter().sum()
    }

    /// Records a violation.
    pub fn violation(&self, what: String) {
        self.violations_total.fetch_add(1, Ordering::Relaxed);
        let mut violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        if violations.len() < NAMED_MAX {
            violations.push(what);
        }
    }

    /// The number of violations, and the first of them.
    pub fn violations(&self) -> (u64, Vec<String>) {
        let first = self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.violations_total.load(Ordering::Relaxed), first)
    }

    /// Checkouts sent, checkouts answered, and orders compared.
    pub fn counts(&self) -> (u64, u64, u64) {
        let tries = self.tries();
        let answered = tries.values().filter(|one| one.settled()).count();
        (tries.len() as u64, answered as u64, self.looks.load(Ordering::Relaxed))
    }

    /// Checkouts that were answered as confirmed so far, and failed requests.
    pub fn shopping(&self) -> (u64, u64) {
        (self.confirmed.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Checkouts so far that were refused for lack of stock.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn tries(&self) -> MutexGuard<'_, BTreeMap<String, Try>> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The contradiction between an order and its buyer's answers, if any.
fn contradiction(one: &Try, order: Option<&Value>) -> Option<String> {
    let Some(order) = order else {
        return (one.answered != Some(409)).then(|| "it is lost".to_owned());
    };
    let line = &order["lines"][0];
    let content = order["lines"].as_array().is_some_and(|lines| lines.len() == 1)
        && line["sku"] == *one.sku
        && line["quantity"] == one.quantity
        && order["total"]["amount"] == PRICE * one.quantity
        && order["email"] == EMAIL;
    let number = order["number"].as_i64();
    let state = match one.answered {
        Some(201) => number.is_some() && number == one.number && order["status"] == "confirmed",
        Some(402) => number.is_none(),
        Some(409) => number.is_none() && order["status"] == "cancelled",
        _ => true,
    };
    (!content || !state).then(|| format!("it is {order}"))
}

const EMAIL: &str = "ada@example.com";

async fn make_cart(anybody: &Client, sku: &str, quantity: i64) -> Option<(String, String)> {
    let cart = json!({
        "email": EMAIL, "delivery_option": "standard",
        "lines": [{"sku": sku, "quantity": quantity}],
        "shipping_address": {
            "name": "Ada", "line1": "1 High Street", "city": "London",
            "postal_code": "N1 1AA", "country": "GB",
        },
    });
    let made = anybody.post::<Value>("/v1/store/carts").json(&cart).send().await.ok()?;
    let text = |name: &str| made.body[name].as_str().map(str::to_owned);
    Some((text("id")?, text("token")?))
}

async fn order(admin: &Client, cart: &str) -> Result<Option<Value>, Error> {
    let path = format!("/v1/admin/orders/{}", cart.replace("cart_", "ord_"));
    match admin.get::<Value>(&path).send().await {
        Ok(answer) => Ok(Some(answer.body)),
        Err(Error::Problem(problem)) if problem.status == 404 => Ok(None),
        Err(error) => Err(error),
    }
}
