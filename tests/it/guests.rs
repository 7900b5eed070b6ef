//! What buyers without a key, from public addresses, may do to the stock of all others: the units of
//! unpaid orders are bounded, and floods of checkouts meet a challenge hook before anything is held.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use kontor::config::Config;
use kontor::providers::challenge::IfUnavailable;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::buyer_tokens;
use crate::site::{Answer, Site};

/// How long buyers who pay may take, while others attack.
const MINUTE: Duration = Duration::from_secs(60);

/// A site behind a proxy, so that each buyer has an address.
pub async fn behind_proxy(change: impl FnOnce(&mut Config)) -> Site {
    Site::with(|config| {
        config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        change(config);
    })
    .await
}

/// A buyer at an address.
pub struct Buyer<'a> {
    site: &'a Site,
    pub address: String,
    email: String,
}

impl<'a> Buyer<'a> {
    pub fn at(site: &'a Site, address: &str) -> Self {
        Self { site, address: address.to_owned(), email: format!("{address}@example.com") }
    }

    /// The same buyer with another email address.
    pub fn with_email(self, email: &str) -> Self {
        Self { email: email.to_owned(), ..self }
    }

    pub async fn cart(&self, lines: &[(&str, i64)]) -> String {
        let line = |(sku, quantity): &(&str, i64)| json!({"sku": sku, "quantity": quantity});
        let cart = json!({
            "email": self.email.replace(':', "-"), "delivery_option": "standard",
            "lines": lines.iter().map(line).collect::<Vec<_>>(),
            "shipping_address": {
                "name": "Ada", "line1": "1 High Street", "city": "London",
                "postal_code": "N1 1AA", "country": "GB",
            },
        });
        let made = self.site.request(Method::POST, "/v1/store/carts");
        let made = made.header("X-Forwarded-For", &self.address).json(&cart);
        self.site.send(made).await.expect(201)["id"].as_str().unwrap().to_owned()
    }

    pub async fn check_out(&self, cart: &str, token: &str, response: Option<&str>) -> Answer {
        self.check_out_waiting(30, cart, token, response).await
    }

    pub async fn check_out_waiting(
        &self,
        secs: u8,
        cart: &str,
        token: &str,
        response: Option<&str>,
    ) -> Answer {
        let path = format!("/v1/store/carts/{cart}/checkout");
        let request = self.site.request(Method::POST, &path);
        self.send_payment(request, (cart, secs), token, response).await
    }

    /// Pays the order of a cart again.
    pub async fn pay_again(
        &self,
        cart: &str,
        (key, secs): (&str, u8),
        token: &str,
        response: Option<&str>,
    ) -> Answer {
        let path = format!("/v1/store/orders/{}/payments", cart.replace("cart_", "ord_"));
        let request = self.site.request(Method::POST, &path);
        let request = request.bearer_auth(buyer_tokens::token(cart));
        self.send_payment(request, (key, secs), token, response).await
    }

    /// Sends a request with a payment.
    pub async fn send_payment(
        &self,
        request: RequestBuilder,
        (key, secs): (&str, u8),
        token: &str,
        response: Option<&str>,
    ) -> Answer {
        let wait = format!("wait={secs}");
        let body = json!({"payment": {"provider": "sandbox", "token": token}});
        let request = request.header("X-Forwarded-For", &self.address);
        let request = request.header("Idempotency-Key", key).header("Prefer", wait);
        let request = match response {
            Some(response) => request.header("Challenge-Response", response),
            None => request,
        };
        self.site.send(request.json(&body)).await
    }

    /// Orders units of the SKU `LAMP` with a payment that the provider never answers.
    pub async fn hold(&self, units: i64) -> Answer {
        let cart = self.cart(&[("LAMP", units)]).await;
        self.check_out_waiting(0, &cart, "tok_timeout_lost", None).await
    }

    /// Buys units of the SKU `LAMP`.
    pub async fn buy(&self, units: i64, token: &str) -> Answer {
        let cart = self.cart(&[("LAMP", units)]).await;
        self.check_out(&cart, token, None).await
    }
}

/// The bound that an answer names, with the units that it allows and those of the cart.
pub fn bound(answer: &Answer) -> (&str, i64, i64) {
    assert_eq!((answer.status, answer.code()), (409, "too_many_held"), "{:#}", answer.body);
    let body = &answer.body;
    let number = |name: &str| body[name].as_i64().unwrap();
    (body["bound"].as_str().unwrap(), number("most"), number("requested"))
}

#[tokio::test(flavor = "multi_thread")]
async fn units_in_unpaid_orders_of_a_guest_are_bounded() {
    let site = behind_proxy(|config| {
        let holds = &mut config.http.guest_holds;
        (holds.cart, holds.email, holds.address, holds.network) = (10, 15, 20, 25);
    })
    .await;
    site.sell("LAMP", 1_000, 1_000).await;
    let held = async |buyer: &Buyer<'_>, units: i64| {
        buyer.hold(units).await.expect(202);
    };
    let one = Buyer::at(&site, "203.0.113.7");
    let too_large = one.cart(&[("LAMP", 11)]).await;
    let refused = one.check_out(&too_large, "tok_ok", None).await;
    assert_eq!(bound(&refused), ("cart", 10, 11));
    assert_eq!(refused.header("retry-after"), "");

    held(&one, 10).await;
    let refused = one.hold(6).await;
    assert_eq!(bound(&refused), ("email", 15, 6));
    let secs: u64 = refused.header("retry-after").parse().unwrap();
    // One unit of fifteen comes back in two minutes.
    assert!((60..=120).contains(&secs), "{secs}");
    assert!(refused.body["detail"].as_str().unwrap().contains("one email address"));
    held(&one, 5).await;

    let again = Buyer::at(&site, "203.0.113.7").with_email("another@example.com");
    assert_eq!(bound(&again.hold(6).await), ("address", 20, 6));
    held(&again, 5).await;
    let neighbour = Buyer::at(&site, "203.0.113.8");
    assert_eq!(bound(&neighbour.hold(6).await), ("network", 25, 6));
    held(&neighbour, 5).await;

    // Others are not held to it: another network, a private address, and who comes with a key.
    held(&Buyer::at(&site, "198.51.100.7"), 10).await;
    for _ in 0..3 {
        held(&Buyer::at(&site, "10.1.2.3").with_email("ada@example.com"), 10).await;
    }
    let cart = one.cart(&[("LAMP", 10)]).await;
    let path = format!("/v1/store/carts/{cart}");
    let path = site.url() + &path + "/checkout";
    let body = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}});
    let keyed = site.web.request(Method::POST, path).bearer_auth(&site.key).json(&body);
    let keyed = keyed.header("Idempotency-Key", "keyed").header("Prefer", "wait=30");
    site.send(keyed.header("X-Forwarded-For", &one.address)).await.expect(201);
    // What was refused has no order.
    let listed = async || {
        let all = site.admin(Method::GET, "/orders?limit=200", None).await.expect(200);
        let orders = all["data"].as_array().unwrap().len();
        (orders >= 9).then_some(orders)
    };
    assert_eq!(site.until_some(listed).await, 9);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_guest_is_counted_by_its_networks() {
    let site = behind_proxy(|config| {
        let holds = &mut config.http.guest_holds;
        (holds.email, holds.address, holds.network) = (0, 5, 8);
    })
    .await;
    site.sell("LAMP", 1_000, 1_000).await;
    let buy = async |address: &str, units: i64| {
        Buyer::at(&site, address).with_email("ada@example.com").hold(units).await
    };
    buy("2001:db8:0:1::1", 5).await.expect(202);
    assert_eq!(bound(&buy("2001:db8:0:1:9::2", 1).await), ("address", 5, 1));
    assert_eq!(bound(&buy("2001:db8:0:2::1", 4).await), ("network", 8, 4));
    buy("2001:db8:0:100::1", 4).await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn units_of_a_paid_or_declined_order_are_not_counted() {
    let site = behind_proxy(|config| config.http.guest_holds.email = 10).await;
    site.sell("LAMP", 1_000, 1_000).await;
    let buyer = Buyer::at(&site, "203.0.113.7");
    for _ in 0..3 {
        buyer.buy(10, "tok_ok").await.expect(201);
        assert_eq!(buyer.buy(10, "tok_declined").await.code(), "payment_declined");
    }
    buyer.hold(10).await.expect(202);
    assert_eq!(bound(&buyer.buy(10, "tok_ok").await), ("email", 10, 10));
    // An operator may change the bound while the shop runs; and what was refused is still open.
    let open = buyer.cart(&[("LAMP", 10)]).await;
    assert_eq!(bound(&buyer.check_out(&open, "tok_ok", None).await), ("email", 10, 10));
    let body = json!({"value": 0, "reason": "a sale"});
    site.admin(Method::PUT, "/settings/holds.email", Some(body)).await.expect(200);
    buyer.check_out(&open, "tok_ok", None).await.expect(201);
}

/// A challenge hook in the test: what it was asked, and what it answers.
pub struct Hook {
    pub url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    pub async fn start(decide: impl Fn(&Value) -> Value + Send + Clone + 'static) -> Self {
        let asked = Arc::<Mutex<Vec<Value>>>::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/check?key=geheim", listener.local_addr().unwrap());
        let kept = asked.clone();
        let serve = move || {
            let (kept, decide) = (kept.clone(), decide.clone());
            let answer = web::post().to(move |question: web::Json<Value>| {
                let decision = decide(&question);
                kept.lock().unwrap().push(question.into_inner());
                async move { HttpResponse::Ok().json(decision) }
            });
            App::new().route("/check", answer)
        };
        let server = HttpServer::new(serve).workers(1).disable_signals();
        let server = server.listen(listener).unwrap().run();
        std::thread::spawn(move || actix_web::rt::System::new().block_on(server).unwrap());
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

/// How the checkouts of a guest are answered who meets a challenge, and of one who would hold too many
/// units.
pub async fn refusals() -> (Answer, Answer) {
    let challenge = json!({"decision": "challenge", "challenge": {"type": "captcha"}});
    let hook = Hook::start(move |_| challenge.clone()).await;
    let site = behind_proxy(|config| {
        config.challenge.url = hook.url.clone();
        config.challenge.sku_checkouts = 1;
        config.http.guest_holds.cart = 2;
    })
    .await;
    site.sell("LAMP", 1_000, 100).await;
    Buyer::at(&site, "203.0.113.7").buy(1, "tok_ok").await.expect(201);
    let challenged = Buyer::at(&site, "198.51.100.7").buy(1, "tok_ok").await;
    let too_many = Buyer::at(&site, "192.0.2.77").buy(3, "tok_ok").await;
    site.verify().await;
    (challenged, too_many)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_meets_the_challenge_hook_before_anything_is_held() {
    let hook = Hook::start(|question| match question["response"].as_str() {
        Some("solved") => json!({"decision": "allow"}),
        Some(_) => json!({"decision": "deny"}),
        None => json!({
            "decision": "challenge", "challenge": {"type": "captcha", "site_key": "site-1"},
        }),
    })
    .await;
    let site = behind_proxy(|config| {
        config.challenge.url = hook.url.clone();
        config.challenge.sku_checkouts = 2;
    })
    .await;
    site.sell("LAMP", 1_000, 100).await;
    site.sell("ROPE", 1_000, 100).await;
    for address in ["203.0.113.7", "198.51.100.7"] {
        Buyer::at(&site, address).buy(1, "tok_ok").await.expect(201);
    }
    assert_eq!(hook.asked(), Vec::<Value>::new(), "that was no flood");

    let buyer = Buyer::at(&site, "192.0.2.77");
    let cart = buyer.cart(&[("LAMP", 3)]).await;
    let refused = buyer.check_out(&cart, "tok_ok", None).await;
    assert_eq!((refused.status, refused.code()), (403, "challenge_required"));
    let challenge = json!({"type": "captcha", "site_key": "site-1", "url": null});
    assert_eq!(refused.body["challenge"], challenge);
    let asked = hook.asked();
    let email = asked[0]["email"].as_str().unwrap().to_owned();
    assert_eq!(email.len(), 32);
    assert_eq!(
        asked,
        [json!({
            "address": "192.0.2.77", "network": "192.0.2.0/24", "email": email,
            "lines": [{"sku": "LAMP", "quantity": 3}], "reasons": ["sku:LAMP"], "response": null,
        })]
    );
    let level = site.level("LAMP").await;
    assert_eq!((&level["reserved"], &level["allocated"]), (&json!(0), &json!(2)));

    let denied = buyer.check_out(&cart, "tok_ok", Some("wrong")).await;
    assert_eq!((denied.status, denied.code()), (403, "checkout_denied"));
    let again = buyer.check_out(&cart, "tok_ok", Some("solved")).await.expect(201);
    assert_eq!(again["status"], "confirmed");
    // Who only repeats a checkout is not asked again.
    let known = hook.asked().len();
    buyer.check_out(&cart, "tok_ok", None).await.expect(201);
    // Other SKUs, and buyers with a private address, are no flood.
    let rope = buyer.cart(&[("ROPE", 1)]).await;
    buyer.check_out(&rope, "tok_ok", None).await.expect(201);
    Buyer::at(&site, "10.1.2.3").buy(1, "tok_ok").await.expect(201);
    assert_eq!(hook.asked().len(), known);
    let metrics = site.web.get(site.url() + "/metrics").send().await.unwrap().text().await.unwrap();
    for line in ["{outcome=\"allow\"} 1", "{outcome=\"challenge\"} 1", "{outcome=\"deny\"} 1"] {
        assert!(metrics.contains(&format!("kontor_challenges{line}")), "{line}");
    }
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_network_meets_the_challenge_hook() {
    let hook = Hook::start(|_| json!({"decision": "deny"})).await;
    let site = behind_proxy(|config| {
        config.challenge.url = hook.url.clone();
        config.challenge.network_checkouts = 1;
    })
    .await;
    site.sell("LAMP", 1_000, 100).await;
    Buyer::at(&site, "203.0.113.7").buy(1, "tok_ok").await.expect(201);
    let second = Buyer::at(&site, "203.0.113.8").buy(1, "tok_ok").await;
    assert_eq!(second.code(), "checkout_denied");
    assert_eq!(hook.asked()[0]["reasons"], json!(["network"]));
    Buyer::at(&site, "198.51.100.8").buy(1, "tok_ok").await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_does_not_decide_allows_or_refuses_by_setting() {
    let nonsense = Hook::start(|_| json!({"decision": "perhaps"})).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, then) in [
        (nonsense.url.clone(), IfUnavailable::Allow),
        (format!("http://{nobody}/"), IfUnavailable::Deny),
    ] {
        let site = behind_proxy(|config| {
            config.challenge.url = url;
            config.challenge.if_unavailable = then;
            config.challenge.network_checkouts = 1;
        })
        .await;
        site.sell("LAMP", 1_000, 100).await;
        let buyer = Buyer::at(&site, "203.0.113.7");
        buyer.buy(1, "tok_ok").await.expect(201);
        let answer = buyer.buy(1, "tok_ok").await;
        match then {
            IfUnavailable::Allow => drop(answer.expect(201)),
            IfUnavailable::Deny => assert_eq!((answer.status, answer.code()), (503, "try_again")),
        }
        let metrics = site.web.get(site.url() + "/metrics").send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        assert!(metrics.contains("kontor_challenges{outcome=\"failed\"} 1"));
    }
}

/// The nth address of those who attack, or of those who do not, each in a network of its own.
fn address(of: u8, nth: usize) -> String {
    let [_, _, high, low] = u32::try_from(nth).unwrap().to_be_bytes();
    Ipv4Addr::new(of, high, low, 7).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attack_from_500_addresses_leaves_the_units_to_who_pays() {
    const UNITS: i64 = 500;
    let site = behind_proxy(|_| {}).await;
    site.sell("LAMP", 1_000, UNITS).await;
    let (over, declined, bought) = (AtomicBool::new(false), AtomicI64::new(0), AtomicI64::new(0));
    // Each of 50 connections has ten addresses, and goes on until all of them are refused.
    let attack = async |nth: usize| {
        let mut buyers: VecDeque<Buyer<'_>> =
            (0..10).map(|one| Buyer::at(&site, &address(60, 10 * nth + one))).collect();
        while !over.load(Ordering::Relaxed)
            && let Some(buyer) = buyers.pop_front()
        {
            let answer = buyer.buy(10, "tok_declined").await;
            let refused = answer.code() == "payment_declined";
            declined.fetch_add(i64::from(refused), Ordering::Relaxed);
            if answer.code() != "too_many_held" {
                buyers.push_back(buyer);
            }
        }
    };
    let buy = async |nth: usize| {
        let buyer = Buyer::at(&site, &address(80, nth));
        while !over.load(Ordering::Relaxed) {
            if buyer.buy(1, "tok_ok").await.status == 201 {
                let bought = bought.fetch_add(1, Ordering::Relaxed) + 1;
                over.fetch_or(bought >= UNITS, Ordering::Relaxed);
                return;
            }
        }
    };
    let honest = async {
        // The attack is under way.
        site.until_some(async || (declined.load(Ordering::Relaxed) >= 50).then_some(())).await;
        let all = stream::iter((0..500).map(buy)).buffer_unordered(50).collect::<Vec<()>>();
        drop(tokio::time::timeout(MINUTE, all).await);
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all((0..50).map(attack)), honest);
    let (declined, bought) = (declined.into_inner(), bought.into_inner());
    println!("{bought} of {UNITS} units went to who pays; {declined} payments were declined");
    assert!(bought >= UNITS * 9 / 10, "{bought} of {UNITS}");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_flash_sale_of_guests_sells_every_unit() {
    const UNITS: u32 = 500;
    let site = behind_proxy(|_| {}).await;
    site.sell("LAMP", 1_000, UNITS.into()).await;
    let (sold, late) = (AtomicU32::new(0), AtomicU32::new(0));
    let buy = async |nth: usize| {
        let answer = Buyer::at(&site, &address(80, nth)).buy(1, "tok_ok").await;
        match (answer.status, answer.code()) {
            (201, _) => sold.fetch_add(1, Ordering::Relaxed),
            (409, "out_of_stock") => late.fetch_add(1, Ordering::Relaxed),
            other => panic!("{other:?}"),
        };
    };
    stream::iter((0..600).map(buy)).buffer_unordered(100).collect::<Vec<()>>().await;
    assert_eq!((sold.into_inner(), late.into_inner()), (UNITS, 100));
    site.verify().await;
}
