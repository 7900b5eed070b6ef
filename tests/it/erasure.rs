//! Personal data at rest: sealed everywhere, and gone for good once their keys are destroyed.

use std::path::Path;

use kontor::app::App;
use kontor::doctor::{self, Installation};
use kontor::domain::time::Timestamp;
use kontor::store::maintenance::restore;
use kontor::store::personal::{MasterKeyText, master};
use kontor::store::webhook::{NEVER, Parked};
use kontor::store::{Options, Store};
use kontor::verify::{Invariant, verify};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

mod keys;

use crate::process;
use crate::servers::database;
use crate::site::Site;

/// What stands nowhere in clear: each is of a buyer, a payment token, or an idempotency key.
const CANARIES: [&str; 9] = [
    "Zsofia Kanarienvogel",
    "kanarienvogel",
    "Vogelweg 77",
    "Vogelhausen",
    "+49 30 7777777",
    "zsofia.kanarienvogel@example.com",
    "PO-KANARIE-9",
    "tok_ok",
    "kanarie-key-9",
];
const EMAIL: &str = "Zsofia.Kanarienvogel@example.com";

fn details() -> Value {
    json!({
        "email": EMAIL,
        "reference": "PO-KANARIE-9",
        "shipping_address": {
            "name": "Zsofia Kanarienvogel", "line1": "Vogelweg 77", "city": "Vogelhausen",
            "postal_code": "10115", "country": "DE", "phone": "+49 30 7777777",
        },
    })
}

/// Places an order of the person; returns the id of its cart.
async fn order(site: &Site, key: &str) -> String {
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.store(Method::PATCH, &format!("/carts/{cart}"), Some(details())).await.expect(200);
    site.checkout(&cart, key, "tok_ok", 10).await.expect(201);
    cart
}

async fn ship(site: &Site, cart: &str) {
    let path = format!("/orders/{}/fulfillments", cart.replace("cart_", "ord_"));
    site.admin(Method::POST, &path, Some(json!({}))).await.expect(200);
    // Until then the order is not complete, and keeps its data.
    site.until(cart, |order| order["payment_status"] == "captured").await;
}

async fn listed(site: &Site, query: &str) -> Vec<Value> {
    let page = site.admin(Method::GET, &format!("/orders?{query}"), None).await.expect(200);
    page["data"].as_array().unwrap().clone()
}

/// The orders that are found by any of what is known of the person.
async fn found(site: &Site) -> usize {
    let mut count = 0;
    for query in [
        "q=kanarie",
        "q=vogelweg",
        "q=7777777",
        &format!("email={EMAIL}"),
        "reference=PO-KANARIE-9",
    ] {
        count += listed(site, query).await.len();
    }
    count
}

/// All bytes below a folder that have one of the canaries in clear, in either case.
fn in_clear(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(in_clear(&path));
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).to_lowercase();
        let has = |canary: &&&str| text.contains(&canary.to_lowercase());
        found.extend(CANARIES.iter().filter(has).map(|one| format!("{}: {one}", path.display())));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_a_store_has_personal_data_or_payment_tokens_in_clear() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    order(&site, "kanarie-key-9").await;
    site.until_some(async || (found(&site).await == 5).then_some(())).await;
    let export = site.admin(Method::POST, "/order-exports", None).await.expect(202);
    let path = format!("/order-exports/{}", export["id"].as_str().unwrap());
    site.until_some(async || {
        let now = site.admin(Method::GET, &path, None).await.expect(200);
        now["file"].is_string().then_some(())
    })
    .await;
    let store = &site.app.as_ref().unwrap().store;
    let parked = Parked {
        provider: "sandbox".into(),
        notice_id: "n1".into(),
        received_at: Timestamp::from_millis(0),
        body: CANARIES.join(" "),
        reason: "no order".into(),
        next_try_at: NEVER,
    };
    store.park_webhook(&parked).await.unwrap();
    assert_eq!(store.parked_webhooks(0, 9).await.unwrap()[0].webhook, parked);
    store.index_order_texts(100).await.unwrap();
    let backups = site.dir.path().join("backups");
    std::fs::create_dir(&backups).unwrap();
    store.backup(&backups.join("backup.db")).await.unwrap();
    assert_eq!(in_clear(&site.config.data.dir), [""; 0]);
    assert_eq!(in_clear(&backups), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_read_and_found_by_nobody_in_sqlite() {
    erase(Site::open().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_read_and_found_by_nobody_in_postgres() {
    let url = database();
    erase(Site::with(|config| config.store.url = url.as_str().into()).await).await;
}

async fn erase(site: Site) {
    site.sell("LAMP", 1_000, 10).await;
    let shipped = order(&site, "one").await;
    ship(&site, &shipped).await;
    let open = order(&site, "two").await;
    site.until_some(async || (found(&site).await == 10).then_some(())).await;
    let id = |cart: &str| cart.replace("cart_", "ord_");

    let body = Some(json!({"email": EMAIL.to_uppercase()}));
    let done = site.admin(Method::POST, "/erasures", body.clone()).await.expect(200);
    assert_eq!(done["orders"], json!([id(&shipped)]), "{done}");
    assert_eq!(done["kept"][0]["order"], id(&open), "{done}");
    assert_eq!(done["kept"][0]["because"], "incomplete", "{done}");
    let order = site.admin(Method::GET, &format!("/orders/{}", id(&shipped)), None).await;
    let order = order.expect(200);
    for field in ["email", "reference", "shipping_address", "billing_address"] {
        assert!(order[field].is_null(), "{field}: {order}");
    }
    let events = format!("/orders/{}/events", id(&shipped));
    let events = site.admin(Method::GET, &events, None).await.expect(200).to_string();
    assert!(!events.to_lowercase().contains("kanarie"), "{events}");
    assert!(events.contains("personal_data_erased"), "{events}");
    site.until_some(async || (found(&site).await == 5).then_some(())).await;

    ship(&site, &open).await;
    site.until_some(async || {
        let done = site.admin(Method::POST, "/erasures", body.clone()).await.expect(200);
        done["kept"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    site.until_some(async || (found(&site).await == 0).then_some(())).await;
    let rows = listed(&site, "").await;
    assert!(rows.len() == 2 && rows.iter().all(|row| row["email"].is_null()), "{rows:?}");
    let order = site.admin(Method::GET, &format!("/orders/{}", id(&open)), None).await.expect(200);
    assert_eq!((&order["total"]["amount"], &order["email"]), (&json!(1_000), &Value::Null));
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_an_erased_order_whose_keys_are_there_again() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    let cart = order(&site, "one").await;
    ship(&site, &cart).await;
    let keys = "SELECT id, entity, subject, wrapped FROM personal_key";
    let dir = site.config.data.dir.clone();
    let options = SqliteConnectOptions::new().filename(dir.join("kontor.db"));
    let mut connection = options.connect().await.unwrap();
    let copy = format!("CREATE TEMP TABLE kept AS {keys}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(copy)).execute(&mut connection).await.unwrap();
    site.until_some(async || {
        let body = Some(json!({"email": EMAIL}));
        let done = site.admin(Method::POST, "/erasures", body).await.expect(200);
        done["kept"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    site.app.take().unwrap().stop().await;
    let again = "INSERT INTO personal_key SELECT * FROM kept WHERE true ON CONFLICT DO NOTHING";
    sqlx::raw_sql(again).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let beside = Store::open_beside(&dir).await.unwrap();
    let report = kontor::verify::verify(&beside, None, |_| {}).await.unwrap();
    let [violation] = report.violations.as_slice() else { panic!("{report}") };
    assert_eq!(violation.invariant.to_string(), "I7");
    assert_eq!(violation.entity, cart.replace("cart_", "ord_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn personal_data_are_kept_as_long_as_the_law_asks() {
    let site = Site::with(|config| {
        config.shop.retention_days_in = [("DE".to_owned(), 3_650)].into();
    })
    .await;
    site.sell("LAMP", 1_000, 10).await;
    let cart = order(&site, "one").await;
    ship(&site, &cart).await;
    site.until_some(async || {
        let body = Some(json!({"email": EMAIL}));
        let done = site.admin(Method::POST, "/erasures", body).await.expect(200);
        assert_eq!(done["orders"], json!([]), "{done}");
        let kept = &done["kept"][0];
        (kept["because"] == "retention" && kept["until"].is_string()).then_some(())
    })
    .await;
    site.until_some(async || (found(&site).await == 5).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_under_a_legal_hold_keeps_its_personal_data_until_it_is_released() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    let cart = order(&site, "one").await;
    ship(&site, &cart).await;
    let path = format!("/orders/{}/legal-hold", cart.replace("cart_", "ord_"));
    let reason = Some(json!({"reason": "case 12"}));
    let held = site.admin(Method::PUT, &path, reason).await.expect(200);
    assert_eq!(held["legal_hold"], "case 12");
    let erase = async || {
        let body = Some(json!({"email": EMAIL}));
        site.admin(Method::POST, "/erasures", body).await.expect(200)
    };
    let done = erase().await;
    assert_eq!((&done["orders"], &done["kept"][0]["because"]), (&json!([]), &json!("legal_hold")));
    site.until_some(async || (found(&site).await == 5).then_some(())).await;
    let released = site.admin(Method::DELETE, &path, None).await.expect(200);
    assert_eq!(released["legal_hold"], Value::Null);
    site.until_some(async || (erase().await["kept"] == json!([])).then_some(())).await;
    let late = site.admin(Method::PUT, &path, Some(json!({"reason": "too late"}))).await;
    assert_eq!(late.status, 409, "{:#}", late.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_does_not_start_without_its_master_key() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    order(&site, "one").await;
    let backup = site.dir.path().join("backup.db");
    site.app.as_ref().unwrap().store.backup(&backup).await.unwrap();
    site.app.take().unwrap().stop().await;
    let old = site.config.data.dir.clone();
    site.config.data.dir = site.dir.path().join("restored");
    restore(&backup, &site.config.data.dir, &[], Timestamp::default()).await.unwrap();
    let refused = App::start(&site.config).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("copy the file master.key"), "{refused}");
    std::fs::copy(old.join("master.key"), site.config.data.dir.join("master.key")).unwrap();
    site.app = Some(App::start(&site.config).await.unwrap());
    site.until_some(async || (found(&site).await == 5).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_start_with_another_master_key() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    order(&site, "one").await;
    site.app.take().unwrap().stop().await;
    let file = site.config.data.dir.join("master.key");
    let right = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "ab".repeat(32)).unwrap();
    let refused = App::start(&site.config).await.map(drop).unwrap_err();
    let refused = kontor::telemetry::chain(&refused).to_string();
    let named = format!("which is not the one of the file {}", file.display());
    assert!(refused.contains(&named), "{refused}");
    std::fs::write(&file, right).unwrap();
    site.app = Some(App::start(&site.config).await.unwrap());
    site.verify().await;
}

#[tokio::test]
async fn a_command_makes_no_master_key_in_a_database() {
    let url = database();
    let master_key = MasterKeyText::new(&"ab".repeat(32));
    let options = Options { shards: 2, master_key, ..Options::default() };
    let url = url.as_str().into();
    Store::connect(&url, &options).await.unwrap().close().await;
    let beside = Store::connect_beside(&url).await.unwrap();
    let refused = beside.lookups().await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("set store.master_key"), "{refused}");
    beside.close().await;
    let again =
        Store::connect_beside_with(&url, MasterKeyText::new(&"cd".repeat(32))).await.unwrap();
    assert_eq!(again.people().master().unwrap().signing_seeds().count(), 1);
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_sealed_with_a_new_master_key_while_a_server_runs() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    order(&site, "one").await;
    let dir = &site.config.data.dir;
    let old = std::fs::read_to_string(dir.join("master.key")).unwrap();
    master::add(dir).unwrap();
    let beside = Store::open_beside(dir).await.unwrap();
    assert!(beside.rewrap_keys(|_| {}).await.unwrap() >= 3);
    assert_eq!(beside.rewrap_keys(|_| {}).await.unwrap(), 0);
    beside.close().await;
    master::keep_two(dir).unwrap();
    let both = std::fs::read_to_string(dir.join("master.key")).unwrap();
    assert!(both.ends_with(&old) && both.len() == 2 * old.len());
    order(&site, "two").await;
    site.until_some(async || (found(&site).await == 10).then_some(())).await;
    let beside = Store::open_beside(dir).await.unwrap();
    let report = kontor::verify::verify(&beside, None, |_| {}).await.unwrap();
    assert!(report.ok, "{report}");
    beside.close().await;
}

/// Restores a backup with a list of erasures into another folder, which the site has from then on; returns
/// what the command says.
fn restored(site: &mut Site, backup: &Path, erased: &Path) -> Value {
    let old = std::mem::replace(&mut site.config.data.dir, site.dir.path().join("restored"));
    let mut restore = process::kontor();
    restore.args(["restore", "--json", "--from"]).arg(backup).arg("--erased").arg(erased);
    restore.arg("--master-key").arg(old.join("master.key"));
    let told = restore.arg("--data").arg(&site.config.data.dir).output().unwrap();
    serde_json::from_slice(&told.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_erased_after_a_backup_is_erased_again_after_its_restore() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    let cart = order(&site, "one").await;
    ship(&site, &cart).await;
    site.until_some(async || (found(&site).await == 5).then_some(())).await;
    let (backup, list) = (site.dir.path().join("backup.db"), site.dir.path().join("erased.jsonl"));
    site.app.as_ref().unwrap().store.backup(&backup).await.unwrap();
    let erased = site.admin(Method::POST, "/erasures", Some(json!({"email": EMAIL}))).await;
    assert_eq!(erased.expect(200)["orders"].as_array().unwrap().len(), 1);
    site.app.take().unwrap().stop().await;
    let old = site.config.data.dir.clone();
    let told = process::kontor().args(["erasures", "--data"]).arg(&old).output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.lines().count() == 1 && !text.to_lowercase().contains("kanarie"), "{text}");
    std::fs::write(&list, text).unwrap();

    let told = restored(&mut site, &backup, &list);
    assert_eq!((&told["erased"], &told["verify"]["ok"]), (&json!(1), &json!(true)), "{told}");
    site.app = Some(App::start(&site.config).await.unwrap());
    let path = format!("/orders/{}", cart.replace("cart_", "ord_"));
    site.until_some(async || {
        let order = site.admin(Method::GET, &path, None).await.expect(200);
        order["email"].is_null().then_some(())
    })
    .await;
    site.until_some(async || (found(&site).await == 0).then_some(())).await;
    // The list is added once.
    let mut again = process::kontor();
    again.args(["erasures", "--data"]).arg(&site.config.data.dir).arg("--add").arg(&list);
    let told = String::from_utf8(again.output().unwrap().stdout).unwrap();
    assert_eq!(told, "0 of 1 erasures were not in the store.\n");
    site.verify().await;
}

async fn shown(site: &Site, cart: &str) -> Value {
    let path = format!("/orders/{}", cart.replace("cart_", "ord_"));
    site.admin(Method::GET, &path, None).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legal_hold_that_is_newer_than_the_backup_is_placed_again_before_anybody_is_erased() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    let carts = [order(&site, "one").await, order(&site, "two").await];
    for cart in &carts {
        ship(&site, cart).await;
    }
    site.until_some(async || (found(&site).await == 10).then_some(())).await;
    let (backup, list) = (site.dir.path().join("backup.db"), site.dir.path().join("erased.jsonl"));
    site.app.as_ref().unwrap().store.backup(&backup).await.unwrap();
    let held = carts[0].replace("cart_", "ord_");
    let hold = format!("/orders/{held}/legal-hold");
    site.admin(Method::PUT, &hold, Some(json!({"reason": "case 12"}))).await.expect(200);
    let body = Some(json!({"email": EMAIL}));
    let done = site.admin(Method::POST, "/erasures", body).await.expect(200);
    assert_eq!(done["kept"][0]["order"], held);
    site.app.take().unwrap().stop().await;
    let old = site.config.data.dir.clone();
    let told = process::kontor().args(["erasures", "--data"]).arg(&old).output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    let entry: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(entry["held"], json!([held]), "{text}");
    std::fs::write(&list, text).unwrap();

    let told = restored(&mut site, &backup, &list);
    assert_eq!((&told["erased"], &told["held"]), (&json!(1), &json!(1)), "{told}");
    site.app = Some(App::start(&site.config).await.unwrap());
    site.until_some(async || shown(&site, &carts[1]).await["email"].is_null().then_some(())).await;
    let kept = shown(&site, &carts[0]).await;
    assert!(kept["email"].is_string(), "{kept}");
    assert!(kept["legal_hold"].as_str().unwrap().contains("placed again"), "{kept}");
    // Once it is released, it stays so.
    site.admin(Method::DELETE, &hold, None).await.expect(200);
    site.restart().await;
    site.until_some(async || shown(&site, &carts[0]).await["email"].is_null().then_some(())).await;
    let report = verify(&site.app.as_ref().unwrap().store, None, |_| {}).await.unwrap();
    assert_eq!((report.checked.erased, report.checked.legal_holds), (2, 0), "{report}");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_opened_is_named_and_is_no_fault_of_who_asks() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    let carts = [order(&site, "one").await, order(&site, "two").await];
    site.until_some(async || (found(&site).await == 10).then_some(())).await;
    let dir = site.config.data.dir.clone();
    let change = async |text: &str, cart: &str| {
        let options = SqliteConnectOptions::new().filename(dir.join("kontor.db"));
        let mut connection = options.connect().await.unwrap();
        let done = sqlx::query(sqlx::AssertSqlSafe(text.to_owned())).bind(cart.to_owned());
        let changed = done.execute(&mut connection).await.unwrap().rows_affected();
        connection.close().await.unwrap();
        changed
    };
    let damage = "UPDATE personal_key SET wrapped = substr(wrapped, 1, length(wrapped) - 2) || \
                  'AA' WHERE entity = $1";
    let rename = "UPDATE personal_key SET wrapped = 'abcdef01' || substr(wrapped, 9) \
                  WHERE entity = $1";
    site.app.take().unwrap().stop().await;
    let keys = change(damage, &carts[0]).await + change(rename, &carts[1]).await;
    site.app = Some(App::start(&site.config).await.unwrap());
    let asked = async |cart: &str| {
        let path = format!("/orders/{}", cart.replace("cart_", "ord_"));
        let answer = site.admin(Method::GET, &path, None).await;
        (answer.status, answer.code().to_owned())
    };
    assert_eq!(asked(&carts[0]).await, (500, "internal".to_owned()));
    assert_eq!(asked(&carts[1]).await, (503, "try_again".to_owned()));
    site.app.take().unwrap().stop().await;

    let store = Store::open_beside(&dir).await.unwrap();
    let report = verify(&store, None, |_| {}).await.unwrap();
    store.close().await;
    let of_content = report.violations.iter().filter(|found| found.invariant == Invariant::I1);
    let said: Vec<(&str, &str)> =
        of_content.map(|found| (&*found.entity, &*found.message)).collect();
    assert_eq!(said.len(), 2, "{report}");
    for (cart, words) in [(&carts[0], "is damaged"), (&carts[1], "the master key \"abcdef01\"")] {
        let named = said.iter().any(|(entity, why)| entity == cart && why.contains(words));
        assert!(named, "{cart}: {said:?}");
    }
    assert!(report.checked.orders == 2, "{report}");
    let installation = Installation { data: dir, ..Installation::default() };
    let findings = doctor::examine(&installation).await;
    let people = findings.iter().find(|finding| finding.check == "people").unwrap();
    assert!(people.message.starts_with(&format!("{keys} of ")), "{people:?}");
}
