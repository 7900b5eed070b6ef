//! `/livez`, which reports that the process is alive, and `/readyz`, which reports whether the node
//! should get traffic, with a check of each dependency.
//!
//! A payment provider that does not answer makes a node degraded, not unready: most requests do not
//! need it.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::actors::node::Node;
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;
use crate::providers::payment::Provider;
use crate::store::Store;

/// How long the results of the checks are cached.
const TTL: Duration = Duration::from_secs(5);
/// How long one check may take.
const CHECK_MAX: Duration = Duration::from_secs(2);
/// The number of queued appends, in all lanes together, from which on the node is not ready.
const QUEUED_MAX: usize = 10_000;

/// Whether the server wants traffic: from its start until it begins to stop.
#[derive(Debug, Default)]
pub struct Serving(AtomicBool);

impl Serving {
    /// Whether the server wants traffic.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets whether the server wants traffic.
    pub fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }
}

/// The checks of the dependencies, cached for five seconds.
#[derive(Default)]
pub struct Health {
    found: Mutex<Option<(Instant, Vec<CheckShape>)>>,
}

impl Health {
    async fn find(&self, node: &Node, data: &Store) -> Vec<CheckShape> {
        let mut found = self.found.lock().await;
        if let Some((at, checks)) = &*found
            && at.elapsed() < TTL
        {
            return checks.clone();
        }
        let mut checks = vec![
            needed("store", store(node, data).await),
            needed("disk", disk(data).await),
            needed("lanes", lanes(node)),
        ];
        for (account, of) in node.payments.all() {
            let name = format!("provider {account}");
            checks.push(CheckShape::new(
                &name,
                provider(of.as_ref()).await,
                ServiceStatus::Degraded,
            ));
        }
        *found = Some((Instant::now(), checks.clone()));
        checks
    }
}

/// The state of a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceStatus {
    /// It answers.
    Ok,
    /// It does not, and most requests do not need it.
    Degraded,
    /// It does not, and the server is not ready without it.
    Failed,
}

/// The check of a dependency.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CheckShape {
    #[schema(example = "store")]
    name: String,
    status: ServiceStatus,
    detail: String,
}

impl CheckShape {
    fn new(name: &str, outcome: Result<String, String>, worst: ServiceStatus) -> Self {
        let name = name.to_owned();
        match outcome {
            Ok(detail) => Self { name, status: ServiceStatus::Ok, detail },
            Err(detail) => Self { name, status: worst, detail },
        }
    }
}

/// The readiness of the node, and the check of each dependency.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    ready: bool,
    checks: Vec<CheckShape>,
}

/// The liveness of the process.
#[derive(Debug, Serialize, ToSchema)]
pub struct Liveness {
    alive: bool,
    version: &'static str,
}

/// Reports that the process is alive.
#[utoipa::path(get, path = "/livez", tag = "health",
    responses((status = 200, description = "Alive", body = Liveness)))]
pub async fn check_live() -> HttpResponse {
    HttpResponse::Ok().json(Liveness { alive: true, version: env!("CARGO_PKG_VERSION") })
}

/// Reports whether the node is ready for traffic.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, description = "Ready", body = Readiness),
        (status = 503, description = "Not ready", body = Readiness)))]
pub async fn check_ready(
    call: RequestParts,
    health: web::Data<Health>,
    serving: web::Data<Serving>,
) -> Result<HttpResponse, Error> {
    let mut checks = health.find(call.node(), call.store()).await;
    let outcome =
        if serving.is_on() { Ok("serving".to_owned()) } else { Err("stopping".to_owned()) };
    checks.insert(0, needed("server", outcome));
    let ready = checks.iter().all(|check| check.status != ServiceStatus::Failed);
    let mut response = if ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    Ok(response.json(Readiness { ready, checks }))
}

fn needed(name: &str, outcome: Result<String, String>) -> CheckShape {
    CheckShape::new(name, outcome, ServiceStatus::Failed)
}

async fn within(finding: impl Future<Output = Result<String, String>>) -> Result<String, String> {
    let late = || Err("timed out".to_owned());
    actix_web::rt::time::timeout(CHECK_MAX, finding).await.unwrap_or_else(|_| late())
}

/// Checks the store: writes a setting durably, and reads it back.
async fn store(node: &Node, store: &Store) -> Result<String, String> {
    within(async {
        let text = node.clock.now().to_string();
        let said = |error: crate::store::Error| {
            tracing::warn!(%error, "cannot write to the store");
            "cannot be written".to_owned()
        };
        store.put_setting("last_ready_check", &text).await.map_err(said)?;
        let read = store.setting("last_ready_check").await.map_err(said)?;
        if read.is_some() {
            Ok("writable".to_owned())
        } else {
            Err("a written row cannot be read back".to_owned())
        }
    })
    .await
}

/// Checks the disk: writes a file of 4 KiB in the data folder, and removes it.
async fn disk(store: &Store) -> Result<String, String> {
    within(async {
        // With PostgreSQL there is no data folder.
        let Some(dir) = store.dir() else { return Ok("not needed".to_owned()) };
        let file = dir.join("ready.tmp");
        let written = tokio::fs::write(&file, [0; 4096]).await;
        let removed = tokio::fs::remove_file(&file).await;
        match written.and(removed) {
            Ok(()) => Ok("has space".to_owned()),
            Err(error) => Err(error.kind().to_string()),
        }
    })
    .await
}

fn lanes(node: &Node) -> Result<String, String> {
    let queued: usize = node.lanes.iter().map(crate::store::journal::lane::Lane::depth).sum();
    if queued < QUEUED_MAX {
        Ok(format!("{queued} appends queued"))
    } else {
        Err(format!("{queued} appends queued"))
    }
}

/// Checks a payment provider with a request for one payment of its list, which has no effect.
async fn provider(provider: &dyn Provider) -> Result<String, String> {
    within(async {
        match provider.list(None, 1).await {
            Ok(_) => Ok("answers".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}
