//! From the start of the real program to its first `ready`, after a kill under load, on a store
//! with history.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::figure::{Figure, Spread};
use crate::{Outcome, Setting, generate, shop};

/// Checkouts that are under way when the server is killed.
const UNDER_WAY: u64 = 64;

/// A server, killed when it is dropped.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fills a store unless the folder has one, and starts on it again and again.
pub async fn run(setting: &Setting, orders: u64, shipped: bool) -> Outcome {
    let data = setting.dir().join(format!("history-{orders}"));
    if !data.join("kontor.db").exists() {
        let filled = generate::fill(&data, orders, shipped).await?;
        eprintln!("{} orders, {} events in {:.1} s", orders, filled.events, filled.secs);
    }
    let psp = tempfile::tempdir()?;
    let options = kontor_sandbox_psp::Options {
        data: psp.path().to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
    };
    let psp = kontor_sandbox_psp::start(options).await?;
    let web = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
    let empty = setting.dir().join("history-1");
    if !empty.join("kontor.db").exists() {
        generate::fill(&empty, 1, shipped).await?;
    }
    let (mut filled, mut fresh, mut settled) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.runs {
        for (dir, secs) in [(&data, &mut filled), (&empty, &mut fresh)] {
            let (server, _) = start(dir, &psp.url(), &web).await?;
            load(&server.url, &web).await?;
            drop(server);
            let begin = Instant::now();
            let (server, ready) = start(dir, &psp.url(), &web).await?;
            secs.push(ready);
            if *dir == data {
                one_more(&server.url, &web).await?;
                settled.push(begin.elapsed().as_secs_f64());
            }
        }
    }
    psp.stop().await;
    let figure = Figure {
        name: format!("ready: {orders} orders in the journal, killed with {UNDER_WAY} under way"),
        unit: "seconds from start to ready",
        kontor: filled,
        limit: fresh,
        limit_is: "the same with one order in the journal".into(),
        goal: "< 3 s",
        notes: vec![format!("{} s to the first paid checkout", Spread::of(&settled).text())],
    };
    figure.show(setting)
}

/// Starts the program; answers it and how many seconds it took to be ready.
async fn start(data: &Path, psp: &str, web: &reqwest::Client) -> Outcome<(Server, f64)> {
    std::fs::create_dir_all(data)?;
    let begin = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kontor"))
        .current_dir(std::env::temp_dir())
        .args(["serve", "--listen", "127.0.0.1:0", "--sandbox-psp", psp, "--data"])
        .arg(data)
        .env("KONTOR__LOG__FILTER", "error")
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("no standard output")?;
    let reading = tokio::task::spawn_blocking(move || {
        let lines = BufReader::new(out).lines().map_while(Result::ok);
        lines.into_iter().find_map(|line| {
            Some(line.trim().strip_prefix("API ")?.trim().strip_suffix("/v1")?.to_owned())
        })
    });
    let mut server = Server { child, url: String::new() };
    server.url = reading.await?.ok_or("the server did not start")?;
    loop {
        let answer = web.get(format!("{}/readyz", server.url)).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Ok((server, begin.elapsed().as_secs_f64()));
        }
        if begin.elapsed() > Duration::from_secs(120) {
            return Err("it is not ready after two minutes".into());
        }
    }
}

/// Checkouts that are not waited for.
async fn load(url: &str, web: &reqwest::Client) -> Outcome {
    for at in 0..UNDER_WAY {
        checkout(url, web, at, 0).await?;
    }
    Ok(())
}

/// A checkout that is waited for.
async fn one_more(url: &str, web: &reqwest::Client) -> Outcome {
    checkout(url, web, generate::SKUS - 2, 30).await
}

async fn checkout(url: &str, web: &reqwest::Client, at: u64, wait: u32) -> Outcome {
    let lines: Vec<_> = [at, at + 1]
        .map(|at| generate::sku(at % generate::SKUS))
        .into_iter()
        .filter_map(Result::ok)
        .map(|sku| json!({"sku": sku, "quantity": 1}))
        .collect();
    let address = serde_json::to_value(shop::address())?;
    let cart = json!({
        "currency": "GBP", "email": "ada@example.com", "lines": lines,
        "delivery_option": "standard", "shipping_address": address,
    });
    let answer = web.post(format!("{url}/v1/store/carts")).json(&cart).send().await?;
    let cart: serde_json::Value = answer.error_for_status()?.json().await?;
    let id = cart["id"].as_str().ok_or("a cart without an id")?;
    let token = cart["token"].as_str().ok_or("a cart without a token")?;
    let body = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}});
    web.post(format!("{url}/v1/store/carts/{id}/checkout"))
        .bearer_auth(token)
        .header("Idempotency-Key", id)
        .header("Prefer", format!("wait={wait}"))
        .json(&body)
        .send()
        .await?
        .error_for_status()?;
    Ok(())
}
