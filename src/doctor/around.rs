//! Checks of the store's surroundings: the server's port, and the payment provider.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::{Finding, Installation};
use crate::domain::masked_url::masked_url;
use crate::providers::payment::Provider as _;
use crate::providers::sandbox::Sandbox;
use crate::store::Store;
use crate::telemetry::chain;
use crate::verify::provider::sandbox_options;

/// The timeout of an answer.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn examine(installation: &Installation, store: Option<&Store>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(listen) = installation.listen {
        findings.push(port(listen).await);
    }
    if let (Some(url), Some(store)) = (&installation.sandbox_psp, store) {
        findings.push(provider(url, store).await);
    }
    findings
}

async fn port(listen: SocketAddr) -> Finding {
    let bound = TcpListener::bind(listen).map(drop);
    let Err(error) = bound else {
        return Finding::ok("port", format!("{listen} is free: no server listens there"));
    };
    let advice = "find the process that uses it (ss -ltnp), or choose another port with --listen";
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return Finding::bad("port", format!("cannot listen on {listen}: {error}"), advice);
    }
    match ready(listen).await {
        Some((200, _)) => Finding::ok("port", format!("the kontor server on {listen} is ready")),
        Some((503, body)) => Finding::bad(
            "port",
            format!("the kontor server on {listen} is not ready: {body}"),
            "the answer names the failed checks; its log has the details",
        ),
        _ => Finding::bad("port", format!("another program uses {listen}"), advice),
    }
}

/// Asks the server at this address for `/readyz`; returns the status and the body, or `None`
/// without an answer.
async fn ready(listen: SocketAddr) -> Option<(u16, String)> {
    crate::providers::install_crypto();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(PATIENCE);
    let answer = client.build().ok()?.get(format!("http://{listen}/readyz")).send().await.ok()?;
    let status = answer.status().as_u16();
    let body = answer.text().await.unwrap_or_default();
    Some((status, body.chars().take(300).collect()))
}

async fn provider(url: &str, store: &Store) -> Finding {
    let advice = "start it (kontor sandbox-psp), or correct the URL; until then orders wait";
    let options = match sandbox_options(store, url).await {
        Ok(options) => options,
        Err(error) => return Finding::bad("provider", chain(&error), advice),
    };
    let sandbox = match Sandbox::new(options) {
        Ok(sandbox) => sandbox,
        Err(error) => return Finding::bad("provider", error.to_string(), advice),
    };
    match tokio::time::timeout(PATIENCE, sandbox.list(None, 1)).await {
        Ok(Ok(_)) => {
            Finding::ok("provider", format!("the payment provider at {} answers", masked_url(url)))
        }
        Ok(Err(error)) => Finding::bad("provider", error.to_string(), advice),
        Err(_) => Finding::bad("provider", "the payment provider does not answer", advice),
    }
}
