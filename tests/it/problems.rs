//! Every error code with members of its own, as a client gets it from a real request. That the
//! bodies are as the document says is checked by `Site::send`.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::buyer_tokens;
use crate::site::{Answer, Site};
use crate::{documents, guests};

/// The problems that were met.
#[derive(Default)]
struct Met(BTreeSet<String>);

impl Met {
    /// An answer with this code, which has exactly these members of its own.
    fn expect(&mut self, answer: Answer, code: &str, members: &[&str]) -> Value {
        assert_eq!(answer.code(), code, "{:#}", answer.body);
        let general = ["type", "title", "status", "code", "detail", "request_id"];
        let fields = answer.body.as_object().unwrap().keys().map(String::as_str);
        let own: BTreeSet<&str> = fields.filter(|name| !general.contains(name)).collect();
        assert_eq!(own, members.iter().copied().collect(), "{:#}", answer.body);
        self.0.insert(code.to_owned());
        answer.body
    }
}

async fn carts(site: &Site, met: &mut Met) {
    let empty = site.store(Method::POST, "/carts", Some(json!({}))).await.expect(201);
    let empty = empty["id"].as_str().unwrap();
    let answer = site.checkout(empty, "key-1", "tok_ok", 30).await;
    let lacks = met.expect(answer, "cart_incomplete", &["requirements"]);
    assert_eq!(lacks["requirements"][0]["code"], "lines_missing");
    let wrong = site.store(Method::POST, "/carts", Some(json!({"currency": "XXX"}))).await;
    met.expect(wrong, "invalid_request", &["errors"]);
    let patch = |version: &str| {
        let request = site.request(Method::PATCH, &format!("/v1/store/carts/{empty}"));
        request.header("If-Match", version).json(&json!({"reference": "PO 7"}))
    };
    met.expect(site.send(patch("\"77\"")).await, "version_mismatch", &["version", "errors"]);

    let cart = site.cart(&[("LAMP", 1)]).await;
    let order = cart.replace("cart_", "ord_");
    let body = json!({"payment": {"provider": "sandbox", "token": "tok_ok"},
        "expected_total": {"amount": 1, "currency": "GBP"}});
    let request = site.request(Method::POST, &format!("/v1/store/carts/{cart}/checkout"));
    let changed = site.send(request.header("Idempotency-Key", "key-2").json(&body)).await;
    assert_eq!(met.expect(changed, "cart_changed", &["total", "errors"])["total"]["amount"], 1_000);
    site.checkout(&cart, "key-3", "tok_ok", 30).await.expect(201);
    let spent = site.store(Method::GET, &format!("/carts/{cart}"), None).await;
    assert_eq!(met.expect(spent, "cart_spent", &["order"])["order"], order);
}

async fn orders(site: &Site, met: &mut Met) {
    let pay = async |cart: &str, token: &str, key: &str, wait: u32| {
        let order = cart.replace("cart_", "ord_");
        let body = json!({"payment": {"provider": "sandbox", "token": token}});
        let request = site.request(Method::POST, &format!("/v1/store/orders/{order}/payments"));
        let request = request.bearer_auth(buyer_tokens::token(cart));
        let request = request.header("Prefer", format!("wait={wait}"));
        site.send(request.header("Idempotency-Key", format!("{key}-again")).json(&body)).await
    };
    let cart = site.cart(&[("LAMP", 1)]).await;
    let declined = site.checkout(&cart, "key-1", "tok_declined", 30).await;
    let own = ["order", "links", "decline_code", "payment_deadline_at"];
    met.expect(declined, "payment_declined", &own);
    site.checkout(&cart, "key-2", "tok_ok", 30).await.expect(201);
    let paid = pay(&cart, "tok_ok", "key-2", 30).await;
    met.expect(paid, "wrong_state", &["order", "links"]);
    let order = cart.replace("cart_", "ord_");
    let body = json!({"reason": "nothing is stuck"});
    let retried = site.admin(Method::POST, &format!("/orders/{order}/retry"), Some(body)).await;
    met.expect(retried, "wrong_state", &[]);

    let slow = site.cart(&[("LAMP", 1)]).await;
    site.checkout(&slow, "key-1", "tok_webhook_only", 0).await.expect(202);
    let other = site.checkout(&slow, "key-2", "tok_ok", 0).await;
    met.expect(other, "checkout_in_progress", &["order", "links"]);

    let cart = site.cart(&[("LAMP", 1)]).await;
    let declined = site.checkout(&cart, "key-1", "tok_declined", 30).await.body;
    let cancel = site.request(Method::POST, declined["links"]["cancel"].as_str().unwrap());
    site.send(cancel.bearer_auth(buyer_tokens::token(&cart))).await.expect(200);
    let late = site.checkout(&cart, "key-2", "tok_ok", 30).await;
    met.expect(late, "order_cancelled", &["order", "links"]);

    let many = site.cart(&[("LAMP", 5_000)]).await;
    let short = site.checkout(&many, "key-1", "tok_ok", 30).await;
    let short = met.expect(short, "out_of_stock", &["order", "links", "lines"]);
    assert_eq!((&short["order"], &short["lines"][0]["requested"]), (&Value::Null, &json!(5_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_has_the_members_of_its_code() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 100).await;
    let mut met = Met::default();
    carts(&site, &mut met).await;
    orders(&site, &mut met).await;
    let (challenged, too_many) = guests::refusals().await;
    met.expect(challenged, "challenge_required", &["challenge"]);
    met.expect(too_many, "too_many_held", &["bound", "most", "requested"]);
    assert_eq!(met.0, documents::codes_with_members());
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_error_codes_are_on_one_page() {
    let site = Site::open().await;
    let page = site.request(Method::GET, "/docs/errors").send().await.unwrap();
    assert_eq!(page.status().as_u16(), 200);
    let page = page.text().await.unwrap();
    for code in ["invalid_request", "cart_changed", "internal"] {
        assert!(page.contains(&format!("<a href=\"/docs/errors/{code}\">")), "{code}");
    }
}
