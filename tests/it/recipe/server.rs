//! Gift cards in a whole server, on both databases: over HTTP, in lists and the live feed, over a
//! restart, and before the proof, which sees what is tampered with.

use kontor::actors::engine::clock::Clock;
use kontor::actors::nouns::NounEntry;
use kontor::app::{App, Assembly};
use kontor::config::Config;
use kontor::verify::Books;
use kontor::verify::Invariant;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::database::{migrate, proof, sql};
use super::gift_card::actors::gift_card_rows::GiftCardRows;
use super::gift_card::domain::gift_card::GiftCard;
use super::gift_card::http::api::gift_card::ROUTES;
use super::gift_card::http::live::topic_gift_cards::GiftCardsTopic;
use super::gift_card::verify::gift_card::book;
use crate::checksums;
use crate::live::Client;
use crate::recipe::GIFT_CARDS;
use crate::servers::database;
use crate::site::{Answer, Site};

const ORDER: &str = "ord_01k0000000e008000000000001";
const OTHER: &str = "ord_01k0000000e008000000000002";

fn books() -> Books {
    Books::standard().with(book())
}

/// A shop that has gift cards.
fn assembly() -> Assembly {
    let standard = Assembly::standard();
    Assembly {
        nouns: standard.nouns.with(NounEntry::<GiftCard>::without_flow()),
        projections: standard.projections.with_live(GiftCardRows),
        routes: standard.routes.with(ROUTES),
        topics: standard.topics.with(GiftCardsTopic),
        books,
        ..standard
    }
}

async fn start(config: &Config) -> App {
    App::start_with(config, Clock::system(), assembly()).await.unwrap()
}

async fn open(database: Option<&str>) -> Site {
    Site::started(
        |config| config.store.url = database.unwrap_or_default().into(),
        async |config| {
            migrate(config, GIFT_CARDS).await;
            start(config).await
        },
    )
    .await
}

async fn spend(site: &Site, order: &str, amount: i64) -> Answer {
    let body = json!({"order": order, "amount": amount});
    site.admin(Method::POST, "/gift-cards/ann-1/spends", Some(body)).await
}

fn new(number: &str, amount: i64) -> Option<Value> {
    Some(json!({"number": number, "amount": {"amount": amount, "currency": "GBP"}}))
}

/// Issues a card, spends it, is refused, and lists it.
async fn is_used(site: &Site) {
    let made = site.admin(Method::POST, "/gift-cards", new("ann-1", 2_500)).await.expect(201);
    assert_eq!(made["balance"], json!({"amount": 2_500, "currency": "GBP"}));
    let again = site.admin(Method::POST, "/gift-cards", new("ann-1", 2_500)).await;
    assert_eq!((again.status, again.code()), (409, "already_exists"));
    let faulty = site.admin(Method::POST, "/gift-cards", new("Ann 1", 2_500)).await;
    assert_eq!((faulty.status, &faulty.body["errors"][0]["field"]), (422, &json!("number")));
    site.admin(Method::POST, "/gift-cards", new("bob-1", 0)).await.expect(422);

    for _ in 0..2 {
        let spent = spend(site, ORDER, 1_000).await.expect(200);
        assert_eq!((&spent["balance"]["amount"], &spent["orders"]), (&json!(1_500), &json!(1)));
    }
    let much = spend(site, OTHER, 1_501).await;
    assert_eq!((much.status, much.code()), (409, "wrong_state"));
    assert!(much.body["detail"].as_str().unwrap().contains("1500"), "{:#}", much.body);
    site.admin(Method::GET, "/gift-cards/nobody", None).await.expect(404);
    let card = site.admin(Method::GET, "/gift-cards/ann-1", None).await.expect(200);
    assert_eq!((&card["balance"]["amount"], &card["version"]), (&json!(1_500), &json!(2)));

    let made = site.request(Method::POST, "/v1/admin/gift-cards").bearer_auth(&site.key);
    let made = made.json(&new("bob-1", 100)).send().await.unwrap();
    assert_eq!(made.headers()["location"], "/v1/admin/gift-cards/bob-1");
    let position = made.headers()["kontor-position"].clone();
    let list = site.request(Method::GET, "/v1/admin/gift-cards").bearer_auth(&site.key);
    let list = list.header("kontor-after", position).send().await.unwrap();
    assert!(!list.headers().contains_key("kontor-stale"));
    let list: Value = list.json().await.unwrap();
    let numbers: Vec<&Value> =
        list["data"].as_array().unwrap().iter().map(|card| &card["number"]).collect();
    assert!(numbers.contains(&&json!("bob-1")), "{list:#}");

    let listed = site
        .until_some(async || {
            let page = site.admin(Method::GET, "/gift-cards?limit=1", None).await.expect(200);
            (page["data"][0]["balance"]["amount"] == 1_500).then_some(page)
        })
        .await;
    let after = listed["next_cursor"].as_str().unwrap();
    let path = format!("/gift-cards?limit=1&after={after}");
    let next = site.admin(Method::GET, &path, None).await.expect(200);
    assert_eq!((&next["data"][0]["number"], &next["next_cursor"]), (&json!("bob-1"), &Value::Null));
}

/// A write is conditional, as the document says.
async fn is_guarded_by_its_version(site: &Site) {
    let spends = "/v1/admin/gift-cards/bob-1/spends";
    let spend = |version: &'static str| {
        let request = site.request(Method::POST, spends).bearer_auth(&site.key);
        request.header("if-match", version).json(&json!({"order": ORDER, "amount": 10}))
    };
    let stale = site.send(spend("\"7\"")).await;
    assert_eq!((stale.status, stale.code()), (412, "version_mismatch"));
    let card = site.admin(Method::GET, "/gift-cards/bob-1", None).await.expect(200);
    assert_eq!((&card["orders"], &card["version"]), (&json!(0), &json!(1)));
    let spent = spend("\"1\"").send().await.unwrap();
    assert_eq!(
        (spent.status().as_u16(), &spent.headers()["etag"]),
        (200, &"\"2\"".parse().unwrap())
    );
    let nobody = site.request(Method::POST, "/v1/admin/gift-cards/nobody/spends");
    let nobody = nobody.bearer_auth(&site.key).header("if-match", "\"1\"");
    let nobody = site.send(nobody.json(&json!({"order": ORDER, "amount": 10}))).await;
    assert_eq!(nobody.status, 404);

    let document = site.send(site.request(Method::GET, "/openapi.json")).await.expect(200);
    let cards = &document["paths"]["/v1/admin/gift-cards"];
    let made = &cards["post"]["responses"]["201"]["headers"];
    assert!(made["ETag"].is_object() && made["Location"].is_object(), "{made:#}");
    let spend = &document["paths"]["/v1/admin/gift-cards/{number}/spends"]["post"];
    assert!(spend["responses"]["200"]["headers"]["ETag"].is_object(), "{spend:#}");
    let mut parameters = spend["parameters"].as_array().unwrap().iter();
    assert!(parameters.any(|one| one["name"] == "If-Match"), "{spend:#}");
}

/// Who follows the list is shown how it stands, and then what was spent.
async fn is_followed(site: &Site) {
    let mut client = Client::open(site).await;
    client.say(json!({"type": "subscribe", "id": "all", "topic": "gift_cards"})).await;
    let snapshot = client.until(|message| message["type"] == "snapshot").await;
    assert_eq!(snapshot["data"][0]["balance"]["amount"], 1_500, "{snapshot:#}");
    spend(site, OTHER, 500).await.expect(200);
    let changes = client.until(|message| message["type"] == "changes").await;
    let change = &changes["data"][0];
    assert_eq!((&change["after"], &change["version"]), (&json!(2), &json!(3)), "{changes:#}");
    assert_eq!(change["row"]["balance"]["amount"], 1_000);
    let odd = json!({"type": "subscribe", "id": "odd", "topic": "gift_cards", "filter": {"a": 1}});
    client.say(odd).await;
    let refused = client.until(|message| message["type"] == "error").await;
    assert_eq!(refused["code"], "unknown_filter", "{refused:#}");
}

/// Keys that may not, and nobody, are refused; the document says what there is.
async fn is_guarded(site: &Site) {
    let path = "/v1/admin/gift-cards";
    let nobody = site.send(site.request(Method::GET, path)).await;
    assert_eq!(nobody.status, 401);
    let app = site.app.as_ref().unwrap();
    let scopes = ["orders:read".to_owned()];
    let (_, key) = app.store.create_key("reader", &scopes, app.node.clock.now()).await.unwrap();
    let reads = site.request(Method::GET, path).bearer_auth(key.reveal());
    assert_eq!(site.send(reads).await.status, 200);
    let issues = site.request(Method::POST, path).bearer_auth(key.reveal());
    assert_eq!(site.send(issues.json(&new("eve-1", 1))).await.status, 403);
    let document = site.send(site.request(Method::GET, "/openapi.json")).await.expect(200);
    let spend = &document["paths"]["/v1/admin/gift-cards/{number}/spends"]["post"];
    assert_eq!(spend["operationId"], "spend_gift_card");
}

/// The proof holds, and sees a balance that is tampered with in a row, or in the journal of a folder.
async fn is_proved(config: &Config) {
    let report = proof(config, books()).await;
    assert!(report.ok, "{report}");
    assert_eq!(report.checked.others["gift_cards"], 2);
    assert_eq!(report.checked.others["gift_cards_rows"], 2);
    let violated = async |text: &'static str| {
        sql(config, text).await;
        let violations = proof(config, books()).await.violations;
        // The digests of the events do not match either, which every change of one shows.
        let first = violations.iter().find(|found| found.invariant != Invariant::I8).unwrap();
        (first.invariant.to_string(), first.entity.clone())
    };
    let row = "UPDATE gift_card_row SET balance = 9999 WHERE number = 'ann-1'";
    assert_eq!(violated(row).await, ("I6".to_owned(), "gift_ann-1".to_owned()));
    if !config.store.url.is_empty() {
        return;
    }
    sql(config, "DROP TRIGGER event_is_never_changed").await;
    let event = "UPDATE event SET data = replace(data, '1000', '5000')
        WHERE entity = 'gift_ann-1' AND kind = 'spent'";
    assert_eq!(violated(event).await, ("I5".to_owned(), "gift_ann-1".to_owned()));
    // Whoever changes an event can also write the checksum that it then has.
    let file = SqliteConnectOptions::new().filename(config.data.dir.join("kontor.db"));
    let mut there = file.connect().await.unwrap();
    checksums::write(&mut there).await;
    there.close().await.unwrap();
    assert_eq!(violated("SELECT 1").await, ("I3".to_owned(), "gift_ann-1".to_owned()));
}

async fn lives_in_a_shop(database: Option<&str>) {
    let mut site = open(database).await;
    is_used(&site).await;
    is_guarded_by_its_version(&site).await;
    is_followed(&site).await;
    is_guarded(&site).await;
    site.app.take().unwrap().stop().await;
    site.app = Some(start(&site.config).await);
    let card = site.admin(Method::GET, "/gift-cards/ann-1", None).await.expect(200);
    assert_eq!(card["balance"]["amount"], 1_000);
    site.app.take().unwrap().stop().await;
    is_proved(&site.config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gift_cards_live_in_a_folder() {
    lives_in_a_shop(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gift_cards_live_in_postgres() {
    lives_in_a_shop(Some(&database())).await;
}
