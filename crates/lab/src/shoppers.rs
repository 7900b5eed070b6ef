//! Simulated buyers for `kontor demo`: they browse, fill carts, pay, and change their minds.
//!
//! Deliberately not here: the demo's output, which reads [`BuyerCounters`], and checks of the
//! server's answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kontor_client::api::{
    Address, CartUpdate, Checkout, CreatedCart, NewCart, NewLine, PaymentMethod,
};
use kontor_client::{Client, Error, segment};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::de::IgnoredAny;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

/// The most concurrent buyers.
pub const BUYERS_MAX: usize = 1_000;
/// The most products that buyers know.
const SKUS_MAX: usize = 10_000;
/// The most payment attempts for one cart.
const PAYMENTS_MAX: usize = 3;
/// The upper bounds of the latency buckets, in milliseconds; the last bucket has none.
const LATENCY_BUCKETS_MS: [u64; 14] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000];

/// The buyers' behavior.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The number of buyers, at most [`BUYERS_MAX`].
    pub buyers: usize,
    /// Carts per second of all buyers together.
    pub carts_per_sec: f64,
    /// The longest pause between two actions of a buyer.
    pub think_max: Duration,
    /// The seed of the buyers' random choices.
    pub seed: u64,
}

impl Default for Options {
    /// A light load for two cores.
    fn default() -> Self {
        Self { buyers: 24, carts_per_sec: 20.0, think_max: Duration::from_millis(800), seed: 1 }
    }
}

/// The buyers' counters. Cheap to share.
#[derive(Debug, Default)]
pub struct BuyerCounters {
    carts: AtomicU64,
    placed: AtomicU64,
    confirmed: AtomicU64,
    declined: AtomicU64,
    out_of_stock: AtomicU64,
    errors: AtomicU64,
    revenue: AtomicI64,
    latencies: [AtomicU64; LATENCY_BUCKETS_MS.len() + 1],
}

/// The buyers' counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct BuyerCounts {
    /// Carts begun.
    pub carts: u64,
    /// Answered checkouts.
    pub placed: u64,
    /// Orders confirmed.
    pub confirmed: u64,
    /// Payments declined.
    pub declined: u64,
    /// Checkouts that were refused for lack of stock.
    pub out_of_stock: u64,
    /// Failed requests.
    pub errors: u64,
    /// Revenue of confirmed orders, in minor units.
    pub revenue: i64,
    /// The median latency of checkouts, in milliseconds.
    pub checkout_p50_ms: u64,
    /// The 99th percentile of checkouts, in milliseconds.
    pub checkout_p99_ms: u64,
}

/// The number of checkouts by latency bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies([u64; LATENCY_BUCKETS_MS.len() + 1]);

impl Latencies {
    /// The checkouts since `before`, an earlier reading.
    #[must_use]
    pub fn since(mut self, before: Self) -> Self {
        for (count, before) in self.0.iter_mut().zip(before.0) {
            *count = count.saturating_sub(before);
        }
        self
    }

    /// A latency percentile in milliseconds: the upper bound of a bucket, 0 without checkouts.
    #[must_use]
    pub fn percentile(self, percent: u64) -> u64 {
        let wanted = (self.0.iter().sum::<u64>() * percent).div_ceil(100);
        let mut sum = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            sum += count;
            if sum >= wanted && sum > 0 {
                return LATENCY_BUCKETS_MS.get(bucket).copied().unwrap_or(60_000);
            }
        }
        0
    }
}

impl BuyerCounters {
    /// The current totals.
    #[must_use]
    pub fn read(&self) -> BuyerCounts {
        let latencies = self.latencies();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BuyerCounts {
            carts: count(&self.carts),
            placed: count(&self.placed),
            confirmed: count(&self.confirmed),
            declined: count(&self.declined),
            out_of_stock: count(&self.out_of_stock),
            errors: count(&self.errors),
            revenue: self.revenue.load(Ordering::Relaxed),
            checkout_p50_ms: latencies.percentile(50),
            checkout_p99_ms: latencies.percentile(99),
        }
    }

    fn latency(&self, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BUCKETS_MS.iter().position(|end| millis < *end);
        self.latencies[bucket.unwrap_or(LATENCY_BUCKETS_MS.len())].fetch_add(1, Ordering::Relaxed);
    }

    /// The latencies of checkouts so far.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        Latencies(self.latencies.each_ref().map(|bucket| bucket.load(Ordering::Relaxed)))
    }
}

/// Runs buyers at the server of `client` until `shutdown` is true or dropped.
///
/// # Errors
/// [`Error`] when the products cannot be read; later failures are counted.
pub async fn run(
    client: Client,
    options: Options,
    counters: Arc<BuyerCounters>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let skus: Arc<[String]> = skus(&client).await?.into();
    if skus.is_empty() {
        return Ok(());
    }
    let rate = Duration::from_secs_f64(1.0 / options.carts_per_sec.clamp(0.01, 10_000.0));
    let mut pace = tokio::time::interval(rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let pace = Arc::new(tokio::sync::Mutex::new(pace));
    let mut buyers = JoinSet::new();
    for number in 0..options.buyers.min(BUYERS_MAX) {
        let seed = options.seed.wrapping_add(u64::try_from(number).unwrap_or(0));
        let buyer = Buyer {
            client: client.clone(),
            skus: Arc::clone(&skus),
            counters: Arc::clone(&counters),
            pace: Arc::clone(&pace),
            think_max: options.think_max,
            rng: SmallRng::seed_from_u64(seed),
            number,
        };
        buyers.spawn(buyer.shop());
    }
    // If the sender is dropped, the buyers stop, too.
    let _ = shutdown.wait_for(|stop| *stop).await;
    buyers.shutdown().await;
    Ok(())
}

/// The SKUs for sale, in list order: buyers prefer the first ones.
///
/// # Errors
/// [`Error`] of the server.
pub(super) async fn skus(client: &Client) -> Result<Vec<String>, Error> {
    let mut skus = Vec::new();
    let mut after: Option<String> = None;
    while skus.len() < SKUS_MAX {
        let mut call = client.browse_products().query("limit", "200");
        if let Some(after) = &after {
            call = call.query("after", after);
        }
        let page = call.send().await?.body;
        skus.extend(page.data.into_iter().map(|product| product.sku));
        after = page.next_cursor;
        if after.is_none() {
            break;
        }
    }
    Ok(skus)
}

struct Buyer {
    client: Client,
    skus: Arc<[String]>,
    counters: Arc<BuyerCounters>,
    pace: Arc<tokio::sync::Mutex<Interval>>,
    think_max: Duration,
    rng: SmallRng,
    number: usize,
}

impl Buyer {
    async fn shop(mut self) {
        loop {
            self.pace.lock().await.tick().await;
            if self.visit().await.is_err() {
                self.counters.errors.fetch_add(1, Ordering::Relaxed);
                self.think().await;
            }
        }
    }

    async fn think(&mut self) {
        let most = u64::try_from(self.think_max.as_millis()).unwrap_or(u64::MAX);
        let millis = self.rng.random_range(0..=most);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// A random SKU; those at the start of the catalogue are much more likely than others.
    fn favorite(&mut self) -> String {
        let luck: f64 = self.rng.random_range(0.0..1.0);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rough draw from 0 to the number of products"
        )]
        let place = (luck.powi(3) * self.skus.len() as f64) as usize;
        self.skus[place.min(self.skus.len() - 1)].clone()
    }

    async fn visit(&mut self) -> Result<(), Error> {
        let sku = self.favorite();
        let path = format!("/v1/store/products/{}", segment(&sku));
        self.client.get::<IgnoredAny>(&path).send().await?;
        self.think().await;
        let Some(cart) = self.fill_cart(sku).await? else { return Ok(()) };
        if self.rng.random_range(0..10) == 0 {
            return Ok(());
        }
        self.pay(&cart).await
    }

    /// A cart with 1 to 4 lines and an address; `None` if the products are sold out already.
    async fn fill_cart(&mut self, first: String) -> Result<Option<CreatedCart>, Error> {
        let new = NewCart {
            // The shop's currency, like the prices of the demo's products.
            currency: None,
            email: Some(format!("buyer-{}@example.com", self.number)),
            reference: None,
            lines: Vec::new(),
            shipping_address: None,
            delivery_option: None,
        };
        let CreatedCart { mut cart, token } = self.client.create_cart(&new).send().await?.body;
        self.counters.carts.fetch_add(1, Ordering::Relaxed);
        let mut sku = first;
        for _ in 0..self.rng.random_range(1..=4) {
            let quantity = self.rng.random_range(1..=3);
            let line = NewLine { sku, quantity, unit_price: None };
            match self.client.add_lines(&cart.id, &line).token(&token).send().await {
                Ok(answer) => cart = answer.body,
                Err(error) if error.code() == "out_of_stock" => self.too_late(),
                Err(error) => return Err(error),
            }
            sku = self.favorite();
            self.think().await;
        }
        if cart.lines.is_empty() {
            return Ok(None);
        }
        let express = self.rng.random_range(0..4) == 0;
        let update = CartUpdate {
            email: None,
            shipping_address: Some(self.address()),
            delivery_option: Some(if express { "express" } else { "standard" }.to_owned()),
        };
        let update = self.client.update_cart(&cart.id, &update).token(&token);
        let cart = update.send().await?.body;
        Ok(Some(CreatedCart { cart, token }))
    }

    fn address(&self) -> Address {
        Address {
            name: format!("Buyer {}", self.number),
            line1: format!("{} Market Street", self.number + 1),
            city: "London".to_owned(),
            postal_code: Some("EC1A 1BB".to_owned()),
            country: "GB".to_owned(),
        }
    }

    fn too_late(&self) {
        self.counters.out_of_stock.fetch_add(1, Ordering::Relaxed);
    }

    async fn pay(&mut self, CreatedCart { cart, token }: &CreatedCart) -> Result<(), Error> {
        let mut card = payment_token(self.rng.random_range(0..1_000));
        for _ in 0..PAYMENTS_MAX {
            let body = Checkout {
                payment: Some(PaymentMethod::sandbox(card)),
                expected_total: Some(cart.totals.total.clone()),
            };
            let started = Instant::now();
            let call = self.client.check_out(&cart.id, &body).token(token).prefer_wait(10);
            let answer = call.send().await;
            self.counters.latency(started.elapsed());
            match answer {
                Ok(answer) => {
                    self.counters.placed.fetch_add(1, Ordering::Relaxed);
                    if answer.status == 201 {
                        let revenue = answer.body.total.amount;
                        self.counters.confirmed.fetch_add(1, Ordering::Relaxed);
                        self.counters.revenue.fetch_add(revenue, Ordering::Relaxed);
                    }
                    return Ok(());
                }
                Err(error) => match error.code() {
                    "payment_declined" => {
                        self.counters.declined.fetch_add(1, Ordering::Relaxed);
                        card = "tok_ok";
                        self.think().await;
                    }
                    "out_of_stock" => {
                        self.too_late();
                        return Ok(());
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}

/// A buyer's payment token: usually a successful one.
const fn payment_token(permille: u16) -> &'static str {
    match permille {
        0..885 => "tok_ok",
        885..945 => "tok_declined",
        945..950 => "tok_slow",
        950..970 => "tok_500",
        970..980 => "tok_timeout",
        // Stuck until an operator decides.
        980..981 => "tok_mismatch",
        _ => "tok_webhook_only",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_buckets() {
        let counters = BuyerCounters::default();
        assert_eq!(counters.read(), BuyerCounts::default());
        (0..99).for_each(|_| counters.latency(Duration::from_millis(3)));
        counters.latency(Duration::from_secs(40));
        let all = counters.latencies();
        assert_eq!((all.percentile(50), all.percentile(99), all.percentile(100)), (5, 5, 60_000));
        // Earlier latencies do not count.
        assert_eq!(counters.latencies().since(all).percentile(99), 0);
        counters.latency(Duration::from_millis(15));
        assert_eq!(counters.latencies().since(all).percentile(99), 20);
    }

    #[test]
    fn most_payments_are_good() {
        let good = (0..1_000).filter(|n| payment_token(*n) == "tok_ok").count();
        assert_eq!(good, 885);
    }
}
