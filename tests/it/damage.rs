//! Files of a store that are cut, empty, something else, or have a flipped bit: it is said which
//! file and what to do, at the start or when it is first read; nothing is made up, nothing panics,
//! and what is not damaged goes on.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use kontor::app::App;
use kontor::config::Config;
use kontor::doctor::{self, Installation, Severity};
use kontor::store::journal::StateSnapshot;
use kontor::store::{OpenError, Options, Store};
use kontor::verify;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;

use crate::process;
use crate::servers::database;
use crate::site::Site;

const PAGE: usize = 4_096;

/// A site with a few orders.
async fn shop() -> (Site, Vec<String>) {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let mut carts = Vec::new();
    for number in 0..6 {
        let cart = site.cart(&[("LAMP", 1)]).await;
        site.checkout(&cart, &format!("key-{number}"), "tok_ok", 30).await.expect(201);
        carts.push(cart);
    }
    for cart in &carts {
        site.until(cart, |order| order["payment_status"] == "captured").await;
    }
    (site, carts)
}

/// Stops the server of a site, and answers its folder.
async fn stopped(site: &mut Site) -> PathBuf {
    site.app.take().unwrap().stop().await;
    site.config.data.dir.clone()
}

fn copy(from: &Path) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let path = dir.path().to_owned();
    (dir, path)
}

/// Why a folder is refused; the words name its file and say what to do.
async fn refused(dir: &Path) -> String {
    match Store::open(dir, &Options::default()).await {
        Err(error @ OpenError::Corrupt(_)) => {
            let words = error.to_string();
            assert!(words.contains("kontor.db") && words.contains("kontor restore"), "{words}");
            words
        }
        other => panic!("{other:?}"),
    }
}

fn flip(file: &Path, at: usize, bit: u32) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(file, bytes).unwrap();
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_empty_gone_or_something_else_is_refused() {
    let (mut site, _) = shop().await;
    // As a kill leaves it, with a log, and as a stop does, without one.
    let (_hot_dir, hot) = copy(&site.config.data.dir);
    assert!(fs::metadata(hot.join("kontor.db-wal")).unwrap().len() > 0);
    let clean = stopped(&mut site).await;
    let words = {
        let (_dir, dir) = copy(&clean);
        let file = fs::OpenOptions::new().write(true).open(dir.join("kontor.db")).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2 / 4_096 * 4_096).unwrap();
        refused(&dir).await
    };
    assert!(words.contains("malformed"), "{words}");
    let (_dir, dir) = copy(&clean);
    fs::write(dir.join("kontor.db"), "").unwrap();
    assert!(refused(&dir).await.contains("empty"));
    let beside = Store::open_beside(&dir).await;
    assert!(matches!(beside, Err(OpenError::Corrupt(_))), "{beside:?}");
    let words = process::serve_fails(&dir);
    assert!(words.contains("kontor.db: the file is empty"), "{words}");

    let (_dir, dir) = copy(&clean);
    let other = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("other.db"));
    let other = other.create_if_missing(true).pragma("user_version", "7");
    let connection = sqlx::ConnectOptions::connect(&other).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    fs::rename(dir.join("other.db"), dir.join("kontor.db")).unwrap();
    assert!(refused(&dir).await.contains("not a kontor store"));
    fs::write(dir.join("kontor.db"), "minutes of a meeting ".repeat(999)).unwrap();
    assert!(refused(&dir).await.contains("not a database"));

    fs::remove_file(hot.join("kontor.db")).unwrap();
    assert!(refused(&hot).await.contains("its log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_file_is_refused_though_its_log_is_there() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    // All of this is in the file, and what follows in the log.
    stopped(&mut site).await;
    site.app = Some(App::start(&site.config).await.unwrap());
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let (_dir, dir) = copy(&site.config.data.dir);
    let file = fs::OpenOptions::new().write(true).open(dir.join("kontor.db")).unwrap();
    file.set_len(2 * 4_096).unwrap();
    refused(&dir).await;
}

/// All events as their rows stand, but for their checksums; `None` if SQLite cannot read them.
async fn rows(dir: &Path) -> Option<Vec<Vec<u8>>> {
    let file = dir.join("kontor.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file).read_only(true);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let text = "SELECT CAST(pos || '|' || quote(entity) || quote(seq) || quote(kind) || \
                quote(version) || quote(at) || quote(cause) || quote(data) AS BLOB) \
                FROM event ORDER BY pos";
    let rows = sqlx::query_scalar(text).fetch_all(&mut connection).await.ok();
    sqlx::Connection::close(connection).await.unwrap();
    rows
}

/// Flips a bit of a store in a copy: if that changes an event, verify and doctor must find it.
/// Returns whether it did.
async fn flip_is_found(clean: &Path, whole: Option<&Vec<Vec<u8>>>, at: usize, bit: u32) -> bool {
    let (_dir, dir) = copy(clean);
    flip(&dir.join("kontor.db"), at, bit);
    if rows(&dir).await.as_ref() == whole {
        return false;
    }
    let store = Store::open_beside(&dir).await.unwrap();
    let holds = verify::verify(&store, None, |_| {}).await.is_ok_and(|report| report.ok);
    store.close().await;
    assert!(!holds, "verify did not see bit {bit} of byte {at}");
    let installation = Installation { data: dir, ..Installation::default() };
    let found = doctor::examine(&installation).await;
    let told = |one: &&doctor::Finding| ["events", "file"].contains(&one.check);
    assert!(found.iter().filter(told).any(|one| one.level == Severity::Bad), "{bit} of {at}");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_bit_of_an_event_is_found() {
    let (mut site, _) = shop().await;
    let clean = stopped(&mut site).await;
    let whole = rows(&clean).await;
    let bytes = fs::read(clean.join("kontor.db")).unwrap();
    // Leaves of tables (13) with what all events have. What is flipped in them may also be of no
    // row: the rest of one that moved.
    let leaf = |page: &[u8]| page[0] == 13 && find(page, b"\"by\":\"").is_some();
    let pages: Vec<usize> = (0..bytes.len() / PAGE)
        .filter(|number| leaf(&bytes[number * PAGE..(number + 1) * PAGE]))
        .collect();
    let mut chance = SmallRng::seed_from_u64(11);
    let mut seen = 0;
    while seen < 40 {
        let at = pages[chance.random_range(0..pages.len())] * PAGE + chance.random_range(0..PAGE);
        let bit = chance.random_range(0..8);
        seen += usize::from(flip_is_found(&clean, whole.as_ref(), at, bit).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_bit_of_the_types_and_lengths_of_an_event_is_found() {
    let (mut site, carts) = shop().await;
    let clean = stopped(&mut site).await;
    let whole = rows(&clean).await;
    let bytes = fs::read(clean.join("kontor.db")).unwrap();
    // A row begins with the types and lengths of its columns. The numbers 0 and 1 have no bytes of
    // their own, so the entity comes first, and the kind of its first event comes after it. The
    // same may stand in what is left of a row that moved.
    let first = format!("{}created", carts[0]);
    let rows = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(first.as_bytes()));
    let mut seen = 0;
    for at in rows.flat_map(|values| values - 12..values) {
        for bit in 0..8 {
            seen += usize::from(flip_is_found(&clean, whole.as_ref(), at, bit).await);
        }
    }
    assert!(seen > 40, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_event_stops_its_order_and_nothing_else() {
    let (mut site, carts) = shop().await;
    let dir = stopped(&mut site).await;
    let file = dir.join("kontor.db");
    let order = carts[2].replace("cart_", "ord_");
    let bytes = fs::read(&file).unwrap();
    let store = Store::open_beside(&dir).await.unwrap();
    let entity = kontor::domain::entity::EntityId::new(&order);
    let records = store.journal().read_entity(&entity, 0, 100).await.unwrap();
    store.close().await;
    // An amount that stays a number: nothing but the checksum can tell.
    let captured = records.iter().find(|record| &*record.kind == "captured").unwrap();
    let at = find(&bytes, captured.data.as_bytes()).unwrap();
    let digit = captured.data.find("1000").unwrap();
    flip(&file, at + digit, 1);
    site.app = Some(App::start(&site.config).await.unwrap());
    let lost = site.admin(Method::GET, &format!("/orders/{order}"), None).await;
    assert_eq!((lost.status, lost.code()), (423, "quarantined"), "{:#}", lost.body);
    assert!(!lost.body.to_string().contains("checksum"), "nothing internal: {:#}", lost.body);
    let listed = site.admin(Method::GET, "/cluster", None).await.expect(200);
    let why = listed["here"]["quarantine"][0]["reason"].as_str().unwrap();
    assert!(why.contains("checksum"), "{why}");
    assert_eq!(site.order(&carts[1]).await["captured"]["amount"], 1_000);
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.checkout(&cart, "key-after", "tok_ok", 30).await.expect(201);
    let again = site.checkout(&carts[2], "key-2", "tok_ok", 30).await;
    assert_eq!(again.status, 423, "{:#}", again.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_snapshot_is_ignored() {
    let mut site = Site::with(|config| config.entities.snapshot_every = 5).await;
    site.sell("LAMP", 1_000, 99).await;
    for _ in 0..60 {
        let receipt = serde_json::json!({"quantity": 1});
        let path = "/stock/LAMP/main/receipts";
        site.admin(Method::POST, path, Some(receipt)).await.expect(200);
    }
    let store = site.app.as_ref().unwrap().node.store.journal();
    let entity = kontor::domain::entity::EntityId::new("sku_LAMP");
    site.until_some(async || store.snapshot(&entity).await.unwrap()).await;
    let dir = stopped(&mut site).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("kontor.db"));
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let text = "UPDATE snapshot SET data = replace(data, 'on_hand\":1', 'on_hand\":9')";
    let done = sqlx::query(text).execute(&mut connection).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    sqlx::Connection::close(connection).await.unwrap();
    site.app = Some(App::start(&site.config).await.unwrap());
    assert_eq!(site.level("LAMP").await["on_hand"], 159);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_no_server_has_sealed_is_ignored_and_named() {
    let database = database();
    for url in [None, Some(database.as_str())] {
        let mut site = Site::with(|config| {
            config.entities.snapshot_every = 5;
            config.store.url = url.unwrap_or_default().into();
        })
        .await;
        site.sell("LAMP", 1_000, 99).await;
        for _ in 0..60 {
            let receipt = serde_json::json!({"quantity": 1});
            let path = "/stock/LAMP/main/receipts";
            site.admin(Method::POST, path, Some(receipt)).await.expect(200);
        }
        let store = site.app.as_ref().unwrap().store.clone();
        let entity = kontor::domain::entity::EntityId::new("sku_LAMP");
        let kept = async || store.journal().snapshot(&entity).await.unwrap();
        let snapshot = site.until_some(kept).await;
        assert!(verify::verify(&store, None, |_| {}).await.unwrap().checked.snapshots > 0);
        drop(store);
        let dir = stopped(&mut site).await;
        // As whoever writes to the database would: the data, and a checksum that fits to it.
        let forge = |row: &StateSnapshot| {
            let data = row.data.replace("on_hand\":1", "on_hand\":9");
            assert_ne!(data, row.data);
            let mut sum = crc32fast::Hasher::new();
            sum.update(&row.seq.to_le_bytes());
            sum.update(&row.state_version.to_le_bytes());
            sum.update(row.entity.as_str().as_bytes());
            sum.update(data.as_bytes());
            (data, i64::from(sum.finalize()))
        };
        let text = "UPDATE snapshot SET data = $1, sum = $2, seq = $3 WHERE entity = 'sku_LAMP'";
        let (data, sum) = forge(&snapshot);
        let done = if let Some(url) = url {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            let query = sqlx::query(text).bind(data).bind(sum).bind(snapshot.seq);
            query.execute(&mut connection).await.unwrap().rows_affected()
        } else {
            let file = dir.join("kontor.db");
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
            let mut connection = options.connect().await.unwrap();
            let query = sqlx::query(text).bind(data).bind(sum).bind(snapshot.seq);
            let done = query.execute(&mut connection).await.unwrap().rows_affected();
            connection.close().await.unwrap();
            done
        };
        assert_eq!(done, 1);
        site.app = Some(App::start(&site.config).await.unwrap());
        let store = site.app.as_ref().unwrap().store.clone();
        let report = verify::verify(&store, None, |_| {}).await.unwrap();
        let named = report.violations.iter().any(|found| {
            found.invariant == verify::Invariant::I6
                && found.entity == "sku_LAMP"
                && found.message.contains("its snapshot at event")
        });
        assert!(named, "{report}");
        assert_eq!(store.journal().snapshot(&entity).await.unwrap(), None);
        assert_eq!(site.level("LAMP").await["on_hand"], 159);
    }
}

/// Where the cells of a leaf of an index are: between them is what was there once.
fn cells(page: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let number = |at: usize| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
    (0..number(3)).map(move |nth| {
        let start = number(8 + 2 * nth);
        // A length below 16,384, of one byte or two.
        let (first, second) = (usize::from(page[start]), usize::from(page[start + 1]));
        let (size, length) =
            if first < 128 { (1, first) } else { (2, (first - 128) * 128 + second) };
        start..(start + size + length).min(page.len())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_found_by_the_doctor() {
    let (mut site, carts) = shop().await;
    let dir = stopped(&mut site).await;
    let file = dir.join("kontor.db");
    let order = carts[2].replace("cart_", "ord_");
    // No page of it is free then, with what was in it once.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql("VACUUM").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let bytes = fs::read(&file).unwrap();
    // A leaf of an index (10), and in a cell of it the entity's name.
    let pages = bytes.chunks(PAGE).enumerate().filter(|(_, page)| page[0] == 10);
    let places = pages.filter_map(|(number, page)| {
        let cell =
            cells(page).find(|cell| find(&page[cell.clone()], order.as_bytes()).is_some())?;
        Some(number * PAGE + cell.start + find(&page[cell], order.as_bytes())?)
    });
    let places: Vec<usize> = places.collect();
    assert!(!places.is_empty());
    for place in places {
        let (_dir, dir) = copy(&dir);
        flip(&dir.join("kontor.db"), place + 8, 2);
        let installation = Installation { data: dir, ..Installation::default() };
        let found = doctor::examine(&installation).await;
        let bad = |one: &&doctor::Finding| one.check == "file" && one.level == Severity::Bad;
        assert!(found.iter().any(|one| bad(&one)), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_damaged_in_its_middle_is_copied_and_reported() {
    let (site, _) = shop().await;
    let (_whole_dir, whole) = copy(&site.config.data.dir);
    for (at, damaged) in [(None, false), (Some(0.4), true), (Some(0.999), false)] {
        let (_dir, dir) = copy(&whole);
        let log = dir.join("kontor.db-wal");
        if let Some(at) = at {
            let frames = (fs::metadata(&log).unwrap().len() as usize - 32) / (24 + PAGE);
            let frame = (frames as f64 * at) as usize;
            flip(&log, 32 + frame * (24 + PAGE) + 24 + 1_000, 3);
        }
        let before = fs::read(&log).unwrap();
        let store = Store::open(&dir, &Options::default()).await.unwrap();
        store.close().await;
        let copies: Vec<PathBuf> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(".damaged-"))
            .collect();
        assert_eq!(copies.len(), usize::from(damaged), "{at:?}");
        let installation = Installation { data: dir, ..Installation::default() };
        let found = doctor::examine(&installation).await;
        assert_eq!(found.iter().any(|one| one.check == "log"), damaged, "{found:?}");
        for copy in copies {
            assert!(fs::read(copy).unwrap() == before);
        }
    }
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_refused_by_another_process() {
    let site = Site::open().await;
    let Config { data, .. } = &site.config;
    let words = process::serve_fails(&data.dir);
    assert!(words.contains(&format!("in use by process {}", std::process::id())), "{words}");
    assert!(words.contains("--data"), "{words}");
    site.verify().await;
}
