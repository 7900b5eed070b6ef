//! kill -9 at random moments under load, again and again: no acknowledged order is lost, none is
//! charged twice, nothing is oversold. `KONTOR_KILLS=50` says how often.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use kontor::sandbox_psp;
use serde_json::{Value, json};

use crate::process::{self, Server};

const BUYERS: usize = 24;
const UNITS: i64 = 60;
/// How often an order is asked for before the test says that it never came to rest.
const LOOKS_MAX: usize = 3_000;

/// What a buyer knows of its checkout.
#[derive(Clone, Debug)]
struct Try {
    key: String,
    token: &'static str,
    /// The status that was answered last, if any was.
    answered: Option<u16>,
}

struct Buyers {
    web: reqwest::Client,
    tries: Mutex<BTreeMap<String, Try>>,
}

impl Buyers {
    /// Shops until the server is gone.
    async fn shop(&self, url: &str, round: usize, buyer: usize) {
        for number in 0.. {
            let Some(cart) = self.cart(url, (round + buyer + number) % 4).await else {
                return;
            };
            let token = ["tok_ok", "tok_ok", "tok_500", "tok_declined"][(buyer + number) % 4];
            let key = format!("key-{round}-{buyer}-{number}");
            self.note(&cart, Try { key, token, answered: None });
            if self.checkout(url, &cart).await.is_none() {
                return;
            }
        }
    }

    async fn cart(&self, url: &str, sku: usize) -> Option<String> {
        let cart = json!({
            "email": "ada@example.com", "delivery_option": "standard",
            "lines": [{"sku": format!("P{sku}"), "quantity": 1}],
            "shipping_address": {
                "name": "Ada", "line1": "1 High Street", "city": "London",
                "postal_code": "N1 1AA", "country": "GB",
            },
        });
        let made = self.web.post(format!("{url}/v1/store/carts")).json(&cart).send().await.ok()?;
        let cart: Value = made.json().await.ok()?;
        cart["id"].as_str().map(str::to_owned)
    }

    fn note(&self, cart: &str, try_: Try) {
        self.tries.lock().unwrap().insert(cart.to_owned(), try_);
    }

    /// Sends the checkout of a cart, or sends it again; `None` if no answer came.
    async fn checkout(&self, url: &str, cart: &str) -> Option<u16> {
        let try_ = self.tries.lock().unwrap()[cart].clone();
        let sent = self
            .web
            .post(format!("{url}/v1/store/carts/{cart}/checkout"))
            .header("Idempotency-Key", &try_.key)
            .header("Prefer", "wait=20")
            .json(&json!({"payment": {"provider": "sandbox", "token": try_.token}}))
            .send()
            .await
            .ok()?;
        let status = sent.status().as_u16();
        sent.bytes().await.ok()?;
        self.note(cart, Try { answered: Some(status), ..try_ });
        Some(status)
    }

    /// What was acknowledged is there, and what was not answered is answered now.
    async fn check(&self, url: &str, key: &str) {
        let tries = self.tries.lock().unwrap().clone();
        let all = tries.into_iter().map(|(cart, try_)| self.check_one(url, key, cart, try_));
        futures_util::stream::iter(all).buffer_unordered(BUYERS).collect::<Vec<()>>().await;
    }

    async fn check_one(&self, url: &str, key: &str, cart: String, try_: Try) {
        if try_.answered.is_none_or(|status| status == 503 || status == 202) {
            let status = self.checkout(url, &cart).await;
            let known = matches!(status, Some(201 | 202 | 402 | 409));
            assert!(known, "{cart} {try_:?}: {status:?}");
        }
        let answered = self.tries.lock().unwrap()[&cart].answered;
        let Some(order) = self.order(url, key, &cart).await else {
            assert_eq!(answered, Some(409), "{cart} {try_:?} was acknowledged and is lost");
            return;
        };
        match answered {
            Some(201) => assert!(order["number"].is_i64(), "{order:#}"),
            Some(402) => assert_eq!(order["number"], Value::Null, "{order:#}"),
            _ => {}
        }
    }

    async fn order(&self, url: &str, key: &str, cart: &str) -> Option<Value> {
        let order = cart.replace("cart_", "ord_");
        let url = format!("{url}/v1/admin/orders/{order}");
        let answer = self.web.get(url).bearer_auth(key).send().await.unwrap();
        (answer.status() == 200).then_some(answer.json().await.unwrap())
    }

    /// Waits until every confirmed order has its money.
    async fn settle(&self, url: &str, key: &str) -> usize {
        let carts: Vec<String> = self.tries.lock().unwrap().keys().cloned().collect();
        let mut confirmed = 0;
        for cart in carts {
            for look in 0.. {
                let Some(order) = self.order(url, key, &cart).await else {
                    break;
                };
                let settled = match order["status"].as_str() {
                    Some("confirmed") => order["payment_status"] == "captured",
                    Some("cancelled" | "awaiting_payment") => true,
                    _ => false,
                };
                if settled {
                    confirmed += usize::from(order["status"] == "confirmed");
                    break;
                }
                assert!(look < LOOKS_MAX, "{order:#}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        confirmed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_loses_doubles_and_oversells_nothing() {
    let kills: usize = std::env::var("KONTOR_KILLS").map_or(3, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let listen = "127.0.0.1:0".parse().unwrap();
    let psp_data = dir.path().join("psp");
    let psp = sandbox_psp::start(sandbox_psp::Options { data: psp_data, listen }).await.unwrap();
    let key = process::key(&data);
    let web = reqwest::Client::builder().timeout(Duration::from_secs(40)).build().unwrap();
    let buyers = Buyers { web, tries: Mutex::default() };
    for round in 0..kills {
        let server = Server::start(&data, &psp.url());
        buyers.check(&server.url, &key).await;
        fill(&buyers.web, &server.url, &key).await;
        let url = server.url.clone();
        let shopping = join_all((0..BUYERS).map(|buyer| buyers.shop(&url, round, buyer)));
        let moment = Duration::from_millis(u64::from(rand::random::<u16>()) % 700 + 20);
        let killing = async {
            tokio::time::sleep(moment).await;
            server.kill();
        };
        tokio::join!(shopping, killing);
        process::verify(&data, &psp.url());
    }
    let server = Server::start(&data, &psp.url());
    buyers.check(&server.url, &key).await;
    let confirmed = buyers.settle(&server.url, &key).await;
    assert_eq!(server.terminate(), Some(0));
    process::verify(&data, &psp.url());
    let all = buyers.tries.lock().unwrap().len();
    println!("{kills} kills: {all} checkouts, {confirmed} confirmed, nothing lost or doubled");
    psp.stop().await;
}

/// Puts a few units of four products on sale, so that some buyers come too late.
async fn fill(web: &reqwest::Client, url: &str, key: &str) {
    for sku in 0..4 {
        let product = json!({
            "name": "Lamp", "sku": format!("P{sku}"),
            "prices": [{"amount": 1000, "currency": "GBP"}],
        });
        let put = web.put(format!("{url}/v1/admin/products/P{sku}")).json(&product);
        assert!(put.bearer_auth(key).send().await.unwrap().status().is_success());
        let receipt = json!({"quantity": UNITS});
        let post = web.post(format!("{url}/v1/admin/stock/P{sku}/main/receipts")).json(&receipt);
        assert!(post.bearer_auth(key).send().await.unwrap().status().is_success());
    }
}
