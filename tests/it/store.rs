//! The store story: one story over all rows, and what opening a data folder may meet.

mod order_lists;
mod order_searches;
#[cfg(unix)]
mod private_files;

use std::path::Path;

use kontor::domain::entity::EntityId;
use kontor::domain::id::Sku;
use kontor::domain::search_text::{Search, search_text, words};
use kontor::domain::time::{Span, Timestamp};
use kontor::store::journal::Append;
use kontor::store::list_row::Batch;
use kontor::store::live_ticket::TicketHolder;
use kontor::store::maintenance::{Check, restore};
use kontor::store::node::NodeRow;
use kontor::store::order_search::SearchRow;
use kontor::store::personal::{CodedSearch, LookupKeys};
use kontor::store::projection::{Cursor, DeadLetter, ProjectionBatch};
use kontor::store::session::LINK_LASTS;
use kontor::store::webhook::Parked;
use kontor::store::{DatabaseUrl, Error, OpenError, Options, Store, order, product, stock};
use tempfile::TempDir;

use crate::journal::{append, at, claim, product_row};
use crate::servers::database;

async fn open(dir: &Path) -> Store {
    Store::open(dir, &Options::default()).await.unwrap()
}

async fn fresh() -> (Store, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (open(dir.path()).await, dir)
}

/// A store in SQLite, and one of a single shard in PostgreSQL.
async fn one_of_each() -> [(Store, TempDir); 2] {
    [fresh().await, (connect(&database().as_str().into()).await, tempfile::tempdir().unwrap())]
}

async fn connect(url: &DatabaseUrl) -> Store {
    Store::connect(url, &Options { shards: 1, ..Options::default() }).await.unwrap()
}

/// A batch of shard 0.
fn to(after: i64, pos: i64) -> Cursor {
    Cursor { shard: 0, after, pos }
}

fn sku(text: &str) -> Sku {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_store_story() {
    let (store, dir) = fresh().await;
    story(&store).await;
    let secret = store.secret("cookie").await.unwrap();

    // Everything is there again in a backup taken while it serves, and after a restart.
    let backup = dir.path().join("backup.db");
    assert!(store.backup(&backup).await.unwrap() > 0);
    assert!(matches!(store.backup(&backup).await, Err(Error::Io(_))), "never over a file");
    assert_eq!(store.check(Check::Quick).await.unwrap(), [""; 0]);
    assert_eq!(store.check(Check::Full).await.unwrap(), [""; 0]);
    let sizes = store.sizes().await.unwrap();
    assert_eq!(sizes.events, 5);
    assert!(sizes.database_bytes > 0 || sizes.log_bytes > 0);
    store.close().await;

    let elsewhere = dir.path().join("restored");
    restore(&backup, &elsewhere, &[], Timestamp::default()).await.unwrap();
    std::fs::copy(dir.path().join("master.key"), elsewhere.join("master.key")).unwrap();
    for folder in [dir.path(), &elsewhere] {
        let again = open(folder).await;
        assert_eq!(again.secret("cookie").await.unwrap(), secret);
        assert_eq!(again.journal().last_pos(0).await.unwrap(), 5);
        assert_eq!(again.cursor("orders", 0).await.unwrap(), 30);
        again.close().await;
    }
    let again = restore(&backup, &elsewhere, &[], Timestamp::default()).await;
    assert!(matches!(again, Err(OpenError::NotEmpty(_))), "not empty: {again:?}");
}

#[tokio::test]
async fn the_store_story_in_postgres() {
    let url: DatabaseUrl = database().as_str().into();
    let store = connect(&url).await;
    story(&store).await;
    let secret = store.secret("cookie").await.unwrap();
    assert_eq!(store.check(Check::Quick).await.unwrap(), [""; 0]);
    assert_eq!(store.check(Check::Full).await.unwrap(), [""; 0]);
    let sizes = store.sizes().await.unwrap();
    assert_eq!(sizes.events, 5);
    assert!(sizes.database_bytes > 0);
    let copied = store.backup(Path::new("/nowhere")).await.unwrap_err().to_string();
    assert!(copied.contains("pg_dump"), "{copied}");
    store.close().await;
    assert!(store.keys().await.is_err(), "closed is closed");
    assert!(store.put_setting("a", "b").await.is_err());

    let again = connect(&url).await;
    assert_eq!(again.secret("cookie").await.unwrap(), secret);
    assert_eq!(again.journal().last_pos(0).await.unwrap(), 5);
    assert_eq!(again.cursor("orders", 0).await.unwrap(), 30);
}

async fn story(store: &Store) {
    products(store).await;
    keys_and_secrets(store).await;
    sessions(store).await;
    live_tickets(store).await;
    Box::pin(orders(store)).await;
    stock_levels(store).await;
    projections(store).await;
    webhooks(store).await;
    nodes(store).await;
}

async fn nodes(store: &Store) {
    let node = |id: &str, started| NodeRow {
        id: id.to_owned(),
        url: format!("http://{id}"),
        machine: "here".to_owned(),
        version: "1".to_owned(),
        started_at: at(started),
    };
    let (hour, over) = (Span::from_secs(3_600), Span::from_millis(-1));
    assert_eq!(store.heartbeat(&node("b", 1), hour).await.unwrap(), Some(false));
    assert_eq!(store.heartbeat(&node("a", 1), over).await.unwrap(), Some(false));
    assert!(store.set_draining("b", true).await.unwrap());
    assert!(!store.set_draining("c", true).await.unwrap());
    let drains = store.heartbeat(&node("b", 1), hour).await.unwrap();
    assert_eq!(drains, Some(true), "it goes on draining");
    let all = store.nodes().await.unwrap();
    let all: Vec<_> = all.iter().map(|row| (&*row.node.id, row.lives, row.draining)).collect();
    assert_eq!(all, [("a", false, false), ("b", true, true)]);
    let again = store.heartbeat(&node("b", 2), hour).await.unwrap();
    assert_eq!(again, Some(false), "it has started again");
    let elsewhere = |id, started| NodeRow { url: "http://there".into(), ..node(id, started) };
    let another = store.heartbeat(&elsewhere("b", 3), hour).await.unwrap();
    assert_eq!(another, None, "it has the name of one that lives");
    let copy = NodeRow { machine: "another".into(), ..node("b", 3) };
    let another = store.heartbeat(&copy, hour).await.unwrap();
    assert_eq!(another, None, "at the same address of another machine");
    assert_eq!(store.nodes().await.unwrap()[1].node, node("b", 2));
    let over = store.heartbeat(&elsewhere("a", 2), over).await.unwrap();
    assert_eq!(over, Some(false), "it has the name of one that is dead");
    assert!(!store.remove_node(&elsewhere("b", 3)).await.unwrap());
    assert!(store.remove_node(&node("b", 2)).await.unwrap());
    assert!(!store.remove_node(&node("b", 2)).await.unwrap());
    store.heartbeat(&node("c", 1), Span::from_secs(-90_000)).await.unwrap();
    let left = store.nodes().await.unwrap();
    assert_eq!(left.iter().map(|row| &*row.node.id).collect::<Vec<_>>(), ["a"], "c is forgotten");

    assert!(store.pin_shard(0, Some("a")).await.unwrap());
    assert!(!store.pin_shard(9, Some("a")).await.unwrap());
    assert_eq!(store.shards().await.unwrap()[0].pinned_to.as_deref(), Some("a"));
    assert!(store.pin_shard(0, None).await.unwrap());
    assert_eq!(store.shards().await.unwrap()[0].pinned_to, None);
}

async fn sessions(store: &Store) {
    let scopes = vec!["admin".to_owned()];
    let link = store.create_link("set-up", &scopes, at(0), LINK_LASTS).await.unwrap();
    assert!(store.link_works(link.reveal(), at(1)).await.unwrap());
    let (row, secret) = store.sign_in_by_link(link.reveal(), at(1)).await.unwrap().unwrap();
    assert!(store.sign_in_by_link(link.reveal(), at(1)).await.unwrap().is_none(), "it is used");
    assert_eq!(store.find_session(secret.reveal(), at(2)).await.unwrap(), Some(row.clone()));
    let mut seen = row.clone();
    store.touch_session(&mut seen, at(600_000)).await.unwrap();
    assert_eq!(store.find_session(secret.reveal(), at(2)).await.unwrap(), Some(seen));
    let (key, _) = store.create_key("desk", &scopes, at(5)).await.unwrap();
    let (of_key, _) = store.sign_in_by_key(&key, at(6)).await.unwrap();
    assert!(store.valid_session(&of_key.id, at(7)).await.unwrap().is_some());
    assert!(store.revoke_key(&key.id, at(8)).await.unwrap());
    assert!(
        store.valid_session(&of_key.id, at(9)).await.unwrap().is_none(),
        "it ends with its key"
    );
    assert!(store.end_session(&row.id).await.unwrap());
    store.create_link("another", &scopes, at(9), LINK_LASTS).await.unwrap();
    assert_eq!(store.end_all_sessions().await.unwrap(), (1, 1));
}

async fn live_tickets(store: &Store) {
    let holder = TicketHolder::ApiKey("desk".to_owned());
    let mut tickets = Vec::new();
    while let Some((ticket, _)) = store.issue_live_ticket("desk", &holder).await.unwrap() {
        tickets.push(ticket);
    }
    assert_eq!(tickets.len(), 100);
    let session = TicketHolder::Session("s".to_owned());
    let (other, _) = store.issue_live_ticket("s", &session).await.unwrap().unwrap();
    let ticket = tickets.pop().unwrap();
    let ticket = ticket.reveal();
    let (one, two) = tokio::join!(store.use_live_ticket(ticket), store.use_live_ticket(ticket));
    let used = [one.unwrap(), two.unwrap()];
    assert_eq!(used.iter().flatten().collect::<Vec<_>>(), [&holder], "it is used once");
    assert!(store.issue_live_ticket("desk", &holder).await.unwrap().is_some());
    assert_eq!(store.use_live_ticket(other.reveal()).await.unwrap(), Some(session));
    assert_eq!(store.use_live_ticket("no").await.unwrap(), None);
}

async fn products(store: &Store) {
    let journal = store.journal();
    let fence = claim(journal.as_ref(), "test").await;
    let mut batch = Vec::new();
    for (name, category, active) in
        [("a1", Some("mugs"), true), ("b2", None, true), ("c3", Some("mugs"), false)]
    {
        let mut row = product_row(name, 1);
        row.value.category = category.map(str::to_owned);
        row.value.active = active;
        batch.push(Append { rows: vec![row.change()], ..append(&format!("product_{name}"), 0, 1) });
    }
    let mut renamed = product::Row { updated_at: at(8), ..product_row("a1", 2) };
    renamed.value.name = "Grüne Tasse 100%".to_owned();
    renamed.value.category = Some("mugs".to_owned());
    batch.push(Append { rows: vec![renamed.change()], ..append("product_a1", 1, 2) });
    journal.append(&[fence], &batch).await.unwrap();

    assert_eq!(store.product(&sku("a1")).await.unwrap(), Some(renamed));
    assert_eq!(store.product(&sku("nope")).await.unwrap(), None);
    let all = product::Filter { limit: 10, ..Default::default() };
    let mugs = product::Filter { category: vec!["mugs".to_owned()], ..all.clone() };
    let inactive = product::Filter { active: Some(false), ..all.clone() };
    let named = product::Filter { words: words("TASSE 100%"), ..all.clone() };
    let folded = |q: &str| product::Filter { words: words(q), ..all.clone() };
    let coded = product::Filter { words: words("B"), ..all.clone() };
    let page = product::Filter { after: Some((at(7), sku("a1"))), limit: 1, ..all.clone() };
    for (filter, expected) in [
        (folded("GRÜNE"), &["a1"][..]),
        (folded("grüne t"), &["a1"]),
        (folded("TASSE"), &["a1"]),
        (folded("a1 tasse"), &["a1"]),
        (folded("b2 tasse"), &[]),
        (folded("GRUNE"), &["a1"]),
        (folded("GRUNER"), &[]),
        (folded("PRODUCT"), &["b2", "c3"]),
        (product::Filter { limit: 1, ..folded("product") }, &["b2"]),
        (product::Filter { after: Some((at(7), sku("b2"))), ..folded("product") }, &["c3"]),
        (all.clone(), &["a1", "b2", "c3"]),
        (mugs, &["a1", "c3"]),
        (inactive, &["c3"]),
        (named, &["a1"]),
        (coded, &["b2"]),
        (page, &["b2"]),
        (
            product::Filter { sku: vec![sku("c3"), sku("a1"), sku("zz")], ..all.clone() },
            &["a1", "c3"],
        ),
        (product::Filter { sort: product::Sort::LastSku, ..all.clone() }, &["c3", "b2", "a1"]),
        (product::Filter { sort: product::Sort::FirstUpdated, ..all.clone() }, &["b2", "c3", "a1"]),
        (product::Filter { sort: product::Sort::LastUpdated, ..all.clone() }, &["a1", "c3", "b2"]),
        (product::Filter { updated_from: Some(at(8)), ..all.clone() }, &["a1"]),
        (product::Filter { updated_to: Some(at(8)), ..all.clone() }, &["b2", "c3"]),
        (
            product::Filter {
                sort: product::Sort::FirstUpdated,
                after: Some((at(7), sku("b2"))),
                updated_from: Some(at(7)),
                ..all.clone()
            },
            &["c3", "a1"],
        ),
        (
            product::Filter {
                sort: product::Sort::LastSku,
                after: Some((at(7), sku("b2"))),
                words: words("e"),
                ..all.clone()
            },
            &["a1"],
        ),
    ] {
        let found = store.products(&filter).await.unwrap();
        let found: Vec<&str> = found.iter().map(|row| row.value.sku.as_str()).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}

async fn keys_and_secrets(store: &Store) {
    let scopes = vec!["admin".to_owned(), "orders:read".to_owned()];
    let (row, key) = store.create_key("the till", &scopes, at(5)).await.unwrap();
    let text = key.reveal().to_owned();
    assert!(text.starts_with(&format!("sk_{}_", row.id)));
    assert!(!format!("{key:?}").contains(&text), "a key is not shown by accident");
    assert_eq!(store.find_key(&text).await.unwrap(), Some(row.clone()));
    let mut other = text.clone();
    let last = if other.pop() == Some('0') { '1' } else { '0' };
    other.push(last);
    for wrong in ["", "sk_", "sk_a_b", &other, &text[..text.len() - 1], &text.replace("sk", "pk")] {
        assert_eq!(store.find_key(wrong).await.unwrap(), None, "{wrong}");
    }
    assert_eq!(store.keys().await.unwrap(), std::slice::from_ref(&row));
    for odd in ["sk_\u{0}123456789abcde_", "a\u{0}"] {
        let text = format!("{odd}{}", &text["sk_".len() + row.id.len() + 1..]);
        assert_eq!(store.find_key(&text).await.unwrap(), None);
        assert_eq!(store.order(odd).await.unwrap(), None);
    }
    assert!(store.revoke_key(&row.id, at(9)).await.unwrap());
    assert!(!store.revoke_key(&row.id, at(9)).await.unwrap());
    assert_eq!(store.find_key(&text).await.unwrap(), None);
    assert_eq!(store.keys().await.unwrap()[0].revoked_at, Some(at(9)));
    for bad in [vec![], vec!["a b".to_owned()], vec!["x".to_owned(); 21]] {
        let refused = store.create_key("till", &bad, at(5)).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{bad:?}");
    }

    let (one, two) = tokio::join!(store.secret("cursor"), store.secret("cursor"));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_ne!(store.secret("cursor").await.unwrap(), store.secret("cookie").await.unwrap());
    assert_eq!(store.setting("set_up").await.unwrap(), None);
    store.put_setting("set_up", "no").await.unwrap();
    store.put_setting("set_up", "yes").await.unwrap();
    assert_eq!(store.setting("set_up").await.unwrap().as_deref(), Some("yes"));
}

fn order_row(n: i64, status: &str) -> order::Row {
    order::Row {
        id: format!("ord_{n:04}"),
        status: status.to_owned(),
        payment_status: "authorized".to_owned(),
        fulfillment_status: "unfulfilled".to_owned(),
        email: format!("Buyer{}@Example.com", n % 2),
        email_hash: lookups().email(&format!("buyer{}@example.com", n % 2)),
        country: Some("GB".to_owned()),
        currency: "GBP".to_owned(),
        total: n * 100,
        line_count: 1,
        item_count: 2,
        placed_at: at(n * 1_000),
        updated_at: at(n * 1_000),
        version: 1,
        ..order::Row::default()
    }
}

/// The hashes by which rows are found.
fn lookups() -> LookupKeys {
    LookupKeys::new([9; 32])
}

/// A search for the codes of words.
fn search(words: &str) -> Option<CodedSearch> {
    Search::of(words).map(|search| lookups().search(&search))
}

/// Rows with the texts by which they are found.
fn with_texts(rows: &[order::Row]) -> Batch {
    let mut batch = Batch::of(rows.to_vec());
    for row in rows {
        let number = row.number.map(|number| format!("#{number} {number}"));
        let values = [Some(&row.id), Some(&row.email), row.reference.as_ref(), number.as_ref()];
        let text = search_text(values.into_iter().flatten().map(String::as_str));
        let text = lookups().codes(&text);
        batch.put(SearchRow { id: row.id.clone(), text, version: row.version });
    }
    batch
}

async fn orders(store: &Store) {
    let mut rows: Vec<order::Row> = (1..=6).map(|n| order_row(n, "pending")).collect();
    rows[1].status = "stuck".to_owned();
    rows[1].saga_step = Some("capture".to_owned());
    rows[1].stuck_reason = Some("declined thrice".to_owned());
    rows[2].saga_step = Some("reserve".to_owned());
    rows[3].status = "confirmed".to_owned();
    rows[3].number = Some(1_001);
    rows[4].payment_status = "captured".to_owned();
    rows[4].captured = 500;
    rows[5].reference = Some("PO-7".to_owned());
    rows[5].reference_hash = Some(lookups().reference("PO-7"));
    rows[5].fulfillment_status = "fulfilled".to_owned();
    let orders = with_texts(&rows);
    let batch = ProjectionBatch { rows: Some(&orders), ..ProjectionBatch::default() };
    assert!(commit(store, "orders", &[to(0, 10)], batch).await);
    assert_eq!(store.order("ord_0005").await.unwrap().as_ref(), Some(&rows[4]));
    assert_eq!(store.order("ord_9999").await.unwrap(), None);

    let all = order::Filter { limit: 10, ..Default::default() };
    let text = search;
    let email = |email: &str| vec![lookups().email(email)];
    let statuses = vec!["stuck".to_owned(), "confirmed".to_owned()];
    let two = statuses.clone();
    let page =
        order::Filter { after: Some((at(5_000), "ord_0005".to_owned())), limit: 2, ..all.clone() };
    for (filter, expected) in [
        (all.clone(), &[6, 5, 4, 3, 2, 1][..]),
        (page.clone(), &[4, 3]),
        (order::Filter { status: statuses, ..all.clone() }, &[4, 2]),
        (order::Filter { payment_status: vec!["captured".to_owned()], ..all.clone() }, &[5]),
        (order::Filter { fulfillment_status: vec!["fulfilled".to_owned()], ..all.clone() }, &[6]),
        (order::Filter { email_hash: email("buyer1@example.com"), ..all.clone() }, &[5, 3, 1]),
        (order::Filter { email_hash: email("BUYER1@example.COM"), ..all.clone() }, &[5, 3, 1]),
        (order::Filter { search: text("BUYER1@Ex"), ..all.clone() }, &[5, 3, 1]),
        (order::Filter { number: vec![1_001, 7], ..all.clone() }, &[4]),
        (order::Filter { reference_hash: vec![lookups().reference("PO-7")], ..all.clone() }, &[6]),
        (order::Filter { placed_from: Some(at(5_000)), ..all.clone() }, &[6, 5]),
        (order::Filter { placed_to: Some(at(2_000)), ..all.clone() }, &[1]),
        (order::Filter { search: text("ord_0003"), ..all.clone() }, &[3]),
        (order::Filter { search: text("#1001"), ..all.clone() }, &[4]),
        (order::Filter { search: text("PO-7"), ..all.clone() }, &[6]),
        (order::Filter { search: text(" Buyer1@ "), ..all.clone() }, &[5, 3, 1]),
        (order::Filter { search: text("buyer%"), ..all.clone() }, &[]),
        (order::Filter { search: text("buyer"), limit: 2, ..all.clone() }, &[6, 5]),
        (
            order::Filter { search: text("buyer"), after: page.after.clone(), ..all.clone() },
            &[4, 3, 2, 1],
        ),
        (order::Filter { search: text("buyer"), unfinished: true, ..all.clone() }, &[3, 2]),
        (order::Filter { search: text("buyer1"), status: two.clone(), ..all.clone() }, &[]),
        (order::Filter { search: text("buyer"), status: two, ..all.clone() }, &[4, 2]),
        (order::Filter { unfinished: true, ..all.clone() }, &[3, 2]),
    ] {
        let found = store.orders(&filter).await.unwrap();
        let found: Vec<i64> = found.iter().map(|row| row.total / 100).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
    let counts = store.count_orders().await.unwrap();
    assert_eq!((counts["pending"], counts["stuck"], counts["confirmed"]), (4, 1, 1));

    let mut changed = rows[1].clone();
    changed.status = "cancelled".to_owned();
    changed.saga_step = None;
    changed.version = 2;
    let mut orders = Batch::default();
    orders.put_over(order::Row { email_hash: "another".to_owned(), ..changed.clone() });
    let new = order_row(7, "pending");
    orders.put_over(new.clone());
    let batch = ProjectionBatch { rows: Some(&orders), ..ProjectionBatch::default() };
    assert!(commit(store, "orders", &[to(10, 11)], batch).await);
    let kept = "a stored row keeps its lasting columns, a new one has all";
    for row in [&changed, &new] {
        assert_eq!(store.order(&row.id).await.unwrap().as_ref(), Some(row), "{kept}");
    }
    changed.email_hash = "another".to_owned();
    let orders = Batch::of(vec![changed.clone()]);
    let batch = ProjectionBatch { rows: Some(&orders), ..ProjectionBatch::default() };
    assert!(commit(store, "orders", &[to(11, 11)], batch).await);
    assert_eq!(store.order(&changed.id).await.unwrap(), Some(changed));
    assert_eq!(
        store
            .orders(&order::Filter { unfinished: true, status: vec!["stuck".to_owned()], ..all })
            .await
            .unwrap(),
        []
    );
}

async fn stock_levels(store: &Store) {
    let level = |name: &str, location: &str, on_hand| stock::Row {
        sku: sku(name),
        location: location.to_owned(),
        on_hand,
        reserved: i64::from(name != "b2"),
        allocated: 1,
        incoming: 0,
        sold: 3,
        updated_at: at(if name == "b2" { 2 } else { 1 }),
        version: 4,
    };
    let rows = [
        level("a1", "east", 2),
        level("a1", "west", 9),
        level("b2", "east", 9),
        level("c3", "west", 3),
    ];
    let levels = Batch::of(rows.to_vec());
    let batch = ProjectionBatch { rows: Some(&levels), ..ProjectionBatch::default() };
    assert!(commit(store, "stock", &[to(0, 4)], batch).await);
    assert_eq!(store.stock(&sku("a1")).await.unwrap(), rows[..2]);
    let all = stock::Filter { limit: 10, ..Default::default() };
    let place = |row: &stock::Row| Some(stock::ListPlace::from(row));
    let page = stock::Filter { after: place(&rows[0]), limit: 2, ..all.clone() };
    let by = |sort| stock::Filter { sort, ..all.clone() };
    let east = stock::Filter { location: vec!["east".to_owned()], ..all.clone() };
    let low = stock::Filter { sellable_max: Some(1), ..all.clone() };
    let has = |text: &str| stock::Filter { words: words(text), ..all.clone() };
    let held = stock::Filter { held: Some(true), ..all.clone() };
    let held_later = stock::Filter { held: Some(true), ..page.clone() };
    let behind = stock::Filter { after: place(&rows[3]), ..has("b") };
    for (filter, expected) in [
        (all.clone(), &[0, 1, 2, 3][..]),
        (page, &[1, 2]),
        (east, &[0, 2]),
        (low, &[0, 3]),
        (held, &[0, 1, 3]),
        (held_later, &[1, 3]),
        (stock::Filter { sku: vec![sku("c3"), sku("a1")], ..all.clone() }, &[0, 1, 3]),
        (
            stock::Filter { location: vec!["west".to_owned(), "x".to_owned()], ..all.clone() },
            &[1, 3],
        ),
        (stock::Filter { updated_from: Some(at(2)), ..all.clone() }, &[2]),
        (stock::Filter { updated_to: Some(at(2)), ..has("a") }, &[0, 1]),
        (by(stock::Sort::FirstUpdated), &[0, 1, 3, 2]),
        (by(stock::Sort::LastUpdated), &[2, 3, 1, 0]),
        (stock::Filter { after: place(&rows[2]), ..by(stock::Sort::LastUpdated) }, &[3, 1, 0]),
        (stock::Filter { after: place(&rows[0]), ..by(stock::Sort::FirstUpdated) }, &[1, 3, 2]),
        (stock::Filter { sort: stock::Sort::LastSku, ..all.clone() }, &[3, 2, 1, 0]),
        (
            stock::Filter { sort: stock::Sort::LastSku, after: place(&rows[2]), ..all.clone() },
            &[1, 0],
        ),
        (stock::Filter { sort: stock::Sort::LastSku, ..has("b") }, &[2]),
        (has("a"), &[0, 1]),
        (has("b2"), &[2]),
        (has("B2"), &[2]),
        (has("tasse"), &[0, 1]),
        (has("GRÜNE 1"), &[0, 1]),
        (has("product"), &[2, 3]),
        (has("product a1"), &[]),
        (stock::Filter { held: Some(false), ..all.clone() }, &[2]),
        (stock::Filter { held: Some(true), ..has("b") }, &[]),
        (
            stock::Filter { sku: vec![sku("a1"), sku("b2")], held: Some(true), ..all.clone() },
            &[0, 1],
        ),
        (behind, &[]),
    ] {
        let found = store.stock_levels(&filter).await.unwrap();
        let expected: Vec<_> = expected.iter().map(|at| rows[*at].clone()).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}

/// Writes a batch of one projection.
async fn commit(
    store: &Store,
    projection: &str,
    cursors: &[Cursor],
    batch: ProjectionBatch<'_>,
) -> bool {
    store.commit_projections(&[ProjectionBatch { projection, cursors, ..batch }]).await.unwrap()
}

async fn projections(store: &Store) {
    let letter = |pos| DeadLetter {
        id: 0,
        projection: "orders".to_owned(),
        shard: 0,
        pos,
        entity: EntityId::new("ord_0001"),
        reason: "unknown kind".to_owned(),
        at: at(3),
    };
    let dead = [letter(12), letter(13)];
    let batch = ProjectionBatch { dead: &dead, ..ProjectionBatch::default() };
    assert!(commit(store, "orders", &[to(11, 20)], batch).await);
    assert_eq!(store.cursor("orders", 0).await.unwrap(), 20);
    let rows = [order_row(99, "pending")];
    let other = Cursor { shard: 1, after: 0, pos: 7 };
    for elsewhere in [0, 19, 21] {
        let orders = Batch::of(rows.to_vec());
        let batch = ProjectionBatch { rows: Some(&orders), ..ProjectionBatch::default() };
        let cursors = [other, to(elsewhere, 22)];
        assert!(!commit(store, "orders", &cursors, batch).await, "{elsewhere}");
    }
    assert_eq!(store.order("ord_0099").await.unwrap(), None, "such a batch writes nothing");
    assert_eq!(store.cursors("orders").await.unwrap(), [(0, 20)], "and moves no cursor");
    let cursors = [other, to(20, 20)];
    assert!(commit(store, "orders", &cursors, ProjectionBatch::default()).await);
    assert_eq!(store.cursors("orders").await.unwrap(), [(0, 20), (1, 7)]);
    let (found, at) = store.orders_at(&order::Filter::default(), "orders").await.unwrap();
    assert_eq!((found.len(), at), (0, vec![(0, 20), (1, 7)]));
    let (_, at) = store.stock_levels_at(&stock::Filter::default(), "stock").await.unwrap();
    assert_eq!(at, [(0, 4)]);
    let letters = store.dead_letters(0, 10).await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.pos).collect::<Vec<_>>(), [12, 13]);
    assert_eq!(store.dead_letters(letters[0].id, 10).await.unwrap(), letters[1..]);
    assert!(store.delete_dead_letter(letters[0].id).await.unwrap());
    assert!(!store.delete_dead_letter(letters[0].id).await.unwrap());
    assert_eq!(store.dead_letter(letters[0].id).await.unwrap(), None);
    assert_eq!(store.dead_letter(letters[1].id).await.unwrap().as_ref(), Some(&letters[1]));
    let entities = [EntityId::new("ord_0002"), EntityId::new("ord_0001")];
    assert_eq!(store.parked("orders", &entities).await.unwrap(), entities[1..]);
    assert_eq!(store.parked("stock", &entities).await.unwrap(), []);
    let batch = ProjectionBatch { healed: &entities, ..ProjectionBatch::default() };
    assert!(commit(store, "stock", &[to(4, 4)], batch).await);
    assert_eq!(store.parked("orders", &entities).await.unwrap(), entities[1..], "not its own");
    assert!(commit(store, "orders", &[to(20, 20)], batch).await);
    assert_eq!(store.dead_letters(0, 10).await.unwrap(), []);
    let batch = ProjectionBatch { dead: &dead, ..ProjectionBatch::default() };
    assert!(commit(store, "orders", &[to(20, 20)], batch).await);
    store.reset_projection("orders").await.unwrap();
    assert_eq!(store.cursor("orders", 0).await.unwrap(), 0);
    assert_eq!(store.cursor("stock", 0).await.unwrap(), 4, "the others stay");
    assert_eq!(store.dead_letters(0, 10).await.unwrap(), []);
    batches_of_two_projections_are_written_together(store).await;
    let none = commit(store, "orders", &[to(20, 30)], ProjectionBatch::default()).await;
    assert!(!none, "whoever knew the old cursor begins again");
    assert!(commit(store, "orders", &[to(0, 30)], ProjectionBatch::default()).await);
}

async fn batches_of_two_projections_are_written_together(store: &Store) {
    let (of_orders, of_stock) = ([to(0, 9)], [to(4, 9)]);
    let orders =
        ProjectionBatch { projection: "orders", cursors: &of_orders, ..ProjectionBatch::default() };
    let stale =
        ProjectionBatch { projection: "stock", cursors: &[to(5, 9)], ..ProjectionBatch::default() };
    let stock = ProjectionBatch { cursors: &of_stock, ..stale };
    assert!(!store.commit_projections(&[orders, stale]).await.unwrap());
    let there = async |name| store.cursor(name, 0).await.unwrap();
    assert_eq!((there("orders").await, there("stock").await), (0, 4), "neither has moved");
    assert!(store.commit_projections(&[orders, stock]).await.unwrap());
    assert_eq!((there("orders").await, there("stock").await), (9, 9));
    store.reset_projection("orders").await.unwrap();
}

async fn webhooks(store: &Store) {
    let parked = |notice: &str, due| Parked {
        provider: "sandbox".to_owned(),
        notice_id: notice.to_owned(),
        received_at: at(1),
        body: r#"{"event":"captured"}"#.to_owned(),
        reason: "no such attempt".to_owned(),
        next_try_at: at(due),
    };
    assert!(store.park_webhook(&parked("n1", 20)).await.unwrap());
    assert!(store.park_webhook(&parked("n2", 10)).await.unwrap());
    assert!(!store.park_webhook(&parked("n1", 99)).await.unwrap(), "twice is once");
    let elsewhere = Parked { provider: "other".to_owned(), ..parked("n1", 50) };
    assert!(store.park_webhook(&elsewhere).await.unwrap());
    let due = store.due_webhooks(at(20), 10).await.unwrap();
    assert_eq!(due.iter().map(|row| &*row.webhook.notice_id).collect::<Vec<_>>(), ["n2", "n1"]);
    assert!(store.retry_webhook(due[0].id, "still none", at(60)).await.unwrap());
    assert!(store.remove_webhook(due[1].id).await.unwrap());
    assert!(!store.remove_webhook(due[1].id).await.unwrap());
    assert_eq!(store.due_webhooks(at(20), 10).await.unwrap(), []);
    let left = store.parked_webhooks(0, 10).await.unwrap();
    assert_eq!(left.len(), 2);
    let retried = left.iter().find(|row| row.attempts == 1).unwrap();
    assert_eq!((&*retried.webhook.reason, retried.webhook.next_try_at), ("still none", at(60)));
}

#[tokio::test]
async fn a_folder_has_one_server() {
    let (store, dir) = fresh().await;
    let second = Store::open(dir.path(), &Options::default()).await;
    match second {
        Err(error @ OpenError::InUse { pid, .. }) => {
            assert_eq!(pid, Some(std::process::id()));
            assert!(error.to_string().contains("--data"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    store.close().await;
    assert!(store.keys().await.is_err(), "closed is closed");
    assert!(store.put_setting("a", "b").await.is_err());
    open(dir.path()).await.close().await;
}

#[tokio::test]
async fn a_store_is_opened_beside_its_server() {
    let (store, dir) = fresh().await;
    let beside = Store::open_beside(dir.path()).await.unwrap();
    let (row, key) = beside.create_key("cli", &["admin".to_owned()], at(1)).await.unwrap();
    assert_eq!(store.find_key(key.reveal()).await.unwrap(), Some(row));
    beside.close().await;
    store.close().await;
    let alone = Store::open_beside(dir.path()).await.unwrap();
    assert_eq!(alone.keys().await.unwrap().len(), 1);
}

#[tokio::test]
async fn cursors_of_an_older_store_are_kept() {
    let (store, dir) = fresh().await;
    store.close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("kontor.db"));
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for statement in AS_ONE_PROJECTION {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    sqlx::Connection::close(connection).await.unwrap();
    goes_on(&open(dir.path()).await).await;
}

/// A store as it was when orders and stock had one projection.
pub const AS_ONE_PROJECTION: [&str; 3] = [
    "DELETE FROM _sqlx_migrations WHERE version = 11",
    "INSERT INTO projection (name, shard, pos) VALUES ('rows', 0, 7)",
    "INSERT INTO dead_letter (projection, shard, pos, entity, reason, at) \
     VALUES ('rows', 0, 3, 'ord_1', 'x', 1), ('rows', 0, 4, 'sku_a', 'x', 1)",
];

/// Orders and stock go on where their one projection stood.
pub async fn goes_on(store: &Store) {
    for name in ["orders", "stock"] {
        assert_eq!(store.cursors(name).await.unwrap(), [(0, 7)], "{name}");
    }
    let letters = store.dead_letters(0, 10).await.unwrap();
    let of: Vec<_> = letters.iter().map(|one| (&*one.projection, one.entity.as_str())).collect();
    assert_eq!(of, [("orders", "ord_1"), ("stock", "sku_a")]);
}

#[tokio::test]
async fn older_store_is_migrated_only_on_request() {
    let (store, dir) = fresh().await;
    store.close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("kontor.db"));
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for statement in [
        "DELETE FROM _sqlx_migrations WHERE version >= 3",
        "DROP INDEX product_by_update",
        "DROP TABLE runtime_setting",
        "DROP TABLE node",
        "ALTER TABLE shard DROP COLUMN pinned_to",
        "DROP TABLE personal_key",
        "DROP TABLE erasure",
        "DROP TABLE session",
        "DROP TABLE sign_in_link",
        "DROP TABLE live_ticket",
        "DROP TABLE projection",
        "DROP TABLE dead_letter",
        "DROP TABLE order_search",
        "DROP TABLE order_search_todo",
        "DROP TABLE order_search_index",
        "DROP TABLE order_row",
        "DROP TABLE stock_row",
        "DROP TABLE location",
        "DROP TABLE job",
        "DROP TABLE job_part",
        "DROP TABLE signed_head",
        "DROP TABLE schedule",
        "ALTER TABLE product DROP COLUMN restock_at",
        "ALTER TABLE event DROP COLUMN digest",
        "ALTER TABLE shard DROP COLUMN head",
        "ALTER TABLE event DROP COLUMN sum",
        "ALTER TABLE snapshot DROP COLUMN sum",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    for _ in 0..2 {
        let beside = Store::open_beside(dir.path()).await;
        assert!(matches!(beside, Err(OpenError::Older { found: 2, .. })), "{beside:?}");
    }
    let newest = "SELECT max(version) FROM _sqlx_migrations";
    let newest: i64 = sqlx::query_scalar(newest).fetch_one(&mut connection).await.unwrap();
    assert_eq!(newest, 2);
    sqlx::Connection::close(connection).await.unwrap();
    Store::open_beside_up_to_date(dir.path(), Default::default()).await.unwrap().close().await;
    Store::open_beside(dir.path()).await.unwrap().close().await;
}

#[tokio::test]
async fn foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Store::open_beside(&dir.path().join("nowhere")).await;
    assert!(matches!(missing, Err(OpenError::Missing(_))), "{missing:?}");
    let empty = Store::open_beside(dir.path()).await;
    assert!(matches!(empty, Err(OpenError::Missing(_))), "{empty:?}");

    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let no_dir = Store::open(&file, &Options::default()).await;
    assert!(matches!(no_dir, Err(OpenError::NotADirectory(_))), "{no_dir:?}");

    let broken = dir.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(
        broken.join("kontor.db"),
        "not a database, but long enough to be one".repeat(99),
    )
    .unwrap();
    let corrupt = Store::open(&broken, &Options::default()).await;
    assert!(matches!(corrupt, Err(OpenError::Corrupt(_))), "{corrupt:?}");
    let target = dir.path().join("target");
    for bad in [broken.join("kontor.db"), file] {
        let refused = restore(&bad, &target, &[], Timestamp::default()).await;
        assert!(matches!(refused, Err(OpenError::Corrupt(_))), "{refused:?}");
    }
    assert!(!target.exists());
}

#[tokio::test]
async fn a_newer_store_is_left_alone() {
    let (store, dir) = fresh().await;
    store.close().await;
    let path = dir.path().join("kontor.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', true, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    for opened in
        [Store::open(dir.path(), &Options::default()).await, Store::open_beside(dir.path()).await]
    {
        assert!(matches!(opened, Err(OpenError::Newer { found: 9999, .. })), "{opened:?}");
    }
}
