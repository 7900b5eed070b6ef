//! The kinds of background jobs, each of which an operator can start by hand or by a schedule, and
//! their work.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use strum::VariantArray as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::actors::engine::job_ledger::StoredJobs;
use crate::actors::node::Node;
use crate::bus::queue::{JobChannel, JobFailure, JobRun, JobWork, Queue, QueuePace, QueueStart};
use crate::domain::background_job::JobKind;
use crate::http::export_orders;
use crate::store::Store;
use crate::verify::{Books, verify_with};

/// Starts the job queue, which works on jobs until `stop` is cancelled.
pub(super) fn start(
    node: &Arc<Node>,
    (store, books): (&Store, fn() -> Books),
    channel: Arc<dyn JobChannel>,
    name: &str,
    stop: CancellationToken,
) -> (Queue, JoinHandle<()>) {
    let start = QueueStart {
        ledger: Arc::new(StoredJobs(store.clone(), node.clock.clone())),
        channel,
        kinds: kinds(node, store, books),
        node: name.to_owned(),
        pace: QueuePace::default(),
    };
    Queue::start(start, stop)
}

/// The work of each kind of job.
fn kinds(node: &Arc<Node>, store: &Store, books: fn() -> Books) -> BTreeMap<&'static str, JobWork> {
    let node = Arc::downgrade(node);
    let of_node = |what: fn(Arc<Node>) -> Done| -> JobWork {
        let node = Weak::clone(&node);
        Arc::new(move |_| match node.upgrade() {
            Some(node) => what(node),
            None => async { Err(JobFailure::Again("the node is stopping".into())) }.boxed(),
        })
    };
    let work = |kind| -> JobWork {
        let store = store.clone();
        match kind {
            JobKind::ExportOrders => Arc::new(move |run| export_orders(store.clone(), run).boxed()),
            JobKind::ReplayRows => of_node(|node| replay_rows(node).boxed()),
            JobKind::RetryWebhooks => of_node(|node| retry_webhooks(node).boxed()),
            JobKind::SweepPayments => of_node(|node| sweep_payments(node).boxed()),
            JobKind::Verify => Arc::new(move |run| check(store.clone(), books(), run).boxed()),
        }
    };
    JobKind::VARIANTS.iter().map(|kind| (kind.as_str(), work(*kind))).collect()
}

type Done = futures_util::future::BoxFuture<'static, Result<Value, JobFailure>>;

/// Compares the providers' lists of payments with the journal, except for lists that are being
/// compared already.
async fn sweep_payments(node: Arc<Node>) -> Result<Value, JobFailure> {
    let swept = node
        .flows
        .reconciliation
        .sweep_all()
        .await
        .map_err(|error| JobFailure::Again(error.to_string()))?;
    Ok(json!({"swept": swept}))
}

/// Retries parked webhooks that are due.
async fn retry_webhooks(node: Arc<Node>) -> Result<Value, JobFailure> {
    node.flows
        .webhooks
        .retry_parked()
        .await
        .map_err(|error| JobFailure::Again(error.to_string()))?;
    Ok(json!({}))
}

/// Starts a rebuild of all projections, which continues in the background after the job has ended.
async fn replay_rows(node: Arc<Node>) -> Result<Value, JobFailure> {
    node.replay_rows().await.map_err(|error| JobFailure::Again(error.to_string()))?;
    Ok(json!({"begun": true}))
}

/// Checks the invariants of the store, as `kontor verify` does without a provider. The job succeeds
/// even if an invariant is violated, because a retry would not change that; its result has the
/// violations.
async fn check(store: Store, books: Books, run: JobRun) -> Result<Value, JobFailure> {
    let report = verify_with(books, &store, None, |now| {
        run.progress(json!({"stage": now.stage, "done": now.done, "total": now.total}));
    });
    let report = report.await.map_err(|error| JobFailure::Again(error.to_string()))?;
    let report =
        serde_json::to_value(&report).map_err(|error| JobFailure::Never(error.to_string()))?;
    if report["ok"] != true {
        tracing::error!(%report, "verify found violated invariants");
    }
    Ok(report)
}
