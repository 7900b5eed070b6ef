//! Security events in the log of a real server and of commands: each has who and from where, and none
//! has a secret.

use std::io::{Read as _, Write as _};
use std::path::Path;

use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::bus::{nats, until};
use crate::live;
use crate::process::{self, Server, kontor};
use crate::servers::database;
use crate::site::Site;

/// Where the callers are, as the trusted proxy reports it.
const FROM: &str = "203.0.113.7";
const WRONG: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The security events in a log: event, who, from and about.
pub fn events(log: &str) -> Vec<[String; 4]> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let events = lines.filter(|line| line["target"] == "security" && line["level"] == "INFO");
    let text = |line: &Value, name: &str| line["fields"][name].as_str().unwrap().to_owned();
    events.map(|line| ["event", "who", "from", "about"].map(|name| text(&line, name))).collect()
}

struct Caller {
    web: reqwest::Client,
    url: String,
}

impl Caller {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.web.request(method, format!("{}{path}", self.url));
        request.header("X-Forwarded-For", FROM)
    }

    /// Signs in; the cookie of the session, if there is one.
    async fn sign_in(&self, body: Value) -> (StatusCode, String) {
        let answer = self.request(Method::POST, "/v1/session").json(&body).send().await.unwrap();
        let cookie = answer.headers().get("set-cookie").map(|text| text.to_str().unwrap());
        let cookie = cookie.unwrap_or_default().split(';').next().unwrap().to_owned();
        (answer.status(), cookie)
    }
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

/// Runs a command; its standard output and its standard error.
fn run(data: &Path, line: &str, more: &[&str]) -> (String, String) {
    let done = kontor().args(line.split(' ')).args(more).arg("--data").arg(data).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (told, log) = (text(done.stdout), text(done.stderr));
    assert!(done.status.success(), "{line}: {log}");
    (told, log)
}

fn id(key: &str) -> String {
    format!("key:{}", key.split('_').nth(1).unwrap())
}

/// A shop with an order, as a folder; and the order.
async fn shop(site: &mut Site) -> String {
    site.sell("LAMP", 1_000, 9).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let placed = site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    site.app.take().unwrap().stop().await;
    placed["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_logs_each_kind_of_security_event_without_a_secret() {
    let mut site = Site::open().await;
    let order = shop(&mut site).await;
    let data = site.config.data.dir.clone();
    let (admin, file) = (process::key(&data), site.dir.path().join("log"));
    let made = run(&data, "key create --scope stock:read --json", &[]).0;
    let less = serde_json::from_str::<Value>(&made).unwrap()["key"].as_str().unwrap().to_owned();
    let server = Server::start_with(&data, &site.config.sandbox.url, |command| {
        command.env("KONTOR__LOG__FILTER", "info").env("KONTOR__LOG__FORMAT", "json");
        command.env("KONTOR__HTTP__TRUSTED_PROXIES", "[\"127.0.0.1\"]");
        command.stderr(std::fs::File::create(&file).unwrap());
    });
    let caller = Caller { web: reqwest::Client::new(), url: server.url.clone() };
    let ask = |method: Method, path: &str| caller.request(method, path);

    let link = run(&data, "sign-in --name Ada --scope orders:read", &[]).0;
    let link = link.trim().rsplit_once('=').unwrap().1.to_owned();
    let (made, cookie) = caller.sign_in(json!({"link": link})).await;
    assert_eq!(made, 201);
    let session = ask(Method::GET, "/v1/session").header("Cookie", &cookie).send().await.unwrap();
    let session: Value = session.json().await.unwrap();
    let session = format!("session:{}", session["id"].as_str().unwrap());
    let page = |origin: &str| {
        ask(Method::DELETE, "/v1/session")
            .header("Cookie", &cookie)
            .header("Origin", origin.to_owned())
    };
    assert_eq!(status(page("https://evil.example")).await, 403);
    let orders_page = ask(Method::POST, "/v1/admin/orders/ord_1/cancel").header("Cookie", &cookie);
    assert_eq!(status(orders_page.header("Origin", "https://evil.example")).await, 403);
    assert_eq!(status(page(&server.url)).await, 204);
    assert_eq!(caller.sign_in(json!({"key": WRONG})).await.0, 401);
    let guessed = ask(Method::GET, "/v1/admin/stock");
    let guessed = guessed.header("Cookie", format!("__Host-kontor={WRONG}"));
    assert_eq!(status(guessed).await, 401);
    let path = format!("/v1/store/carts/{}", order.replace("ord_", "cart_"));
    let cart = |method, token: &str| ask(method, &path).bearer_auth(format!("{token}{WRONG}"));
    assert_eq!(status(cart(Method::GET, "ct_")).await, 404);
    assert_eq!(status(cart(Method::PATCH, "ot_").json(&json!({}))).await, 404);
    assert_eq!(status(ask(Method::GET, &path)).await, 404);

    let orders = |key: &str| ask(Method::GET, "/v1/admin/orders").bearer_auth(key.to_owned());
    assert_eq!(status(orders(&less)).await, 403);
    assert_eq!(status(orders(WRONG)).await, 401);
    let forged = ask(Method::POST, "/v1/webhooks/sandbox").header("X-Signature", WRONG);
    assert_eq!(status(forged.json(&json!({"email": "eve@example.com"}))).await, 401);
    let token = ask(Method::POST, &format!("/v1/admin/orders/{order}/tokens")).bearer_auth(&admin);
    let token: Value = token.send().await.unwrap().json().await.unwrap();
    let person = ask(Method::POST, "/v1/admin/erasures").bearer_auth(&admin);
    assert_eq!(status(person.json(&json!({"email": "eve@example.com"}))).await, 200);
    let bearer = format!("Bearer {less}");
    let headers = [("authorization", &*bearer), ("x-forwarded-for", FROM)];
    let mut socket = live::connect_to(&server.url, "", &headers).await.unwrap();
    socket.say(json!({"type": "subscribe", "id": "o", "topic": "orders"})).await;
    socket.until(|message| message["code"] == "forbidden").await;
    let mut last = 0;
    for _ in 0..20 {
        last = caller.sign_in(json!({"link": WRONG})).await.0.as_u16();
    }
    assert_eq!(last, 429);
    assert_eq!(server.terminate(), Some(0));

    let log = std::fs::read_to_string(&file).unwrap();
    let found = events(&log);
    let said = |event: &str, who: &str, about: &str| {
        let one = [event, who, FROM, about].map(str::to_owned);
        assert!(found.contains(&one), "{one:?} is not in {found:#?}");
    };
    said("signed_in", &session, "Ada (orders:read)");
    said("signed_out", &session, "Ada");
    said("scope_refused", &id(&less), "list_orders: the key lacks the scope orders:read");
    said("scope_refused", &id(&less), "open_live: this topic needs the scope orders:read");
    said("order_token_issued", &id(&admin), &order);
    said("person_erased", &id(&admin), "0 orders erased, 0 kept for now");
    let key_missing = "an API key is required: Authorization: Bearer sk_…";
    said("credential_refused", "anyone", &format!("list_stock: {key_missing}"));
    said("credential_refused", "anyone", "get_cart: this is not the token of the cart");
    said("credential_refused", "anyone", "update_cart: this is not the token of the cart");
    let of_carts = found.iter().filter(|one| one[3].contains("cart: ")).count();
    assert_eq!(of_carts, 2, "without a token nothing is guessed: {found:#?}");
    let other_page = "a change with a session cookie must come from a page of this host";
    for operation in ["delete_session", "cancel_order"] {
        said("origin_refused", &session, &format!("{operation}: {other_page}"));
    }
    for (event, who) in [
        ("sign_in_refused", "anyone"),
        ("locked_out", "anyone"),
        ("credential_refused", "anyone"),
        ("webhook_forged", "anyone"),
    ] {
        let of = |one: &&[String; 4]| one[0] == event;
        let one = found.iter().find(of).unwrap_or_else(|| panic!("{event}: {found:#?}"));
        assert_eq!((one[1].as_str(), one[2].as_str()), (who, FROM), "{event}");
    }
    assert!(found.iter().any(|one| one[3].starts_with("take_webhook sandbox: ")), "{found:#?}");
    let secret = |key: &str| key.rsplit('_').next().unwrap().to_owned();
    let cookie = cookie.split_once('=').unwrap().1.to_owned();
    let token = token["token"].as_str().unwrap().to_owned();
    let email = "eve@example.com".to_owned();
    for kept in [WRONG.to_owned(), secret(&admin), secret(&less), link, cookie, token, email] {
        assert!(!log.contains(&kept), "{kept} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_logs_what_a_user_of_the_machine_did_without_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let user = format!("user:{}", rustix::process::getuid().as_raw());
    let one = |log: &str, event: &str| {
        let found = events(log);
        let [only] = &*found else { panic!("{event}: {found:?} in {log}") };
        let [kind, who, from, about] = only;
        assert_eq!((&**kind, &**who, &**from), (event, &*user, "this machine"));
        about.clone()
    };
    let (made, log) = run(&data, "key create --scope stock:read --name till --json", &[]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(one(&log, "key_created"), format!("{id} till (stock:read)"));
    assert!(!log.contains(key.rsplit('_').next().unwrap()), "{log}");
    let (link, log) = run(&data, "sign-in --name Ada", &[]);
    assert_eq!(one(&log, "link_created"), "Ada (admin)");
    assert!(!log.contains(link.trim().rsplit_once('=').unwrap().1), "{log}");
    assert_eq!(one(&run(&data, "key revoke", &[id]).1, "key_revoked"), id);
    assert_eq!(one(&run(&data, "sign-out", &[]).1, "sessions_ended"), "all sessions and links");
    assert_eq!(one(&run(&data, "key rotate --master", &[]).1, "store_keys_rotated"), "master");
    one(&run(&data, "new-history", &[]).1, "history_renewed");
    let backup = dir.path().join("a.db");
    let backup = backup.to_str().unwrap();
    assert_eq!(one(&run(&data, "backup --to", &[backup]).1, "backup_made"), backup);
    let (master, restored) = (data.join("master.key"), dir.path().join("restored"));
    let line = format!("restore --from {backup} --master-key {}", master.display());
    let about = one(&run(&restored, &line, &[]).1, "store_restored");
    assert_eq!(about, format!("{backup} into {}", restored.display()));
    let nobody = ["--url", "http://127.0.0.1:1", "--key", key];
    let failed = kontor().args(["import", "none.csv"]).args(nobody).output().unwrap();
    let log = String::from_utf8(failed.stderr).unwrap();
    assert_eq!(one(&log, "import_started"), "none.csv");
    assert!(!log.contains(key.rsplit('_').next().unwrap()), "{log}");
}

/// The number of events of a kind that a server has counted.
async fn counted(url: &str, event: &str) -> u64 {
    let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    let name = format!("kontor_security_events_total{{event=\"{event}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

/// The numbers of the summaries of a kind in a log, with their addresses.
fn summaries(log: &str, event: &str) -> Vec<(String, u64)> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fields =
        lines.filter(|line| line["target"] == "security").map(|line| line["fields"].clone());
    let of = fields.filter(|fields| fields["event"] == event && fields["who"] == "several");
    let from = |fields: &Value| fields["from"].as_str().unwrap().to_owned();
    of.map(|fields| (from(&fields), fields["count"].as_u64().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_requests_has_few_lines_in_the_log_and_is_counted_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("log"));
    let server = Server::start_with(&data, "http://127.0.0.1:1", |command| {
        command.env("KONTOR__LOG__FILTER", "info").env("KONTOR__LOG__FORMAT", "json");
        command.env("KONTOR__HTTP__TRUSTED_PROXIES", "[\"127.0.0.1\"]");
        command.stderr(std::fs::File::create(&file).unwrap());
    });
    let caller = Caller { web: reqwest::Client::new(), url: server.url.clone() };
    let others = (0..300).map(|number| format!("198.51.{}.{}", 100 + number / 100, number % 100));
    let callers: Vec<String> = std::iter::repeat_n(FROM.to_owned(), 60).chain(others).collect();
    for from in &callers {
        let forged = caller.web.post(format!("{}/v1/webhooks/sandbox", caller.url));
        let forged = forged.header("X-Forwarded-For", from).header("X-Signature", WRONG);
        assert_eq!(status(forged.json(&json!({}))).await, 401);
    }
    assert_eq!(counted(&server.url, "webhook_forged").await, callers.len() as u64);
    assert_eq!(server.terminate(), Some(0));

    let log = std::fs::read_to_string(&file).unwrap();
    let summaries = summaries(&log, "webhook_forged");
    let all = events(&log);
    let logged: Vec<_> = all.iter().filter(|one| one[0] == "webhook_forged").collect();
    let in_full: Vec<_> = logged.iter().filter(|one| one[1] != "several").collect();
    let more: u64 = summaries.iter().map(|(_, count)| count).sum();
    assert_eq!(in_full.len() as u64 + more, callers.len() as u64, "{summaries:?}");
    // A period may have ended meanwhile.
    let periods = summaries.iter().filter(|(from, _)| from == FROM).count();
    let of_one = in_full.iter().filter(|one| one[2] == FROM).count();
    assert!((1..=10 * periods).contains(&of_one), "{of_one} in {periods} periods");
    assert!(summaries.iter().any(|(from, _)| from == "other addresses"), "{summaries:?}");
    assert!(in_full.len() <= 200 * (periods + 1), "{}", in_full.len());
}

#[test]
fn requests_that_are_none_add_no_lines_to_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("log"));
    let server = Server::start_with(&data, "http://127.0.0.1:1", |command| {
        command.env("KONTOR__LOG__FILTER", "info,actix_http=debug");
        command.stderr(std::fs::File::create(&file).unwrap());
    });
    let address = server.url.trim_start_matches("http://");
    for text in ["x\r\n\r\n", "GET / HTTP/1.1\n\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut connection = std::net::TcpStream::connect(address).unwrap();
        connection.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(server.terminate(), Some(0));
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(!log.contains("stream error"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forged_over_nats_is_a_security_event() {
    let (nats, store) = (nats::Server::start(), database());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log");
    let made = kontor().args(["key", "create", "--scope", "admin", "--store", &store]).output();
    assert!(made.unwrap().status.success());
    let url = nats.options().url;
    let start = |name: &str, log: Option<&Path>| {
        Server::start_with(&dir.path().join(name), "http://127.0.0.1:1", |command| {
            command.env("KONTOR__LOG__FILTER", "info").env("KONTOR__LOG__FORMAT", "json");
            command.env("KONTOR__STORE__URL", &store).env("KONTOR__BUS__URL", &url);
            command.env("KONTOR__CLUSTER__NODE", name).env("KONTOR__CLUSTER__SETTLE_MS", "0");
            command.env("KONTOR__CLUSTER__LEASE_MS", "60000");
            let discarded = std::process::Stdio::null;
            let to = log.map(|log| std::fs::File::create(log).unwrap());
            command.stderr(to.map_or_else(discarded, std::process::Stdio::from));
        })
    };
    let (one, two) = (start("one", Some(&file)), start("two", None));
    let cart = |url: &str| {
        let request = reqwest::Client::new().post(format!("{url}/v1/store/carts"));
        request.json(&json!({})).timeout(std::time::Duration::from_millis(500)).send()
    };
    let (forger, mut calls) = nats.stranger("kontor.node.two.calls").await;
    until("one calls two", async || {
        let _made = cart(&one.url).await;
        futures_util::FutureExt::now_or_never(calls.next()).is_some()
    })
    .await;
    // From now on, somebody else answers in its place.
    two.signal("-STOP");
    let forges = tokio::spawn({
        let forger = forger.clone();
        async move {
            while let Some(call) = calls.next().await {
                forger.publish(call.reply.unwrap(), "forged".into()).await.unwrap();
            }
        }
    });
    until("a forged answer is counted", async || {
        let _late = cart(&one.url).await;
        counted(&one.url, "node_answer_forged").await > 0
    })
    .await;
    forges.abort();
    let refused = forger.request("kontor.node.one.calls", "call".into()).await.unwrap();
    let outcome = refused.headers.unwrap().get("Kontor-Call-Outcome").unwrap().to_string();
    assert_eq!(outcome, "unsigned");
    forger.publish("kontor.notices", "notice".into()).await.unwrap();
    until("a forged notice is counted", async || counted(&one.url, "notice_forged").await > 0)
        .await;
    drop(two);
    assert_eq!(one.terminate(), Some(0));

    let found = events(&std::fs::read_to_string(&file).unwrap());
    for (event, about) in [
        ("node_answer_forged", "an answer to a call to node two is not signed by it"),
        ("node_call_forged", "kontor.node.one.calls: the call is not signed by a node"),
        ("notice_forged", "ignored a notice"),
    ] {
        let of = |one: &&[String; 4]| one[0] == event;
        let [_, who, from, said] = found.iter().find(of).unwrap_or_else(|| panic!("{found:#?}"));
        assert_eq!((&**who, &**from), ("anyone", "NATS"));
        assert!(said.starts_with(about), "{said}");
    }
}
