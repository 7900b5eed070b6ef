//! A disk that fills up and empties again: a real one of a few MiB, mounted as the data folder of
//! the real server. Where the system lets nobody mount one, the test says so and does nothing.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::process::{self, Server};

/// A file system in memory, in a name space of its own that lives as long as this.
struct Disk {
    keeper: Child,
    /// Where it is, within the name space.
    path: PathBuf,
    /// Whether it is in a user's name space, where no root is needed.
    user: bool,
}

impl Disk {
    /// Mounts one of so many MiB over an empty folder.
    fn mount(path: &Path, mib: u32) -> Result<Self, String> {
        let mut why = String::new();
        for user in [true, false] {
            let mut command = Command::new("unshare");
            command.args(if user { &["-r", "-m"][..] } else { &["-m"] });
            let script = format!(
                "mount -t tmpfs -o size={mib}m,mode=700 none '{}' && echo mounted && exec sleep infinity",
                path.display()
            );
            command.args(["--propagation", "private", "sh", "-c", &script]);
            let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            let mut keeper = spawned.map_err(|error| format!("unshare: {error}"))?;
            let mut line = String::new();
            BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
            if line.trim() == "mounted" {
                return Ok(Self { keeper, path: path.to_owned(), user });
            }
            let told = keeper.wait_with_output().unwrap();
            why += String::from_utf8_lossy(&told.stderr).trim();
        }
        Err(why)
    }

    /// Makes a command run where the disk is.
    fn enter(&self, command: &Command) -> Command {
        let mut entered = Command::new("nsenter");
        entered.args(["-t", &self.keeper.id().to_string(), "-m"]);
        if self.user {
            entered.args(["-U", "--preserve-credentials"]);
        }
        entered.arg("--").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            entered.env(name, value.unwrap());
        }
        entered.stdout(Stdio::piped());
        entered
    }

    /// The filler's path, as seen from outside.
    fn filler(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        root.join(self.path.strip_prefix("/").unwrap()).join("filler")
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.filler()).unwrap();
        while file.write(&[1; 4_096]).is_ok_and(|written| written > 0) {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

struct Shop {
    web: reqwest::Client,
    url: String,
    key: String,
}

impl Shop {
    async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let url = format!("{}/v1{path}", self.url);
        let request = self.web.request(method, url).bearer_auth(&self.key).json(&body);
        let response = request.header("Prefer", "wait=20").send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn buy(&self, number: usize) -> Result<String, Value> {
        let address = json!({
            "name": "Ada", "line1": "1 High Street", "city": "London",
            "postal_code": "N1 1AA", "country": "GB",
        });
        let cart = json!({
            "email": "ada@example.com", "delivery_option": "standard",
            "lines": [{"sku": "LAMP", "quantity": 1}], "shipping_address": address,
        });
        let (status, cart) = self.send(Method::POST, "/store/carts", cart).await;
        if status != 201 {
            return Err(cart);
        }
        let id = cart["id"].as_str().unwrap();
        let url = format!("{}/v1/store/carts/{id}/checkout", self.url);
        let body = json!({"payment": {"provider": "sandbox", "token": "tok_ok"}});
        let request = self.web.post(url).bearer_auth(cart["token"].as_str().unwrap());
        let request = request.json(&body).header("Prefer", "wait=20");
        let request = request.header("Idempotency-Key", format!("key-{number}"));
        let response = request.send().await.unwrap();
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        if status == 201 { Ok(id.replace("cart_", "ord_")) } else { Err(answer) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_and_empties_again_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let disk = match Disk::mount(&data, 24) {
        Ok(disk) => disk,
        Err(why) => {
            println!("nothing was tried: neither root nor a user's name space can mount: {why}");
            return;
        }
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    let psp = kontor_sandbox_psp::Options { data: dir.path().join("psp"), listen };
    let psp = kontor_sandbox_psp::start(psp).await.unwrap();
    let mut command = process::kontor();
    command.args(["key", "create", "--scope", "admin", "--data"]).arg(&data);
    let made = disk.enter(&command).output().unwrap();
    let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    assert!(key.starts_with("sk_"), "{made:?}");
    let server = Server::start_with(&data, &psp.url(), |command| *command = disk.enter(command));
    let web = reqwest::Client::builder().timeout(Duration::from_secs(40)).build().unwrap();
    let shop = Shop { web, url: server.url.clone(), key };
    let product =
        json!({"sku": "LAMP", "name": "Lamp", "prices": [{"amount": 1000, "currency": "GBP"}]});
    assert_eq!(shop.send(Method::POST, "/admin/products", product).await.0, 201);
    shop.send(Method::PUT, "/admin/stock/LAMP/main", json!({"on_hand": 10_000})).await;
    let mut orders = vec![shop.buy(0).await.unwrap()];
    for round in 1..=2 {
        disk.fill();
        // What room the log still has of its own is used up first.
        let mut number = 0;
        let refusal = loop {
            number += 1;
            assert!(number < 2_000, "the disk never was full");
            match shop.buy(round * 10_000 + number).await {
                Ok(order) => orders.push(order),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!((&refusal["status"], &refusal["code"]), (&json!(503), &json!("storage_full")));
        let words = refusal.to_string().to_lowercase();
        assert!(!words.contains("sqlite") && !words.contains("database"), "{refusal:#}");
        for path in ["/store/products", "/admin/orders", &format!("/admin/orders/{}", orders[0])] {
            let (status, body) = shop.send(Method::GET, path, Value::Null).await;
            assert_eq!(status, 200, "{path}: {body:#}");
        }
        let ready = shop.web.get(format!("{}/readyz", shop.url)).send().await.unwrap();
        assert_eq!(ready.status(), 503);
        std::fs::remove_file(disk.filler()).unwrap();
        let order = loop {
            number += 1;
            assert!(number < 4_000, "it never went on");
            match shop.buy(round * 10_000 + number).await {
                Ok(order) => break order,
                Err(refusal) => {
                    assert_eq!(refusal["status"], 503, "{refusal:#}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        orders.push(order);
    }
    for order in &orders {
        let (status, body) =
            shop.send(Method::GET, &format!("/admin/orders/{order}"), Value::Null).await;
        assert_eq!((status.as_u16(), &body["status"]), (200, &json!("confirmed")), "{body:#}");
    }
    server.kill();
    let mut verify = process::kontor();
    verify.args(["verify", "--sandbox-psp", &psp.url(), "--data"]).arg(&data);
    let told = disk.enter(&verify).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stdout));
    psp.stop().await;
}
