//! Signing in: links that work once, sessions and how they end, who may change what with a
//! cookie, and the page that is served for it.

use std::os::unix::fs::PermissionsExt as _;

use kontor::actors::engine::clock::Clock;
use kontor::app::App;
use kontor::config::Config;
use kontor::domain::time::{Span, Timestamp};
use kontor::store::session::{IDLE, LASTS, LINK_LASTS};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::process::{self, Server, kontor};
use crate::site::Site;

/// An answer: its status, its JSON, and what the cookie was set to.
struct Answer {
    status: u16,
    body: Value,
    set_cookie: String,
}

impl Answer {
    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The cookie as a browser sends it back.
    fn cookie(&self) -> String {
        self.set_cookie.split(';').next().unwrap().to_owned()
    }
}

async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let text = |name: &str| {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    let (status, set_cookie) = (response.status().as_u16(), text("set-cookie"));
    let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null);
    Answer { status, body, set_cookie }
}

async fn sign_in(url: &str, body: Value) -> Answer {
    send(reqwest::Client::new().post(format!("{url}/v1/session")).json(&body)).await
}

async fn link(app: &App, scopes: &[&str]) -> String {
    let scopes: Vec<String> = scopes.iter().map(|&scope| scope.to_owned()).collect();
    let now = app.node.clock.now();
    let made = app.store.create_link("a link", &scopes, now, LINK_LASTS).await.unwrap();
    made.reveal().to_owned()
}

/// A server without a provider, on a clock that is turned by hand.
async fn by_hand() -> (App, Clock, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.data.dir = dir.path().join("data");
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    config.http.workers = 1;
    let clock = Clock::by_hand(Timestamp::from_millis(1_700_000_000_000));
    (App::start_at(&config, clock.clone()).await.unwrap(), clock, dir)
}

fn with(cookie: &str, method: Method, url: String) -> RequestBuilder {
    reqwest::Client::new().request(method, url).header("Cookie", cookie)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_signs_in_once_and_its_scopes_hold() {
    let (app, _, _dir) = by_hand().await;
    let url = app.url();
    let token = link(&app, &["orders:read", "stock:read"]).await;
    let made = sign_in(&url, json!({"link": token})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.body["scopes"], json!(["orders:read", "stock:read"]));
    assert_eq!(made.body["name"], "a link");
    assert_eq!(made.body["expires_at"], "2023-11-21T22:13:20.000Z");
    for part in ["__Host-kontor=", "Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(made.set_cookie.contains(part), "{}", made.set_cookie);
    }
    assert!(made.set_cookie.ends_with("; Max-Age=604800") && !made.set_cookie.contains("Domain"));

    let cookie = made.cookie();
    let get = async |path: &str| send(with(&cookie, Method::GET, format!("{url}{path}"))).await;
    assert_eq!(get("/v1/session").await.body, made.body);
    assert_eq!(get("/v1/admin/orders").await.status, 200);
    assert_eq!(get("/v1/admin/stock").await.status, 200);
    let refused = get("/v1/admin/sagas").await;
    assert_eq!((refused.status, refused.code()), (403, "forbidden"));

    let again = sign_in(&url, json!({"link": token})).await;
    let wrong = sign_in(&url, json!({"link": "0".repeat(64)})).await;
    let key = sign_in(&url, json!({"key": "sk_0000000000000000_0"})).await;
    for refused in [again, wrong, key] {
        assert_eq!((refused.status, refused.set_cookie.as_str()), (401, ""));
        let detail = "the link or key is unknown, used, revoked or expired";
        assert_eq!(refused.body["detail"], detail);
    }
    for bad in [json!({}), json!({"link": "a", "key": "b"}), json!({"link": ""})] {
        assert_eq!(sign_in(&url, bad).await.status, 422);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_uses_of_a_link_sign_in_once() {
    let (app, _, _dir) = by_hand().await;
    let (url, token) = (app.url(), link(&app, &["admin"]).await);
    let tries = (0..10).map(|_| {
        let (url, body) = (url.clone(), json!({"link": token}));
        tokio::spawn(async move { sign_in(&url, body).await.status })
    });
    let mut answers = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        answers.push(one.await.unwrap());
    }
    answers.sort_unstable();
    assert_eq!((answers[0], &answers[1..]), (201, &[401; 9][..]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_sessions_end_by_themselves() {
    let (app, clock, _dir) = by_hand().await;
    let (url, store) = (app.url(), app.store.clone());
    let old = link(&app, &["admin"]).await;
    clock.turn(LINK_LASTS);
    assert_eq!(sign_in(&url, json!({"link": old})).await.status, 401);

    let made = sign_in(&url, json!({"link": link(&app, &["admin"]).await})).await;
    let get = async || send(with(&made.cookie(), Method::GET, format!("{url}/v1/session"))).await;
    let id = made.body["id"].as_str().unwrap();
    let nearly = Span::from_millis(IDLE.millis() - 1);
    for _ in 0..2 {
        clock.turn(nearly);
        assert_eq!(get().await.status, 200);
    }
    clock.turn(IDLE);
    assert_eq!(get().await.status, 401);

    let made = sign_in(&url, json!({"link": link(&app, &["admin"]).await})).await;
    let secret = made.cookie().split_once('=').unwrap().1.to_owned();
    assert!(store.valid_session(id, clock.now()).await.unwrap().is_none());
    let began = clock.now();
    while clock.now() + IDLE < began + LASTS {
        clock.turn(nearly);
        let found = store.find_session(&secret, clock.now()).await.unwrap();
        store.touch_session(&mut found.unwrap(), clock.now()).await.unwrap();
    }
    clock.turn(nearly);
    assert_eq!(store.find_session(&secret, clock.now()).await.unwrap(), None, "7 days");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_changes_something_only_from_a_page_of_this_host() {
    let site = Site::open().await;
    site.sell("A", 100, 5).await;
    let url = site.url();
    let made = sign_in(&url, json!({"key": site.key})).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.body["name"], "test");
    let set = |on_hand: i64, headers: &[(&str, &str)]| {
        let url = format!("{url}/v1/admin/stock/A/main");
        let request = with(&made.cookie(), Method::PUT, url).json(&json!({"on_hand": on_hand}));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let evil: &[&[(&str, &str)]] = &[
        &[],
        &[("Origin", "https://evil.example")],
        &[("Origin", "null")],
        &[("Origin", &url), ("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
    ];
    for headers in evil {
        let refused = send(set(6, headers)).await;
        assert_eq!((refused.status, refused.code()), (403, "forbidden_origin"), "{headers:?}");
    }
    let good: &[&[(&str, &str)]] =
        &[&[("Origin", &url)], &[("Origin", &url), ("Sec-Fetch-Site", "same-origin")]];
    for (on_hand, headers) in (7..).zip(good) {
        let done = send(set(on_hand, headers)).await;
        assert_eq!((done.status, &done.body["on_hand"]), (200, &json!(on_hand)), "{}", done.body);
    }
    // A key needs no origin, whatever cookie comes along.
    assert_eq!(send(set(9, &[]).bearer_auth(&site.key)).await.status, 200);
    // Nor does a page of another host sign anybody in.
    let request = reqwest::Client::new().post(format!("{url}/v1/session"));
    let request = request.header("Origin", "https://evil.example").json(&json!({"key": site.key}));
    assert_eq!(send(request).await.code(), "forbidden_origin");

    let by = |record: &kontor::store::journal::Record| {
        let cause: Value = serde_json::from_str(&record.cause).unwrap();
        cause["by"].as_str().unwrap_or_default().to_owned()
    };
    let journal = site.app.as_ref().unwrap().store.journal();
    let entity = kontor::domain::stock::entity_id(&"A".parse().unwrap());
    let records = journal.read_entity(&entity, 0, 100).await.unwrap();
    let session = format!("session:{}", made.body["id"].as_str().unwrap());
    assert_eq!(records.iter().filter(|record| by(record) == session).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_and_revoking_the_key_end_a_session() {
    let (app, clock, _dir) = by_hand().await;
    let (url, store) = (app.url(), app.store.clone());
    let scopes = ["admin".to_owned()];
    let (key, secret) = store.create_key("desk", &scopes, clock.now()).await.unwrap();
    let one = sign_in(&url, json!({"key": secret.reveal()})).await;
    let two = sign_in(&url, json!({"key": secret.reveal()})).await;
    let call = async |of: &Answer, method, origin: Option<&str>| {
        let request = with(&of.cookie(), method, format!("{url}/v1/session"));
        send(match origin {
            Some(origin) => request.header("Origin", origin),
            None => request,
        })
        .await
    };
    assert_eq!(call(&one, Method::GET, None).await.status, 200);
    assert_eq!(call(&one, Method::DELETE, None).await.code(), "forbidden_origin");
    let out = call(&one, Method::DELETE, Some(&url)).await;
    assert_eq!(out.status, 204);
    assert!(out.set_cookie.starts_with("__Host-kontor=;"), "{}", out.set_cookie);
    assert!(out.set_cookie.ends_with("Max-Age=0"), "{}", out.set_cookie);
    assert_eq!(call(&one, Method::GET, None).await.status, 401, "at once");
    assert_eq!(call(&one, Method::DELETE, Some(&url)).await.status, 204, "nothing to do");

    // Not looked at before it is revoked: nothing is remembered.
    let id = two.body["id"].as_str().unwrap();
    assert!(store.valid_session(id, clock.now()).await.unwrap().is_some());
    assert!(store.revoke_key(&key.id, clock.now()).await.unwrap());
    assert_eq!(call(&two, Method::GET, None).await.status, 401);
    assert!(store.valid_session(id, clock.now()).await.unwrap().is_none());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_sign_ins_are_limited() {
    let (app, _, _dir) = by_hand().await;
    let url = app.url();
    let good = link(&app, &["admin"]).await;
    for n in 0..20 {
        assert_eq!(sign_in(&url, json!({"link": format!("wrong {n}")})).await.status, 401);
    }
    let response = reqwest::Client::new().post(format!("{url}/v1/session"));
    let response = response.json(&json!({"link": "one more"})).send().await.unwrap();
    assert_eq!(response.status(), 429);
    let again: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&again), "{again}");
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(body["code"], "too_many_tries");
    assert_eq!(sign_in(&url, json!({"link": good})).await.status, 201, "a right one is let in");
    assert_eq!(sign_in(&url, json!({"link": good})).await.status, 429, "but once");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_and_found() {
    let (app, _, _dir) = by_hand().await;
    let url = app.url();
    let no_redirects = reqwest::redirect::Policy::none();
    let web = reqwest::Client::builder().redirect(no_redirects).build().unwrap();
    let get = |path: &str| web.get(format!("{url}{path}"));
    let page = get("/admin").send().await.unwrap();
    assert_eq!(page.status(), 200);
    let head = |name: &str| page.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(head("content-type"), "text/html; charset=utf-8");
    assert_eq!(head("cache-control"), "no-cache");
    assert_eq!(head("x-content-type-options"), "nosniff");
    assert_eq!(head("referrer-policy"), "no-referrer");
    let policy = head("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let same = get("/admin/orders").header("If-None-Match", head("etag")).send().await.unwrap();
    assert_eq!((same.status().as_u16(), same.text().await.unwrap().len()), (304, 0));
    let script = get("/admin/main.js").send().await.unwrap();
    assert_eq!(script.headers()["content-type"], "text/javascript; charset=utf-8");
    for none in ["/admin/none.js", "/admin/../Cargo.toml", "/admin/%2e%2e/build.rs"] {
        assert_eq!(get(none).send().await.unwrap().status(), 404, "{none}");
    }
    let browser = get("/").header("Accept", "text/html,*/*;q=0.8").send().await.unwrap();
    assert_eq!(
        (browser.status().as_u16(), &browser.headers()["location"]),
        (303, &"/admin".parse().unwrap())
    );
    assert_eq!(send(get("/")).await.body["admin"], "/admin");
    app.stop().await;
}

/// The token in a link.
fn token(link: &str) -> &str {
    link.split_once("/admin#sign-in=").unwrap_or_else(|| panic!("{link} is no link")).1
}

/// Every file below a folder, as one run of bytes.
fn everything(folder: &std::path::Path) -> Vec<u8> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.flat_map(|path| std::fs::read(path).unwrap()).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn first_start_writes_a_link_for_its_owner_and_keeps_no_other_secret() {
    let dir = tempfile::tempdir().unwrap();
    let (data, logs) = (dir.path().join("data"), dir.path().join("logs"));
    std::fs::create_dir(&logs).unwrap();
    // Nobody listens there: no payment is made.
    let start = |log: &str| {
        let file = std::fs::File::create(logs.join(log)).unwrap();
        Server::start_with(&data, "http://127.0.0.1:1", |command| {
            command.env("KONTOR__LOG__FILTER", "trace").env("KONTOR__LOG__FORMAT", "json");
            command.stderr(file);
        })
    };
    let first = start("first.log");
    // What is shown elsewhere than on a terminal may be kept: the link is in a file of its own.
    assert_eq!(first.admin, format!("{}/admin", first.url));
    let file = data.join("sign-in-link");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let link = std::fs::read_to_string(&file).unwrap();
    assert!(link.starts_with(&format!("{}/admin#sign-in=", first.url)), "{link}");
    let shown = token(link.trim_end()).to_owned();
    let made = sign_in(&first.url, json!({"link": shown})).await;
    assert_eq!((made.status, &made.body["scopes"]), (201, &json!(["admin"])), "{}", made.body);
    let key = process::key(&data);
    let orders = format!("{}/v1/admin/orders", first.url);
    assert_eq!(send(with(&made.cookie(), Method::GET, orders)).await.status, 200);

    // Beside the running server, with less.
    let beside = kontor()
        .args(["sign-in", "--scope", "orders:read", "--url", &first.url, "--json", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(beside.status.success(), "{}", String::from_utf8_lossy(&beside.stderr));
    let beside: Value = serde_json::from_slice(&beside.stdout).unwrap();
    let link = beside["link"].as_str().unwrap();
    assert!(link.starts_with(&first.url), "{link}");
    let less = sign_in(&first.url, json!({"link": token(link)})).await;
    assert_eq!((less.status, &less.body["scopes"]), (201, &json!(["orders:read"])));
    let by_key = sign_in(&first.url, json!({"key": key})).await;
    assert_eq!(by_key.status, 201);
    assert_eq!(first.terminate(), Some(0));

    // Later starts make no link, and remove one that was used.
    assert!(file.exists());
    let second = start("second.log");
    assert_eq!(second.admin, format!("{}/admin", second.url));
    assert!(!file.exists());
    let who = format!("{}/v1/session", second.url);
    assert_eq!(send(with(&made.cookie(), Method::GET, who)).await.body, made.body, "it lasts");
    let out = |more: &[&str]| {
        let done = kontor().args(["sign-out", "--data"]).arg(&data).args(more).output().unwrap();
        let told = String::from_utf8(done.stderr).unwrap();
        (done.status.success(), told.lines().last().unwrap_or_default().to_owned())
    };
    let id = less.body["id"].as_str().unwrap();
    assert!(out(&[id]).0 && !out(&[id]).0, "one, once");
    second.kill();

    let unused = kontor().args(["sign-in", "--data"]).arg(&data).output().unwrap();
    let unused = String::from_utf8(unused.stdout).unwrap();
    let (kept, logged) = (everything(&data), everything(&logs));
    assert!(contains(&kept, made.body["id"].as_str().unwrap()) && contains(&logged, "signed_in"));
    let cookies = [made.cookie(), less.cookie(), by_key.cookie()];
    let mut secrets =
        vec![&*shown, token(link), token(unused.trim()), key.rsplit('_').next().unwrap()];
    secrets.extend(cookies.iter().map(|cookie| cookie.split_once('=').unwrap().1));
    for secret in secrets {
        assert_eq!(secret.len(), 64);
        assert!(!contains(&kept, secret) && !contains(&logged, secret), "a secret was kept");
    }
    assert_eq!(out(&[]), (true, "2 sessions ended, 1 links revoked".to_owned()));
}

#[test]
fn the_demo_shows_a_new_link_when_one_was_used() {
    use std::io::{BufRead as _, BufReader};
    let mut demo = kontor()
        .args(["demo", "--for", "60s", "--rate", "1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut next = || {
        let line =
            lines.find_map(|line| Some(line.trim().strip_prefix("admin ")?.trim().to_owned()));
        line.expect("there is no link")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = next();
    let (url, token) = first.split_once("/admin#sign-in=").unwrap();
    assert_eq!(runtime.block_on(sign_in(url, json!({"link": token}))).status, 201);
    let second = next();
    let (_, token) = second.split_once("/admin#sign-in=").unwrap();
    let token = token.split(' ').next().unwrap();
    assert_eq!(runtime.block_on(sign_in(url, json!({"link": token}))).status, 201);
    // The demo verifies its books before it ends.
    std::process::Command::new("kill").args(["-TERM", &demo.id().to_string()]).status().unwrap();
    while lines.next().is_some() {}
    assert!(demo.wait().unwrap().success());
}
