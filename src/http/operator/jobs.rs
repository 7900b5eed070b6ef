//! Handlers of background jobs and of the schedules that start them: list, add, retry, discard.

use std::sync::OnceLock;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::bus::queue::{self, Queue};
use crate::domain::background_job::{Job, JobKind, JobState, Schedule, next_after};
use crate::http::api::shape::Page;
use crate::http::docs::schemas;
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;
use crate::http::edge::input::Text;
use crate::http::edge::json_body::Draft;
use crate::http::edge::problem::Code;
use crate::http::edge::query::{Query, cursor, cut};
use crate::http::operator::job_payload::{check_work, no_kind};
use crate::http::operator::schema;
use crate::store::job::Filter;

/// The maximum number of schedules.
const SCHEDULES_MAX: usize = 100;

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobShape {
    id: String,
    #[schema(value_type = schema::JobKind)]
    kind: String,
    payload: Value,
    #[schema(value_type = schema::JobState)]
    state: &'static str,
    attempts: i64,
    attempts_max: i64,
    #[schema(value_type = schemas::PrincipalName)]
    by: String,
    created_at: String,
    /// The time at which the job is due; of a running job, the time at which another node may take
    /// it over.
    due_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    /// The node that last started the job.
    node: Option<String>,
    /// The progress of the job, or its result.
    progress: Value,
    last_error: Option<String>,
}

impl From<Job> for JobShape {
    fn from(job: Job) -> Self {
        let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
        Self {
            payload: json(&job.payload),
            progress: job.progress.as_deref().map_or(Value::Null, json),
            id: job.id,
            kind: job.kind,
            state: job.state.as_str(),
            attempts: job.attempts,
            attempts_max: job.attempts_max,
            by: job.asked_by,
            created_at: job.created_at.to_string(),
            due_at: job.due_at.to_string(),
            started_at: job.started_at.map(|at| at.to_string()),
            ended_at: job.ended_at.map(|at| at.to_string()),
            node: job.node,
            last_error: job.last_error,
        }
    }
}

/// A job to add.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobInput {
    #[garde(dive)]
    #[schema(value_type = schema::JobKind)]
    kind: Text<1, 64>,
    /// The parameters; most kinds have none.
    #[serde(default)]
    #[garde(skip)]
    payload: Map<String, Value>,
}

/// A schedule, which starts a job repeatedly.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduleShape {
    name: String,
    #[schema(value_type = schema::JobKind)]
    kind: String,
    payload: Value,
    /// A cron pattern, in UTC.
    cron: String,
    enabled: bool,
    next_at: String,
    last_at: Option<String>,
}

impl From<Schedule> for ScheduleShape {
    fn from(schedule: Schedule) -> Self {
        Self {
            payload: serde_json::from_str(&schedule.payload).unwrap_or_default(),
            name: schedule.name,
            kind: schedule.kind,
            cron: schedule.cron,
            enabled: schedule.enabled,
            next_at: schedule.next_at.to_string(),
            last_at: schedule.last_at.map(|at| at.to_string()),
        }
    }
}

/// A schedule to create or replace.
#[derive(Clone, Debug, Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleInput {
    #[garde(dive)]
    #[schema(value_type = String)]
    name: Text<1, 64>,
    #[garde(dive)]
    #[schema(value_type = schema::JobKind)]
    kind: Text<1, 64>,
    /// The parameters; most kinds have none.
    #[serde(default)]
    #[garde(skip)]
    payload: Map<String, Value>,
    /// A cron pattern of five fields or, with seconds, six, in UTC; or a name such as `@daily`.
    #[garde(dive)]
    #[schema(value_type = String)]
    cron: Text<1, 100>,
    #[serde(default = "yes")]
    #[garde(skip)]
    enabled: bool,
}

const fn yes() -> bool {
    true
}

/// The job queue; empty until the queue has started.
pub type Jobs = OnceLock<Queue>;

fn begun(jobs: &Jobs) -> Result<&Queue, Error> {
    jobs.get().ok_or_else(|| Error::new(Code::TryAgain, "the node is still starting"))
}

fn failed(error: queue::Error) -> Error {
    match error {
        queue::Error::UnknownKind => Error::field("kind", no_kind()),
        queue::Error::Cron(why) => Error::field("cron", no_cron(&why)),
        queue::Error::Ledger(_) => Error::internal(error),
    }
}

fn no_cron(why: &str) -> String {
    format!("must be a cron pattern: {why}")
}

/// Lists jobs.
#[utoipa::path(get, path = "/v1/admin/jobs", tag = "ops",
    params(("kind" = inline(Option<Vec<schema::JobKind>>), Query, explode = false, max_items = 100),
        ("state" = inline(Option<Vec<schema::JobState>>), Query, explode = false, max_items = 100),
        ("limit" = inline(Option<schemas::Limit>), Query), ("after" = inline(Option<schemas::Cursor>), Query)),
    responses((status = 200, description = "A page of jobs, the newest first", body = Page<JobShape>)))]
pub async fn list_jobs(call: RequestParts, request: HttpRequest) -> Result<HttpResponse, Error> {
    let mut query = Query::of_list(&request, &["limit", "after"], &["kind", "state"])?;
    let (limit, kinds) = (query.limit(), query.choices::<JobKind>("kind"));
    let filter = Filter {
        kind: kinds.into_iter().map(|kind| kind.as_str().to_owned()).collect(),
        state: query.choices::<JobState>("state"),
        before: query.after("jobs"),
        limit: limit + 1,
    };
    query.check()?;
    let mut rows = call.store().jobs(&filter).await?;
    let more = cut(&mut rows, limit);
    let last = rows.last().map(|row| cursor("jobs", &row.id));
    let data = rows.into_iter().map(JobShape::from).collect();
    Ok(HttpResponse::Ok().json(Page { data, next_cursor: last.filter(|_| more) }))
}

/// Returns a job.
#[utoipa::path(get, path = "/v1/admin/jobs/{id}", tag = "ops", params(("id" = String, Path)),
    responses((status = 200, description = "The job", body = JobShape)))]
pub async fn get_job(call: RequestParts, path: web::Path<String>) -> Result<HttpResponse, Error> {
    let job = call.store().job(&path).await?.ok_or_else(|| Error::not_found("job"))?;
    Ok(HttpResponse::Ok().json(JobShape::from(job)))
}

/// Adds a job, which any node may run.
#[utoipa::path(post, path = "/v1/admin/jobs", tag = "ops", request_body = JobInput,
    responses((status = 202, description = "The job was added", body = JobShape)))]
pub async fn add_job(
    call: RequestParts,
    jobs: web::Data<Jobs>,
    body: Draft<JobInput>,
) -> Result<HttpResponse, Error> {
    let Draft { value: JobInput { kind, payload }, mut faults, .. } = body;
    check_work(&kind, &payload, &mut faults);
    faults.check()?;
    Ok(accepted(add(&call, &jobs, &kind, Value::Object(payload)).await?))
}

/// Adds a job, or returns the one that was added with the same idempotency key.
///
/// # Errors
/// 422 for an unknown kind, or for a key of another job; the errors of the store.
pub(super) async fn add(
    call: &RequestParts,
    jobs: &Jobs,
    kind: &str,
    payload: Value,
) -> Result<Job, Error> {
    let by = call.principal().by();
    let key = call.hashed_key().map(|key| format!("{by}:{key}"));
    let added = begun(jobs)?.add(kind, &payload, &by, key.clone()).await.map_err(failed)?;
    if let Some(job) = added {
        return Ok(job);
    }
    let before = call.store().job_of_key(&key.unwrap_or_default()).await?;
    let same = |job: &Job| {
        let read = serde_json::from_str::<Value>(&job.payload);
        job.kind == kind && read.is_ok_and(|same| same == payload)
    };
    let other = "the key was used for another job";
    before.filter(same).ok_or_else(|| Error::new(Code::IdempotencyKeyReused, other))
}

/// The answer with a job that was added or that will be retried.
fn accepted(job: Job) -> HttpResponse {
    let place = format!("/v1/admin/jobs/{}", job.id);
    let location = (header::LOCATION, place);
    HttpResponse::Accepted().insert_header(location).json(JobShape::from(job))
}

/// Retries at once a job that is waiting or was given up (`dead`).
#[utoipa::path(post, path = "/v1/admin/jobs/{id}/retry", tag = "ops", params(("id" = String, Path)),
    responses((status = 202, description = "The job will be retried", body = JobShape)))]
pub async fn retry_job(
    _call: RequestParts,
    jobs: web::Data<Jobs>,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    let (job, again) =
        begun(&jobs)?.retry(&path).await.map_err(failed)?.ok_or_else(|| Error::not_found("job"))?;
    if !again {
        let detail = format!("the job is {}", job.state.as_str());
        return Err(Error::new(Code::WrongState, detail));
    }
    Ok(accepted(job))
}

/// Discards a job that is not running.
#[utoipa::path(delete, path = "/v1/admin/jobs/{id}", tag = "ops", params(("id" = String, Path)),
    responses((status = 204, description = "The job was discarded")))]
pub async fn discard_job(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    if call.store().remove_job(&path).await? {
        return Ok(HttpResponse::NoContent().finish());
    }
    match call.store().job(&path).await? {
        Some(_) => Err(Error::new(Code::WrongState, "the job is running")),
        None => Err(Error::not_found("job")),
    }
}

/// Lists schedules.
#[utoipa::path(get, path = "/v1/admin/schedules", tag = "ops",
    responses((status = 200, description = "All schedules", body = Page<ScheduleShape>)))]
pub async fn list_schedules(call: RequestParts) -> Result<HttpResponse, Error> {
    let all = call.store().schedules().await?;
    let data = all.into_iter().map(ScheduleShape::from).collect();
    Ok(HttpResponse::Ok().json(Page::<ScheduleShape> { data, next_cursor: None }))
}

/// Creates or replaces a schedule.
#[utoipa::path(put, path = "/v1/admin/schedules", tag = "ops", request_body = ScheduleInput,
    responses((status = 200, description = "The schedule", body = ScheduleShape),
        (status = 201, description = "The schedule was created", body = ScheduleShape,
            headers(("Location" = String, description = "The path where it can be read")))))]
pub async fn put_schedule(
    call: RequestParts,
    jobs: web::Data<Jobs>,
    body: Draft<ScheduleInput>,
) -> Result<HttpResponse, Error> {
    let Draft { value: ScheduleInput { name, kind, payload, cron, enabled }, mut faults, .. } =
        body;
    check_work(&kind, &payload, &mut faults);
    if let Err(why) = next_after(&cron, call.now()) {
        faults.invalid("cron", no_cron(&why));
    }
    faults.check()?;
    let queue = begun(&jobs)?;
    let all = queue.schedules().await.map_err(failed)?;
    let is_new = all.iter().all(|one| one.name != *name);
    if all.len() >= SCHEDULES_MAX && is_new {
        return Err(Error::field("name", format!("must be one of the {SCHEDULES_MAX} schedules")));
    }
    let payload = Value::Object(payload);
    let set = queue.schedule(&name, &kind, &payload, &cron, enabled).await.map_err(failed)?;
    let mut answer = if is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    if is_new {
        answer.insert_header((header::LOCATION, "/v1/admin/schedules"));
    }
    Ok(answer.json(ScheduleShape::from(set)))
}

/// Deletes a schedule: it starts no more jobs. Those that it has started stay.
#[utoipa::path(delete, path = "/v1/admin/schedules/{name}", tag = "ops",
    params(("name" = String, Path)),
    responses((status = 204, description = "The schedule was deleted")))]
pub async fn delete_schedule(
    call: RequestParts,
    path: web::Path<String>,
) -> Result<HttpResponse, Error> {
    if !call.store().remove_schedule(&path).await? {
        return Err(Error::not_found("schedule"));
    }
    Ok(HttpResponse::NoContent().finish())
}
