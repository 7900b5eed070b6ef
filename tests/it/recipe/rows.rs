//! Delivery zones in a whole server, on both databases: written over the version before, there after
//! a restart, and before the proof.

use kontor::actors::engine::clock::Clock;
use kontor::actors::engine::row_host::{self, Expect, WriteOutcome};
use kontor::app::{App, Assembly};
use kontor::config::Config;
use kontor::domain::entity::Cause;
use kontor::store::versioned;
use kontor::verify::{Books, RowBook};
use reqwest::Method;
use serde_json::{Value, json};

use super::database::{migrate, proof, sql};
use super::delivery_zone::domain::delivery_zone::{Countries, DeliveryZone};
use super::delivery_zone::http::api::delivery_zone::ROUTES;
use crate::recipe::DELIVERY_ZONES;
use crate::servers::database;
use crate::site::Site;

fn books() -> Books {
    Books::standard().with(RowBook::<DeliveryZone>::default())
}

async fn start(config: &Config) -> App {
    let standard = Assembly::standard();
    let rows = standard.rows.with::<DeliveryZone>();
    let routes = standard.routes.with(ROUTES);
    let assembly = Assembly { rows, routes, books, ..standard };
    App::start_with(config, Clock::system(), assembly).await.unwrap()
}

fn zone(fee: i64) -> DeliveryZone {
    let countries = Countries(["DE", "FR"].map(str::to_owned).into());
    DeliveryZone { code: "eu".into(), name: "Europe".into(), countries, fee, active: true }
}

async fn are_kept(url: Option<&str>) {
    let mut site = Site::started(
        |config| config.store.url = url.unwrap_or_default().into(),
        async |config| {
            migrate(config, DELIVERY_ZONES).await;
            start(config).await
        },
    )
    .await;
    let app = site.app.take().unwrap();
    let zones = app.node.rows.of::<DeliveryZone>().unwrap();
    let cause = Cause::default;
    let made = zones.put(zone(500), Expect::Absent, cause()).await.unwrap();
    assert_eq!((made.0.version, made.1), (1, WriteOutcome::Created));
    let again = zones.put(zone(500), Expect::Absent, cause()).await;
    assert!(matches!(again, Err(row_host::Error::Exists)), "{again:?}");
    zones.put(zone(600), Expect::Version(1), cause()).await.unwrap();
    let stale = zones.put(zone(700), Expect::Version(1), cause()).await;
    assert!(matches!(stale, Err(row_host::Error::VersionMismatch { version: 2 })), "{stale:?}");
    app.stop().await;

    let app = start(&site.config).await;
    let zones = app.node.rows.of::<DeliveryZone>().unwrap();
    let row = zones.get(&"eu".to_owned()).await.unwrap().unwrap();
    assert_eq!((&row.value, row.version), (&zone(600), 2));
    let page = versioned::list_behind::<DeliveryZone>(&app.store, None, 50).await.unwrap();
    assert_eq!(page, [(*row).clone()]);
    app.stop().await;

    let report = proof(&site.config, books()).await;
    assert!(report.ok, "{report}");
    let counted = |name: &str| report.checked.others[name];
    assert_eq!((counted("delivery_zones"), counted("delivery_zones_rows")), (1, 1));
    sql(&site.config, "UPDATE delivery_zone SET fee = 1").await;
    let violations = proof(&site.config, books()).await.violations;
    assert_eq!(violations[0].entity, "zone_eu", "{violations:?}");
    assert_eq!(violations[0].invariant.to_string(), "I6");
    let unknown = proof(&site.config, Books::standard()).await.violations;
    assert!(unknown[0].message.contains("no noun has this prefix"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_zones_are_kept_in_a_folder() {
    are_kept(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_zones_are_kept_in_postgres() {
    are_kept(Some(&database())).await;
}

/// Made, changed, refused and listed, as the page says.
#[tokio::test(flavor = "multi_thread")]
async fn delivery_zones_are_edited_over_http() {
    let site = Site::started(
        |_| {},
        async |config| {
            migrate(config, DELIVERY_ZONES).await;
            start(config).await
        },
    )
    .await;
    let path = "/v1/admin/delivery-zones/eu";
    let put = |path: &str, fee: i64, version: Option<&str>| {
        let zone = json!({"name": "Europe", "countries": ["FR", "DE"], "fee": fee, "active": true});
        let request = site.request(Method::PUT, path).bearer_auth(&site.key).json(&zone);
        match version {
            Some(version) => request.header("if-match", version),
            None => request,
        }
    };
    let made = put(path, 500, None).send().await.unwrap();
    assert_eq!(
        (made.status().as_u16(), &made.headers()["location"]),
        (201, &path.parse().unwrap())
    );
    assert_eq!(made.headers()["etag"], "\"1\"");
    let position = made.headers()["kontor-position"].clone();
    let made: Value = made.json().await.unwrap();
    assert_eq!(made["countries"], json!(["DE", "FR"]));

    let changed = site.send(put(path, 600, Some("\"1\""))).await.expect(200);
    assert_eq!((&changed["fee"], &changed["version"]), (&json!(600), &json!(2)));
    let stale = site.send(put(path, 700, Some("\"1\""))).await;
    assert_eq!((stale.status, stale.code()), (412, "version_mismatch"));
    for condition in ["\"1\"", "*"] {
        site.send(put("/v1/admin/delivery-zones/us", 1, Some(condition))).await.expect(412);
    }
    for faulty in [put(path, -1, None), put("/v1/admin/delivery-zones/EU", 1, None)] {
        site.send(faulty).await.expect(422);
    }
    let shown = site.admin(Method::GET, "/delivery-zones/eu", None).await.expect(200);
    assert_eq!(shown["fee"], 600);
    site.admin(Method::GET, "/delivery-zones/us", None).await.expect(404);
    let list = site.request(Method::GET, "/v1/admin/delivery-zones").bearer_auth(&site.key);
    let list = site.send(list.header("kontor-after", position)).await.expect(200);
    assert_eq!((&list["data"], &list["next_cursor"]), (&json!([shown]), &Value::Null));

    let document = site.send(site.request(Method::GET, "/openapi.json")).await.expect(200);
    let put = &document["paths"]["/v1/admin/delivery-zones/{code}"]["put"];
    let headers = &put["responses"]["201"]["headers"];
    assert!(headers["ETag"].is_object() && headers["Location"].is_object(), "{headers:#}");
    let mut parameters = put["parameters"].as_array().unwrap().iter();
    assert!(parameters.any(|one| one["name"] == "If-Match"), "{put:#}");
}
