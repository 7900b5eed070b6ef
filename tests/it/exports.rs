//! Exports of orders as CSV files, on both databases.

use kontor::domain::background_job::{Job, JobState};
use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{Answer, Site};

on_both_databases! {
    orders_are_exported_as_csv
    an_export_is_deleted_with_its_file
}

async fn shop(database: Option<String>) -> Site {
    let site = Site::with(|config| {
        if let Some(url) = database {
            config.store.url = url.as_str().into();
        }
    });
    let site = site.await;
    site.sell("LAMP", 1_250, 50).await;
    site
}

/// Orders with these references, oldest first, once the list has them.
async fn buy(site: &Site, references: &[&str]) {
    for (n, reference) in references.iter().enumerate() {
        let cart = site.cart(&[("LAMP", 1)]).await;
        let patch = json!({"reference": reference});
        site.store(Method::PATCH, &format!("/carts/{cart}"), Some(patch)).await.expect(200);
        site.checkout(&cart, &format!("key-{n}"), "tok_ok", 10).await.expect(201);
        site.until(&cart, |order| order["payment_status"] == "captured").await;
    }
    let listed = async || {
        let page = site.admin(Method::GET, "/orders?payment_status=captured", None).await;
        let rows = page.expect(200)["data"].as_array().unwrap().len();
        (rows == references.len()).then_some(())
    };
    site.until_some(listed).await;
}

/// The path of an export, and the export once it has ended.
async fn export(site: &Site, query: &str) -> (String, Value) {
    let asked = site.admin(Method::POST, &format!("/order-exports?{query}"), None).await;
    let place = asked.header("location").replace("/v1/admin", "");
    asked.expect(202);
    let ended = async || {
        let now = site.admin(Method::GET, &place, None).await.expect(200);
        ["done", "dead"].contains(&now["state"].as_str().unwrap()).then_some(now)
    };
    let ended = site.until_some(ended).await;
    (place, ended)
}

async fn file(site: &Site, path: &str) -> (u16, String, String) {
    let got = site.request(Method::GET, path).bearer_auth(&site.key).send().await.unwrap();
    let header =
        |name: &str| got.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let about = format!("{} {}", header("content-type"), header("content-disposition"));
    (got.status().as_u16(), about, got.text().await.unwrap())
}

async fn orders_are_exported_as_csv(site: Site) {
    buy(&site, &["=1+1", "PO 7, \"part\" 2", "other"]).await;
    let (_, done) = export(&site, "sort=placed_at&email=ada@example.com").await;
    assert_eq!(
        (&done["state"], &done["orders"], &done["last_error"]),
        (&json!("done"), &json!(3), &Value::Null)
    );
    let filter = json!({"sort": ["placed_at"], "email": ["ada@example.com"]});
    assert_eq!(done["filter"], filter);
    let (status, about, text) = file(&site, done["file"].as_str().unwrap()).await;
    assert_eq!(status, 200, "{text}");
    assert!(about.starts_with("text/csv; charset=utf-8"), "{about}");
    assert!(about.contains("attachment; filename=\"orders-"), "{about}");
    let mut lines = csv::Reader::from_reader(text.as_bytes());
    let columns = lines.headers().unwrap().clone();
    let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let rows: Vec<csv::StringRecord> = lines.records().map(Result::unwrap).collect();
    let of = |name: &str| rows.iter().map(|row| row[at(name)].to_owned()).collect::<Vec<_>>();
    assert_eq!(of("reference"), ["'=1+1", "PO 7, \"part\" 2", "other"]);
    assert_eq!(of("total"), ["12.50"; 3]);
    assert_eq!(of("buyer_name"), ["Ada"; 3]);
    let listed = site.admin(Method::GET, "/orders?sort=placed_at", None).await.expect(200);
    let ids: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
    assert_eq!(json!(of("id")), json!(ids));
    assert_eq!(listed["data"][0]["buyer_name"], "Ada");

    let (_, one) = export(&site, "reference=other&status=confirmed,completed").await;
    let (_, _, text) = file(&site, one["file"].as_str().unwrap()).await;
    assert_eq!((text.lines().count(), &one["orders"]), (2, &json!(1)));
    let refused = async |query: &str, status: u16| -> Answer {
        let refused = site.admin(Method::POST, &format!("/order-exports?{query}"), None).await;
        assert_eq!(refused.status, status, "{:#}", refused.body);
        refused
    };
    assert_eq!(refused("status=new", 422).await.body["errors"][0]["field"], "status");
    assert_eq!(refused("limit=2", 400).await.code(), "unknown_filter");

    // Whoever may read orders sees all exports, the newest first, and no other jobs.
    site.admin(Method::POST, "/jobs", Some(json!({"kind": "verify"}))).await.expect(202);
    let with_scope = async |scope: &str, path: &str| {
        let app = site.app.as_ref().unwrap();
        let scopes = [scope.to_owned()];
        let key = app.store.create_key("k", &scopes, app.node.clock.now()).await.unwrap().1;
        site.send(site.request(Method::GET, path).bearer_auth(key.reveal())).await
    };
    let all = "/v1/admin/order-exports?limit=1";
    let first = with_scope("orders:read", all).await.expect(200);
    assert_eq!(first["data"], json!([one]));
    let next = format!("{all}&after={}", first["next_cursor"].as_str().unwrap());
    let last = with_scope("orders:read", &next).await.expect(200);
    assert_eq!((&last["data"], &last["next_cursor"]), (&json!([done]), &Value::Null));
    for path in [all, one["file"].as_str().unwrap()] {
        assert_eq!(with_scope("stock:read", path).await.status, 403, "{path}");
    }
    site.verify().await;
}

async fn an_export_is_deleted_with_its_file(site: Site) {
    buy(&site, &["one"]).await;
    let store = site.app.as_ref().unwrap().store.clone();
    let (place, done) = export(&site, "").await;
    let id = done["id"].as_str().unwrap();
    assert!(store.job_part(id, 1, 0).await.unwrap().is_some());
    // A job of another kind is no export.
    let verify =
        site.admin(Method::POST, "/jobs", Some(json!({"kind": "verify"}))).await.expect(202);
    let other = format!("/order-exports/{}", verify["id"].as_str().unwrap());
    assert_eq!(site.admin(Method::GET, &other, None).await.status, 404);
    assert_eq!(site.admin(Method::DELETE, &other, None).await.status, 404);
    assert_eq!(site.admin(Method::DELETE, &place, None).await.status, 204);
    assert_eq!(site.admin(Method::GET, &place, None).await.status, 404);
    assert_eq!(store.job_part(id, 1, 0).await.unwrap(), None);

    // The file of one that is still being written cannot be read.
    let now = site.app.as_ref().unwrap().node.clock.now();
    let id = "job_0000000000000000late";
    let late = Job::new(id.into(), "export_orders", "{}".into(), "key:1".into(), now);
    let late = Job { due_at: now + kontor::domain::time::Span::from_secs(3_600), ..late };
    assert!(store.add_job(&late).await.unwrap());
    let waiting = site.admin(Method::GET, &format!("/order-exports/{id}"), None).await.expect(200);
    assert_eq!(
        (&waiting["state"], &waiting["file"]),
        (&json!(JobState::Waiting.as_str()), &Value::Null)
    );
    let path = format!("/v1/admin/order-exports/{id}/file");
    assert_eq!(file(&site, &path).await.0, 409);
    site.verify().await;
}
