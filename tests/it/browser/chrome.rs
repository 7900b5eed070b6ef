//! A real Chromium, driven over its DevTools protocol: pages, keys, sizes, and what went wrong in
//! them. What the pages should do is in the tests.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long a condition may take to come true in a page.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(40);
/// What the browser says of a command whose page was left before it was answered.
const PAGE_LEFT: &str = "Inspected target navigated or closed";
const AXE: &str = include_str!("../../browser/axe.min.js");
const CONTRAST: &str = include_str!("../../browser/contrast.js");
/// All that axe finds, and what it cannot decide; but contrasts, and headings that were drawn anew
/// meanwhile.
const FINDINGS: &str = "axe.run().then(({violations, incomplete}) => [...violations, \
    ...incomplete.filter((one) => !['color-contrast', 'heading-order'].includes(one.id))]\
    .map((one) => `${one.impact} ${one.id}: ${one.nodes.map((node) => node.html).join(' ')}`))";
/// What can be pressed and is smaller than 24 pixels. A box is as large as its label.
const SMALL_TARGETS: &str =
    "[...document.querySelectorAll('a[href], button, input, select, textarea, summary')]
    .filter((one) => one.checkVisibility() && !one.closest('.unseen, .skip'))
    .map((one) => [one, (one.closest('label') ?? one).getBoundingClientRect()])
    .filter(([, box]) => box.width < 23.99 || box.height < 23.99)
    .map(([one, box]) => `${box.width}x${box.height}: ${one.outerHTML.slice(0, 160)}`)";
/// What a page may do on a machine without a display, and what it must not do.
const SWITCHES: [&str; 13] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--remote-debugging-port=0",
    "about:blank",
];

#[derive(Default)]
struct Heard {
    answers: HashMap<u64, oneshot::Sender<Value>>,
    troubles: Vec<String>,
}

/// The browser; it ends with the test.
pub struct Chrome {
    sink: AsyncMutex<SplitSink<Socket, Message>>,
    heard: Arc<Mutex<Heard>>,
    next: Mutex<u64>,
    child: Child,
    _dir: TempDir,
}

/// A tab.
pub struct Page {
    chrome: Chrome,
    session: String,
}

impl Chrome {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".into());
        let child = Command::new(&program)
            .args(SWITCHES)
            .arg(format!("--user-data-dir={}", dir.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("{program} does not start ({error}): scripts/test --needs installs it")
        });
        let address = address(dir.path().join("DevToolsActivePort")).await;
        let (socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
        let (sink, mut stream) = socket.split();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hears = heard.clone();
        tokio::spawn(async move {
            while let Some(Ok(Message::Text(text))) = stream.next().await {
                hear(&hears, serde_json::from_str(&text).unwrap());
            }
        });
        Self { sink: AsyncMutex::new(sink), heard, next: Mutex::new(1), child, _dir: dir }
    }

    /// The result of a command, or nothing if the page that it was for has been left meanwhile.
    async fn ask(&self, session: Option<&str>, method: &str, parameters: Value) -> Option<Value> {
        let id = {
            let mut next = self.next.lock().unwrap();
            *next += 1;
            *next
        };
        let (sender, receiver) = oneshot::channel();
        self.heard.lock().unwrap().answers.insert(id, sender);
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.sink.lock().await.send(Message::text(message.to_string())).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, receiver).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer to {method}")).unwrap();
        if answer["error"]["message"] == PAGE_LEFT {
            return None;
        }
        assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
        Some(answer["result"].clone())
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the browser listens, once it says so.
async fn address(file: PathBuf) -> String {
    let started = Instant::now();
    loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some((port, path)) = text.split_once('\n')
            && !path.is_empty()
        {
            return format!("ws://127.0.0.1:{}{}", port.trim(), path.trim());
        }
        assert!(started.elapsed() < PATIENCE, "the browser does not listen");
        tokio::time::sleep(POLL).await;
    }
}

fn hear(heard: &Mutex<Heard>, message: Value) {
    let mut heard = heard.lock().unwrap();
    if let Some(id) = message["id"].as_u64() {
        if let Some(sender) = heard.answers.remove(&id) {
            let _ = sender.send(message);
        }
        return;
    }
    let told = &message["params"];
    let trouble = match message["method"].as_str().unwrap_or_default() {
        "Runtime.exceptionThrown" => told["exceptionDetails"].to_string(),
        "Runtime.consoleAPICalled" if told["type"] == "error" || told["type"] == "warning" => {
            told["args"].to_string()
        }
        "Log.entryAdded" if told["entry"]["level"] == "error" => told["entry"].to_string(),
        _ => return,
    };
    heard.troubles.push(trouble);
}

impl Page {
    /// A new tab in a browser of its own.
    pub async fn open() -> Self {
        let chrome = Chrome::start().await;
        let target = chrome.ask(None, "Target.createTarget", json!({"url": "about:blank"})).await;
        let target = target.unwrap();
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = chrome.ask(None, "Target.attachToTarget", attach).await;
        let session = attached.unwrap()["sessionId"].as_str().unwrap().to_owned();
        let page = Self { chrome, session };
        for domain in ["Page", "Runtime", "Log"] {
            page.ask(&format!("{domain}.enable"), json!({})).await;
        }
        page.size(1440, 900).await;
        page
    }

    async fn ask(&self, method: &str, parameters: Value) -> Value {
        let answer = self.chrome.ask(Some(&self.session), method, parameters).await;
        answer.unwrap_or_else(|| panic!("the page was left before it answered {method}"))
    }

    pub async fn go(&self, url: &str) {
        let answer = self.ask("Page.navigate", json!({"url": url})).await;
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
    }

    /// What an expression, or the promise that it makes, comes to.
    pub async fn eval(&self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", ask).await;
        let wrong = &answer["exceptionDetails"];
        assert!(wrong.is_null(), "{expression:.300}: {wrong}");
        answer["result"]["value"].clone()
    }

    /// Does what may leave the page, which then gives no answer.
    async fn act(&self, expression: &str) {
        let ask = json!({"expression": expression});
        if let Some(answer) = self.chrome.ask(Some(&self.session), "Runtime.evaluate", ask).await {
            let wrong = &answer["exceptionDetails"];
            assert!(wrong.is_null(), "{expression:.300}: {wrong}");
        }
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) {
        let started = Instant::now();
        loop {
            // A page that is being left gives no answer: the next one is asked.
            let ask = json!({"expression": expression, "returnByValue": true});
            let answer = self.chrome.ask(Some(&self.session), "Runtime.evaluate", ask).await;
            if answer.is_some_and(|answer| answer["result"]["value"] == true) {
                return;
            }
            if started.elapsed() > PATIENCE {
                let text = self.eval("location.hash + '\\n' + document.body.innerText").await;
                panic!("never true: {expression}\n{}", text.as_str().unwrap_or_default());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until something is shown that a selector finds and that has a text in it.
    pub async fn sees(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.until(&format!(
            "[...document.querySelectorAll({selector})].some((one) => \
             one.checkVisibility() && one.textContent.includes({text}))"
        ))
        .await;
    }

    /// Clicks what a selector finds first, once it is shown.
    pub async fn click(&self, selector: &str) {
        let selector = json!(selector);
        self.until(&format!("document.querySelector({selector})?.checkVisibility() === true"))
            .await;
        self.act(&format!("document.querySelector({selector}).click()")).await;
    }

    /// Presses a key: a letter or sign, or a key's name.
    pub async fn press(&self, key: &str) {
        self.press_with(0, key).await;
    }

    /// Presses a key with the control key.
    pub async fn press_control(&self, key: &str) {
        self.press_with(2, key).await;
    }

    async fn press_with(&self, modifiers: u8, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            _ => 0,
        };
        let mut down = json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code,
            "modifiers": modifiers});
        if key == "Enter" {
            down["text"] = "\r".into();
        } else if code == 0 {
            down["text"] = key.into();
        }
        self.ask("Input.dispatchKeyEvent", down).await;
        let up = json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code});
        self.ask("Input.dispatchKeyEvent", up).await;
    }

    /// Clicks the button with this text, which gets the focus as under a pointer.
    pub async fn button(&self, text: &str) {
        let find = format!(
            "[...document.querySelectorAll('dialog[open] button, #page button, #page a.button')]\
             .find((one) => one.checkVisibility() && one.textContent === {})",
            json!(text)
        );
        self.until(&format!("{find} !== undefined")).await;
        self.act(&format!("(() => {{ const one = {find}; one.focus(); one.click(); }})()")).await;
    }

    /// Writes into a field of the open dialog, by its name, in place of what is there.
    pub async fn fill(&self, name: &str, text: &str) {
        let field = format!("document.querySelector('dialog[open] [name={name}]')");
        self.eval(&format!("{field}.focus(), {field}.select()")).await;
        self.write(text).await;
    }

    /// Lets the mouse rest in the middle of what a selector finds first, once it is shown.
    pub async fn hover(&self, selector: &str) {
        let selector = json!(selector);
        self.until(&format!("document.querySelector({selector})?.checkVisibility() === true"))
            .await;
        let middle = format!(
            "(({{left, top, width, height}}) => [left + width / 2, top + height / 2])\
             (document.querySelector({selector}).getBoundingClientRect())"
        );
        let at = self.eval(&middle).await;
        let moved = json!({"type": "mouseMoved", "x": at[0], "y": at[1]});
        self.ask("Input.dispatchMouseEvent", moved).await;
    }

    /// Takes the network from the page, or gives it back.
    pub async fn offline(&self, offline: bool) {
        self.ask("Network.enable", json!({})).await;
        let conditions = json!({"offline": offline, "latency": 0, "downloadThroughput": -1,
            "uploadThroughput": -1});
        self.ask("Network.emulateNetworkConditions", conditions).await;
    }

    /// Shows the page as it is printed while the theme is dark.
    pub async fn print_media(&self) {
        let dark = json!([{"name": "prefers-color-scheme", "value": "dark"}]);
        let print = json!({"media": "print", "features": dark});
        self.ask("Emulation.setEmulatedMedia", print).await;
    }

    /// Types a text where the focus is.
    pub async fn write(&self, text: &str) {
        self.ask("Input.insertText", json!({"text": text})).await;
    }

    pub async fn size(&self, width: u32, height: u32) {
        let phone = width < 500;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.ask("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub async fn theme(&self, theme: &str) {
        let feature = json!([{"name": "prefers-color-scheme", "value": theme}]);
        let screen = json!({"media": "", "features": feature});
        self.ask("Emulation.setEmulatedMedia", screen).await;
    }

    /// All that axe finds, also what it cannot decide; contrasts are measured then.
    pub async fn all_barriers(&self) -> Vec<Value> {
        self.load_axe().await;
        let mut all = self.eval(FINDINGS).await.as_array().unwrap().clone();
        if self.eval("typeof contrast").await == "undefined" {
            self.eval(CONTRAST).await;
        }
        let texts = self.eval("contrast.undecided()").await.as_u64().unwrap();
        self.eval("contrast.hide(), 0").await;
        for at in 0..texts {
            let clip = self.eval(&format!("contrast.place({at})")).await;
            if clip.is_null() {
                continue;
            }
            let mut clip = clip;
            clip["scale"] = 1.into();
            let ask = json!({"format": "png", "clip": clip, "captureBeyondViewport": true});
            let shot = self.ask("Page.captureScreenshot", ask).await;
            all.push(self.eval(&format!("contrast.measure({at}, {})", shot["data"])).await);
        }
        self.eval("contrast.show(), scrollTo(0, 0), 0").await;
        all.extend(self.eval(SMALL_TARGETS).await.as_array().unwrap().clone());
        all.retain(|barrier| !barrier.is_null());
        all
    }

    async fn load_axe(&self) {
        if self.eval("typeof axe").await == "undefined" {
            self.eval(&format!("{AXE};0")).await;
        }
    }

    /// What axe finds that keeps people out.
    pub async fn barriers(&self) -> Vec<Value> {
        self.load_axe().await;
        let run = "axe.run({resultTypes: ['violations']}).then((found) => found.violations\
                   .filter((one) => ['serious', 'critical'].includes(one.impact))\
                   .map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(' ')}`))";
        self.eval(run).await.as_array().unwrap().clone()
    }

    /// Errors, warnings and refusals of its policy since the last time; `but` what has this in it.
    pub fn troubles(&self, but: &str) -> Vec<String> {
        let mut all = std::mem::take(&mut self.chrome.heard.lock().unwrap().troubles);
        all.retain(|trouble| but.is_empty() || !trouble.contains(but));
        all
    }
}
