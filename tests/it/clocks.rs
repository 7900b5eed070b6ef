//! A clock that is set an hour forward or back, while the server runs and between two runs: what
//! has a time ends by it and not before, nothing depends on the order of times, and all holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use kontor::actors::engine::clock::{Clock, TimeSource};
use kontor::app::App;
use kontor::domain::entity::EntityId;
use kontor::domain::time::{Span, Timestamp};
use reqwest::Method;

use crate::site::Site;

const HOUR: i64 = 3_600;

/// The machine's clock, set wrong by so many milliseconds.
#[derive(Default)]
struct Wrong(AtomicI64);

impl TimeSource for Wrong {
    fn now(&self) -> Timestamp {
        Clock::system().now() + Span::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn turn(&self, span: Span) {
        self.0.fetch_add(span.millis(), Ordering::SeqCst);
    }
}

/// A site whose clock can be set wrong.
async fn site(hold_secs: i64) -> (Site, Clock) {
    let mut site = Site::with(|config| config.shop.hold_secs = hold_secs).await;
    let clock = Clock::of(Arc::new(Wrong::default()));
    start_again(&mut site, &clock).await;
    site.sell("LAMP", 1_000, 9).await;
    (site, clock)
}

async fn start_again(site: &mut Site, clock: &Clock) {
    site.app.take().unwrap().stop().await;
    site.app = Some(App::start_at(&site.config, clock.clone()).await.unwrap());
}

/// An order that holds stock and is not paid.
async fn hold(site: &Site, key: &str) -> String {
    let cart = site.cart(&[("LAMP", 1)]).await;
    let declined = site.checkout(&cart, key, "tok_declined", 30).await;
    assert_eq!(declined.code(), "payment_declined", "{:#}", declined.body);
    cart
}

async fn buy(site: &Site, key: &str) -> String {
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.checkout(&cart, key, "tok_ok", 30).await.expect(201);
    site.until(&cart, |order| order["payment_status"] == "captured").await;
    cart
}

async fn given_up(site: &Site, cart: &str) {
    let order = site.until(cart, |order| order["status"] == "cancelled").await;
    assert_eq!(order["cancel_reason"], "payment_deadline", "{order:#}");
}

/// The units that are held; a hold that yields is one, too.
async fn held(site: &Site) -> i64 {
    let item = site.level("LAMP").await;
    let holds = item["holds"].as_array().unwrap().iter();
    holds.map(|hold| hold["quantity"].as_i64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_forward_or_back_while_it_runs() {
    let (site, clock) = site(15 * 60).await;
    let paid = buy(&site, "paid").await;
    let waits = hold(&site, "waits").await;
    assert_eq!(held(&site).await, 1);
    clock.turn(Span::from_secs(HOUR));
    given_up(&site, &waits).await;
    site.until_some(async || (held(&site).await == 0).then_some(())).await;
    let ahead = buy(&site, "ahead").await;
    let waits = hold(&site, "waits-ahead").await;

    clock.turn(Span::from_secs(-2 * HOUR));
    // What was held until later still is, and what is bought is bought.
    let behind = buy(&site, "behind").await;
    let numbers =
        [&paid, &ahead, &behind].map(async |cart| site.order(cart).await["number"].clone());
    assert_eq!(futures_util::future::join_all(numbers).await, [1, 2, 3]);
    assert_eq!(held(&site).await, 1);
    site.checkout(&waits, "pays-at-last", "tok_ok", 30).await.expect(201);
    let last = hold(&site, "last").await;
    for cart in [&waits, &behind] {
        site.until(cart, |order| order["payment_status"] == "captured").await;
        let path = format!("/orders/{}/events", cart.replace("cart_", "ord_"));
        let events = site.admin(Method::GET, &path, None).await.expect(200);
        let seqs =
            events["data"].as_array().unwrap().iter().map(|one| one["seq"].as_i64().unwrap());
        assert!(seqs.is_sorted(), "{events:#}");
    }
    assert_eq!(site.order(&last).await["status"], "awaiting_payment");
    clock.turn(Span::from_secs(HOUR));
    given_up(&site, &last).await;
    let level = site.level("LAMP").await;
    assert_eq!((&level["allocated"], &level["sellable"]), (&4.into(), &5.into()), "{level:#}");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_forward_or_back_between_two_runs() {
    let (mut site, clock) = site(15 * 60).await;
    let first = hold(&site, "first").await;
    let second = hold(&site, "second").await;
    clock.turn(Span::from_secs(-HOUR));
    start_again(&mut site, &clock).await;
    assert_eq!(held(&site).await, 2);
    site.checkout(&first, "pays", "tok_ok", 30).await.expect(201);
    site.until(&first, |order| order["payment_status"] == "captured").await;
    assert_eq!(site.order(&second).await["status"], "awaiting_payment");
    clock.turn(Span::from_secs(2 * HOUR));
    start_again(&mut site, &clock).await;
    given_up(&site, &second).await;
    assert_eq!(site.order(&first).await["status"], "confirmed");
    site.until_some(async || (site.level("LAMP").await["sellable"] == 8).then_some(())).await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_fire_though_the_clock_was_set_back_after_they_last_did() {
    let (site, clock) = site(1).await;
    let lapses = async || {
        let journal = site.app.as_ref().unwrap().node.store.journal();
        let events = journal.read_entity(&EntityId::new("sku_LAMP"), 0, 100).await.unwrap();
        events.iter().filter(|event| &*event.kind == "lapsed").count()
    };
    hold(&site, "before").await;
    site.until_some(async || (lapses().await == 1).then_some(())).await;
    clock.turn(Span::from_secs(-HOUR));
    hold(&site, "after").await;
    site.until_some(async || (lapses().await == 2).then_some(())).await;
    site.verify().await;
}
