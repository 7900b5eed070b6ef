//! Many admin clients at once: sockets that follow all orders, to run next to `kontor load checkout`.
//! Prints what they received, each second, unchecked: `tests/it/live.rs` checks. One key may open a
//! quarter of `http.live.sockets_max`: for 1,000 the server needs KONTOR__HTTP__LIVE__SOCKETS_MAX=4004.
//!
//! `KONTOR_KEY=sk_… cargo run --release --example watch -- --url http://127.0.0.1:8080 --sockets 1000`

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const SUBSCRIBE: &str = r#"{"type":"subscribe","id":"a","topic":"orders","limit":50}"#;

/// Follow all orders on many sockets
#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    #[arg(long, env = "KONTOR_KEY", hide_env_values = true)]
    key: String,
    /// Number of sockets that read their messages
    #[arg(long, default_value_t = 1_000)]
    sockets: usize,
    /// Number of sockets that never read
    #[arg(long, default_value_t = 0)]
    deaf: usize,
}

/// What all sockets got so far.
#[derive(Default)]
struct Got {
    frames: AtomicU64,
    bytes: AtomicU64,
    changes: AtomicU64,
    resyncs: AtomicU64,
}

async fn follow(
    args: Arc<Args>,
    deaf: bool,
    got: Arc<Got>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let url = format!("{}/v1/admin/live", args.url.replacen("http", "ws", 1));
    let mut request = url.into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {}", args.key).parse()?);
    let (mut socket, _) = connect_async(request).await?;
    socket.send(Message::text(SUBSCRIBE)).await?;
    if deaf {
        std::future::pending::<()>().await;
    }
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message? {
            let count = |word: &str| text.matches(word).count() as u64;
            got.frames.fetch_add(1, Ordering::Relaxed);
            got.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
            got.changes.fetch_add(count(r#""matches":"#), Ordering::Relaxed);
            got.resyncs.fetch_add(count(r#""type":"resync""#), Ordering::Relaxed);
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let (args, got) = (Arc::new(Args::parse()), Arc::new(Got::default()));
    let mut sockets = tokio::task::JoinSet::new();
    for number in 0..args.sockets + args.deaf {
        let (args, got) = (args.clone(), got.clone());
        let deaf = number >= args.sockets;
        let follow = async move {
            if let Err(error) = follow(args, deaf, got).await {
                eprintln!("a socket ended: {error}");
            }
        };
        sockets.spawn(follow);
    }
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = second.tick() => {}
            None = sockets.join_next() => return Ok(()),
        }
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        println!(
            "{} sockets: {} frames, {} KiB, {} changes, {} resyncs",
            sockets.len(),
            take(&got.frames),
            take(&got.bytes) / 1_024,
            take(&got.changes),
            take(&got.resyncs),
        );
    }
}
