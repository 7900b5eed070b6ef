//! Delivery zones in a whole server, on both databases: written over the version before, there after
//! a restart, and before the proof.

use kontor::actors::engine::clock::Clock;
use kontor::actors::engine::row_host::{self, Change, Expect};
use kontor::app::{App, Assembly};
use kontor::config::Config;
use kontor::domain::entity::Cause;
use kontor::store::versioned;
use kontor::verify::{Books, RowBook};

use super::database::{migrate, proof, sql};
use super::delivery_zone::domain::delivery_zone::{Countries, DeliveryZone};
use crate::servers::database;
use crate::site::Site;

const MIGRATIONS: [&str; 2] = [
    include_str!("../../recipe/delivery_zone/migrations/sqlite/NNNN_delivery_zone.sql"),
    include_str!("../../recipe/delivery_zone/migrations/postgres/NNNN_delivery_zone.sql"),
];

fn books() -> Books {
    Books::standard().with(RowBook::<DeliveryZone>::default())
}

async fn start(config: &Config) -> App {
    let standard = Assembly::standard();
    let rows = standard.rows.with::<DeliveryZone>();
    let assembly = Assembly { rows, books, ..standard };
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
            migrate(config, MIGRATIONS).await;
            start(config).await
        },
    )
    .await;
    let app = site.app.take().unwrap();
    let zones = app.node.rows.of::<DeliveryZone>().unwrap();
    let cause = Cause::default;
    let made = zones.put(zone(500), Expect::Absent, cause()).await.unwrap();
    assert_eq!((made.0.version, made.1), (1, Change::Created));
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
