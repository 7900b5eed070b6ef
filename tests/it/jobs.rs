//! Jobs over HTTP, and as rows: what operators ask for is done once, and what came of it stays.

use kontor::domain::background_job::{Job, JobState, Schedule};
use kontor::domain::time::{Span, Timestamp};
use kontor::store::job::Filter;
use kontor::store::{Options, Store};
use reqwest::Method;
use serde_json::{Value, json};

use crate::servers::database;
use crate::site::Site;

async fn until_done(site: &Site, id: &str) -> Value {
    site.until_some(async || {
        let job = site.admin(Method::GET, &format!("/jobs/{id}"), None).await.expect(200);
        (job["state"] == "done").then_some(job)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_job_runs_and_reports_its_result() {
    let site = Site::open().await;
    let mut ids = Vec::new();
    for kind in ["sweep_payments", "retry_webhooks", "replay_rows", "verify"] {
        let body = json!({"kind": kind});
        let added = site.admin(Method::POST, "/jobs", Some(body)).await.expect(202);
        assert_eq!(added["state"], "waiting");
        assert!(added["by"].as_str().unwrap().starts_with("key:"));
        let id = added["id"].as_str().unwrap().to_owned();
        let job = until_done(&site, &id).await;
        assert_eq!((&job["attempts"], &job["last_error"]), (&json!(1), &Value::Null));
        match kind {
            "verify" => assert_eq!(job["progress"]["ok"], true, "{job:#}"),
            "sweep_payments" => assert_eq!(job["progress"]["swept"], json!(["sandbox"])),
            _ => {}
        }
        ids.push(id);
    }
    // The same key is the same job.
    let with_key = |kind: &str| {
        let request = site.request(Method::POST, "/v1/admin/jobs").bearer_auth(&site.key);
        site.send(request.header("Idempotency-Key", "k").json(&json!({"kind": kind})))
    };
    let first = with_key("verify").await.expect(202);
    assert_eq!(with_key("verify").await.expect(202)["id"], first["id"]);
    let other = with_key("replay_rows").await;
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"));
    let id = first["id"].as_str().unwrap().to_owned();
    until_done(&site, &id).await;
    ids.push(id);
    let wrong = site.admin(Method::POST, "/jobs", Some(json!({"kind": "nothing"}))).await;
    assert_eq!((wrong.status, wrong.code()), (422, "invalid_request"));
    let rule = wrong.body["errors"][0]["message"].as_str().unwrap();
    assert!(rule.contains("export_orders, replay_rows"), "{rule}");
    for (body, field) in [
        (json!({"kind": "verify", "payload": {"shard": 1}}), "payload.shard"),
        (json!({"kind": "export_orders", "payload": {"status": "new"}}), "payload.status"),
        (json!({"kind": "export_orders", "payload": {"filter": 7}}), "payload.filter"),
        (json!({"kind": "export_orders", "payload": {"filter": "status=new"}}), "payload.filter"),
        (json!({"kind": "export_orders", "payload": {"filter": "limit=2"}}), "payload.filter"),
    ] {
        let cron = "0 3 * * *";
        let schedule =
            json!({"name": "x", "cron": cron, "kind": body["kind"], "payload": body["payload"]});
        for (method, path, body) in
            [(Method::POST, "/jobs", body), (Method::PUT, "/schedules", schedule)]
        {
            let wrong = site.admin(method, path, Some(body)).await;
            let told = &wrong.body["errors"];
            assert_eq!((wrong.status, &told[0]["field"]), (422, &json!(field)), "{told:#}");
        }
    }
    let wrong = site.admin(Method::GET, "/jobs?kind=nothing", None).await;
    assert_eq!((wrong.status, &wrong.body["errors"][0]["field"]), (422, &json!("kind")));

    // The newest first, in pages, by state and kind.
    let mut seen = Vec::new();
    let mut path = "/jobs?limit=3&state=done".to_owned();
    loop {
        let page = site.admin(Method::GET, &path, None).await.expect(200);
        let data = page["data"].as_array().unwrap().iter();
        seen.extend(data.map(|job| job["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => path = format!("/jobs?limit=3&state=done&after={next}"),
            None => break,
        }
    }
    ids.reverse();
    assert_eq!(seen, ids);
    let none = site.admin(Method::GET, "/jobs?kind=verify&state=dead", None).await.expect(200);
    assert_eq!(none["data"], json!([]));
    assert_eq!(site.admin(Method::GET, "/jobs?state=lost", None).await.status, 422);

    let again = site.admin(Method::POST, &format!("/jobs/{}/retry", ids[0]), None).await;
    assert_eq!((again.status, again.code()), (409, "wrong_state"));
    let path = format!("/jobs/{}", ids[0]);
    assert_eq!(site.admin(Method::DELETE, &path, None).await.status, 204);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(site.admin(method, &path, None).await.status, 404);
    }
    assert_eq!(site.admin(Method::POST, "/jobs/job_x/retry", None).await.status, 404);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedule_is_stored_and_enqueues_its_job() {
    let mut site = Site::open().await;
    let body = json!({"name": "often", "kind": "retry_webhooks", "cron": "* * * * * *"});
    let set = site.admin(Method::PUT, "/schedules", Some(body.clone())).await;
    assert_eq!((set.status, set.header("location")), (201, "/v1/admin/schedules"));
    assert_eq!((&set.body["enabled"], &set.body["last_at"]), (&json!(true), &Value::Null));
    site.admin(Method::PUT, "/schedules", Some(body)).await.expect(200);
    let job = site
        .until_some(async || {
            let page = site.admin(Method::GET, "/jobs?kind=retry_webhooks", None).await.expect(200);
            page["data"].get(0).cloned()
        })
        .await;
    assert_eq!(job["by"], "schedule:often");
    for (field, value) in [("cron", "soon"), ("kind", "nothing"), ("name", "")] {
        let mut wrong = json!({"name": "x", "kind": "verify", "cron": "0 3 * * *"});
        wrong[field] = value.into();
        let wrong = site.admin(Method::PUT, "/schedules", Some(wrong)).await;
        assert_eq!(wrong.body["errors"][0]["field"], field, "{:#}", wrong.body);
    }
    let off = json!({"name": "often", "kind": "verify", "cron": "0 3 * * *", "enabled": false});
    site.admin(Method::PUT, "/schedules", Some(off)).await.expect(200);
    site.restart().await;
    let all = site.admin(Method::GET, "/schedules", None).await.expect(200);
    let often = &all["data"][0];
    assert_eq!((&often["name"], &often["enabled"]), (&json!("often"), &json!(false)));
    assert!(often["last_at"].is_string() && often["next_at"].as_str().unwrap().contains("T03:00"));
    assert_eq!(site.admin(Method::DELETE, "/schedules/often", None).await.status, 204);
    assert_eq!(site.admin(Method::DELETE, "/schedules/often", None).await.status, 404);
    let all = site.admin(Method::GET, "/schedules", None).await.expect(200);
    assert_eq!(all["data"], json!([]));
    site.verify().await;
}

#[tokio::test]
async fn job_update_requires_the_read_state() {
    let dir = tempfile::tempdir().unwrap();
    rows(Store::open(dir.path(), &Options::default()).await.unwrap()).await;
}

#[tokio::test]
async fn job_update_in_postgres_requires_the_read_state() {
    let url = database().as_str().into();
    rows(Store::connect(&url, &Options::default()).await.unwrap()).await;
}

async fn rows(store: Store) {
    let now = Timestamp::from_millis(1_000);
    let add = async |id: &str, key: Option<&str>| {
        let mut job = Job::new(id.into(), "k", "{}".into(), "t".into(), now);
        job.key = key.map(str::to_owned);
        (store.add_job(&job).await.unwrap(), job)
    };
    let (added, job) = add("job_1", Some("x")).await;
    assert!(added);
    assert_eq!(store.job("job_1").await.unwrap(), Some(job.clone()));
    assert!(!add("job_2", Some("x")).await.0, "its key is taken");
    assert!(!add("job_1", None).await.0, "its id is taken");
    assert!(add("job_3", None).await.0);

    // Two nodes begin: one of them does.
    let mut begun = job.clone();
    assert!(begun.begin("a", now, Span::from_secs(30)));
    assert!(store.put_job(&job, &begun).await.unwrap());
    assert!(!store.put_job(&job, &begun).await.unwrap());
    assert_eq!(store.job("job_1").await.unwrap(), Some(begun.clone()));
    let ids = async |until: i64| {
        let due = store.due_jobs(Timestamp::from_millis(until), 10).await.unwrap();
        due.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(999).await, Vec::<String>::new());
    assert_eq!(ids(1_000).await, ["job_3"]);
    assert_eq!(ids(31_000).await, ["job_3", "job_1"], "its node is taken for dead");
    assert!(!store.remove_job("job_1").await.unwrap(), "it runs");

    let mut done = begun.clone();
    done.finish("{\"n\":1}".into(), now);
    // Whoever ran it before an operator had it tried again was at the same attempt.
    for other in [
        Job { node: Some("b".into()), ..begun.clone() },
        Job { node: None, ..begun.clone() },
        Job { started_at: Some(Timestamp::from_millis(999)), ..begun.clone() },
    ] {
        assert!(!store.put_job(&other, &done).await.unwrap(), "{other:?}");
    }
    assert!(store.put_job(&begun, &done).await.unwrap());
    assert_eq!(store.job("job_1").await.unwrap(), Some(done));
    let filter =
        Filter { state: vec![JobState::Done, JobState::Dead], limit: 10, ..Filter::default() };
    assert_eq!(store.jobs(&filter).await.unwrap().len(), 1);
    let filter = Filter { before: Some("job_3".into()), limit: 10, ..Filter::default() };
    assert_eq!(store.jobs(&filter).await.unwrap()[0].id, "job_1");
    assert_eq!(store.remove_done_jobs(now).await.unwrap(), 0);
    assert_eq!(store.remove_done_jobs(Timestamp::from_millis(1_001)).await.unwrap(), 1);
    assert!(store.remove_job("job_3").await.unwrap());

    let mut schedule = Schedule {
        name: "s".into(),
        kind: "k".into(),
        payload: "{}".into(),
        cron: "* * * * *".into(),
        enabled: true,
        next_at: now,
        last_at: None,
    };
    store.put_schedule(&schedule).await.unwrap();
    let next = Timestamp::from_millis(2_000);
    assert!(store.move_schedule(&schedule, next).await.unwrap());
    assert!(!store.move_schedule(&schedule, next).await.unwrap(), "another node did it");
    (schedule.next_at, schedule.last_at) = (next, Some(now));
    assert_eq!(store.schedules().await.unwrap(), [schedule]);
    store.close().await;
}
