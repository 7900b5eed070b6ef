//! A changed history is found, in both databases: by the digests of the events, whatever else of them
//! was made to fit.

use kontor::app::App;
use kontor::domain::entity::{EntityId, Record};
use kontor::store::Store;
use kontor::store::journal::{Digest, Head};
use kontor::store::signed_head::{SignedHead, SignedRound};
use kontor::verify::heads::SignedHeads;
use kontor::verify::report::KeptHeads;
use kontor::verify::{Books, Invariant, VerifyReport, verify, verify_with};
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::journal::{Fixture, append, at};
use crate::process;
use crate::site::Site;

/// Ten events of three entities, whose journal anyone may change.
async fn fixtures() -> Vec<Fixture> {
    let mut all = Vec::new();
    for (fixture, guards) in [
        (Fixture::sqlite().await, "DROP TRIGGER event_is_never_deleted"),
        (Fixture::postgres().await, "ALTER TABLE event DISABLE TRIGGER USER"),
    ] {
        for (entity, after, count) in
            [("cart_a", 0, 3), ("cart_b", 0, 2), ("cart_a", 3, 1), ("cart_c", 0, 4)]
        {
            fixture.append(&[append(entity, after, count)]).await.unwrap();
        }
        fixture.sql(guards).await;
        if guards.starts_with("DROP") {
            fixture.sql("DROP TRIGGER event_is_never_changed").await;
        }
        all.push(fixture);
    }
    all
}

/// What `verify` says of the history.
async fn said(store: &Store) -> String {
    of_history(&verify(store, None, |_| {}).await.unwrap())
}

/// What `verify` says of the history, with these signed heads too, and how many of all it could not
/// compare.
async fn said_with(store: &Store, head: &SignedHead, ended: &[String]) -> (String, u64) {
    let kept = SignedHeads {
        kept: Some(vec![head.clone()]),
        ended: ended.to_vec(),
        ..SignedHeads::default()
    };
    let books = Books::standard().with_heads(kept);
    let report = verify_with(books, store, None, |_| {}).await.unwrap();
    (of_history(&report), report.checked.signed_heads_not_compared)
}

fn of_history(report: &VerifyReport) -> String {
    let said = report.violations.iter().filter(|found| found.invariant == Invariant::I8);
    said.map(|found| found.message.clone()).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn every_change_of_the_history_is_named() {
    // Positions 5 and 6 are of different entities, and 11 is free.
    let swap = |from: i64, to: i64| format!("UPDATE event SET pos = {to} WHERE pos = {from}");
    let of_5 = "at position 5 (";
    let ways: [(&str, Vec<String>, &str); 10] = [
        ("nothing", vec![], ""),
        ("data", vec!["UPDATE event SET data = '7' WHERE pos = 5".into()], of_5),
        ("a time", vec!["UPDATE event SET at = at + 1 WHERE pos = 5".into()], of_5),
        ("a sum too", vec!["UPDATE event SET cause = '{}', sum = NULL WHERE pos = 5".into()], of_5),
        ("a digest", vec!["UPDATE event SET digest = (SELECT head FROM shard) WHERE pos = 5".into()], of_5),
        ("swapped", vec![swap(5, 99), swap(6, 5), swap(99, 6)], of_5),
        ("removed", vec!["DELETE FROM event WHERE pos = 5".into()], "positions 5 to 5 are missing"),
        (
            "removed, with the gap closed",
            vec![
                "DELETE FROM event WHERE pos = 5".into(),
                "UPDATE event SET pos = pos + 99 WHERE pos > 5".into(),
                "UPDATE event SET pos = pos - 100 WHERE pos > 5".into(),
                "UPDATE shard SET last_pos = 9".into(),
            ],
            of_5,
        ),
        (
            "inserted",
            vec![
                "INSERT INTO event (shard, pos, entity, seq, kind, version, at, cause, data, digest) \
                 SELECT shard, 11, 'cart_d', 1, kind, version, at, cause, data, digest FROM event \
                 WHERE pos = 10"
                    .into(),
                "UPDATE shard SET last_pos = 11".into(),
            ],
            "at position 11 (",
        ),
        (
            "the end is cut",
            vec![
                "DELETE FROM event WHERE pos > 8".into(),
                "UPDATE shard SET last_pos = 8".into(),
            ],
            "ends at position 8",
        ),
    ];
    for (name, statements, words) in &ways {
        for fixture in fixtures().await {
            for statement in statements {
                fixture.sql(statement).await;
            }
            let said = said(fixture.store()).await;
            assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{name}: {said}");
        }
    }
}

#[tokio::test]
async fn an_event_without_a_digest_is_refused() {
    for fixture in fixtures().await {
        let before = fixture.all().await;
        for value in ["NULL", "''"] {
            let text = format!("UPDATE event SET digest = {value} WHERE pos = 5");
            assert!(fixture.try_sql(&text).await.is_err(), "{value}");
        }
        assert_eq!(fixture.all().await, before);
    }
}

#[tokio::test]
async fn digests_continue_across_batches_refusals_and_stale_ends() {
    for fixture in fixtures().await {
        fixture.append(&[append("cart_a", 1, 1)]).await.unwrap_err();
        fixture.append(&[append("cart_c", 4, 2), append("cart_a", 4, 1)]).await.unwrap();
        // Another process has appended: this one does not know the end of the chain.
        let end = computed(&fixture.all().await);
        assert_eq!(fixture.store().shards().await.unwrap()[0].head, Some(end.digest));
        let mut next = fixture.all().await[0].clone();
        (next.pos, next.entity, next.seq) = (end.pos + 1, EntityId::new("cart_z"), 1);
        let digest = end.digest.next(&next);
        let hex = match fixture.is_shared() {
            true => format!("'\\x{digest}'"),
            false => format!("x'{digest}'"),
        };
        let text = format!(
            "INSERT INTO event (shard, pos, entity, seq, kind, version, at, cause, data, digest) \
             SELECT shard, {}, 'cart_z', 1, kind, version, at, cause, data, {hex} FROM event \
             WHERE pos = 1",
            next.pos
        );
        fixture.sql(&text).await;
        fixture.sql(&format!("UPDATE shard SET last_pos = {}, head = {hex}", next.pos)).await;
        fixture.append(&[append("cart_z", 1, 1)]).await.unwrap();
        assert_eq!(said(fixture.store()).await, "");
        assert_eq!(fixture.all().await.len(), 15);
    }
}

/// Writes the digests of all events anew, as they are now, and the end of the shard.
async fn compute_anew(fixture: &Fixture) {
    let mut head = Head::FIRST;
    let hex = |digest: Digest| match fixture.is_shared() {
        true => format!("'\\x{digest}'"),
        false => format!("x'{digest}'"),
    };
    for event in fixture.all().await {
        let digest = hex(head.add(&event));
        let pos = event.pos;
        fixture.sql(&format!("UPDATE event SET digest = {digest} WHERE pos = {pos}")).await;
    }
    let (pos, digest) = (head.pos, hex(head.digest));
    fixture.sql(&format!("UPDATE shard SET last_pos = {pos}, head = {digest}")).await;
}

#[tokio::test]
async fn a_history_whose_digests_were_computed_anew_differs_from_its_signed_head() {
    let changes = [
        ("UPDATE event SET at = at + 1 WHERE pos = 5", "up to position 10 is not the one"),
        ("DELETE FROM event WHERE pos > 8", "at positions 9 to 10 were removed"),
    ];
    for (change, words) in changes {
        for fixture in fixtures().await {
            let store = fixture.store();
            let node = store.shards().await.unwrap()[0].owner.clone();
            let round = store.sign_heads(&node, at(1)).await.unwrap();
            assert_eq!((round.signed.len(), round.broken.len()), (1, 0));
            assert_eq!(store.sign_heads(&node, at(2)).await.unwrap(), SignedRound::default());
            assert_eq!(verify(store, None, |_| {}).await.unwrap().checked.signed_heads, 1);
            fixture.sql(change).await;
            compute_anew(&fixture).await;
            let found = said(store).await;
            assert!(found.contains(words), "{change}: {found}");
            // The server notices it, and does not sign it.
            let round = store.sign_heads(&node, at(3)).await.unwrap();
            assert_eq!((round.signed.len(), round.broken.len()), (0, 1));

            // Whoever removes the head in the database does not reach those that were kept elsewhere.
            fixture.sql("DELETE FROM signed_head").await;
            assert_eq!(said(store).await, "");
            let (found, _) = said_with(store, &round.broken[0], &[]).await;
            assert!(found.contains(words), "{change}: {found}");
            let forged = SignedHead { history: "another".to_owned(), ..round.broken[0].clone() };
            let (found, _) = said_with(store, &forged, &[]).await;
            assert!(found.contains("wrong signature"), "{change}: {found}");
            // Whoever changes the history could also end it: only the owner can say that they did.
            store.end_history().await.unwrap();
            store.history().await.unwrap();
            let (found, _) = said_with(store, &round.broken[0], &[]).await;
            assert!(
                found.contains(words) && found.contains("--ended-history"),
                "{change}: {found}"
            );
            let ended = [round.broken[0].history.clone()];
            assert_eq!(said_with(store, &round.broken[0], &ended).await, (String::new(), 1));
            fixture.sql("INSERT INTO signed_head (shard, head) VALUES (0, 'no head')").await;
            assert!(said(store).await.contains("a row of signed_head cannot be read"));
        }
    }
}

#[tokio::test]
async fn a_rollback_is_found_among_the_heads_of_a_history_that_was_ended_before() {
    for fixture in fixtures().await {
        let store = fixture.store();
        let node = store.shards().await.unwrap()[0].owner.clone();
        let mut heads = Vec::new();
        let mut sign = async |at_ms| {
            fixture.sql("DELETE FROM signed_head").await;
            heads.append(&mut store.sign_heads(&node, at(at_ms)).await.unwrap().signed);
        };
        // Two heads of a history that a restore ends, then three of the next one.
        for (entity, at_ms) in [("cart_d", 1), ("cart_e", 2), ("cart_f", 3)] {
            sign(at_ms).await;
            fixture.append(&[append(entity, 0, 2)]).await.unwrap();
        }
        let ended = store.history().await.unwrap();
        store.end_history().await.unwrap();
        let current = store.history().await.unwrap();
        for (entity, at_ms) in [("cart_g", 4), ("cart_h", 5), ("cart_i", 6)] {
            sign(at_ms).await;
            fixture.append(&[append(entity, 0, 2)]).await.unwrap();
        }
        // The events behind position 12 are cut off, and nobody in the database contradicts it.
        for statement in [
            "DELETE FROM signed_head",
            "DELETE FROM event WHERE pos > 12",
            "UPDATE shard SET last_pos = 12, head = (SELECT digest FROM event WHERE pos = 12)",
        ] {
            fixture.sql(statement).await;
        }
        let verify = async |ended: &[String]| {
            let kept = Some(heads.clone());
            let given = SignedHeads { kept, ended: ended.to_vec(), ..SignedHeads::default() };
            verify_with(Books::standard().with_heads(given), store, None, |_| {}).await
        };
        let report = verify(&[ended.to_string()]).await.unwrap();
        let said = of_history(&report);
        let all = "positions 13 to 20 were removed: 3 heads were signed after them, the last at";
        assert!(said.contains(all) && !said.contains("--ended-history"), "{said}");
        assert_eq!(report.violations_total[&Invariant::I8], 1);
        let counts = report.checked.kept_heads.unwrap();
        let KeptHeads { given, compared, ended_history, .. } = counts;
        assert_eq!((given, compared, ended_history), (6, 5, 1));
        // The store's own history has not ended, whoever says so.
        let refused = verify(&[ended.to_string(), current.to_string()]).await.unwrap_err();
        assert!(refused.to_string().contains(&current.to_string()), "{refused}");
        let said = of_history(&verify(&[]).await.unwrap());
        assert_eq!(said.matches("--ended-history").count(), 1, "{said}");
        assert!(said.contains(&format!("--ended-history {ended}")), "{said}");
    }
}

/// What `kontor verify` says of a folder with these heads, as text and as JSON, and its exit code.
fn verified(site: &Site, heads: &str) -> (String, Value, Option<i32>) {
    let file = site.config.data.dir.with_extension("kept");
    std::fs::write(&file, heads).unwrap();
    let run = |json: &[&str]| {
        let mut verify = process::kontor();
        verify.args(["verify", "--heads"]).arg(&file).arg("--data").arg(&site.config.data.dir);
        verify.args(json).output().unwrap()
    };
    let (text, json) = (run(&[]), run(&["--json"]));
    assert_eq!(text.status.code(), json.status.code());
    let said = String::from_utf8_lossy(&text.stdout).into_owned();
    (said, serde_json::from_slice(&json.stdout).unwrap(), json.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_cannot_be_compared_prove_nothing_and_damaged_lines_are_named() {
    let mut site = Site::with(|config| {
        config.store.heads.path = config.data.dir.with_extension("heads");
    })
    .await;
    site.sell("LAMP", 1_000, 10).await;
    site.app.take().unwrap().stop().await;
    let head = std::fs::read_to_string(&site.config.store.heads.path).unwrap();
    let head = head.lines().next().unwrap();
    let mut foreign: SignedHead = serde_json::from_str(head).unwrap();
    foreign.key = "ab".repeat(32);
    let foreign = serde_json::to_string(&foreign).unwrap();

    let (said, json, code) = verified(&site, &format!("{foreign}\n{foreign}\n"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("No head proves anything: heads kept elsewhere: 0 of 2"), "{said}");
    let kept = &json["checked"]["kept_heads"];
    assert_eq!((&kept["compared"], &kept["unknown_key"]), (&0.into(), &2.into()), "{kept}");
    let (said, json, code) = verified(&site, "");
    assert_eq!((code, &json["checked"]["kept_heads"]["given"]), (Some(2), &0.into()), "{said}");

    // A line that was cut off when a machine failed, with and without a head glued to it.
    let cut = &head[..40];
    let lines = format!("{head}\n{cut}\n{cut}{head}\n\u{1b}[31m\n{head}\n{foreign}\n{cut}");
    let (said, json, code) = verified(&site, &lines);
    assert_eq!(code, Some(0), "{said}");
    let kept = &json["checked"]["kept_heads"];
    assert_eq!((&kept["given"], &kept["compared"]), (&3.into(), &2.into()), "{kept}");
    let damaged = kept["damaged"].as_array().unwrap();
    for line in [2, 3, 4, 7] {
        let name = format!("line {line}: it is no signed head");
        assert!(said.contains(&name), "{line}: {said}");
        assert!(damaged.iter().any(|one| one.as_str().unwrap().contains(&name)), "{kept}");
    }
    assert!(damaged.len() == 4 && !said.contains('\u{1b}'), "{said:?}");
}

/// Answers one request on this listener with this status; returns its body.
async fn body_of_a_request(listener: &TcpListener, status: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    loop {
        stream.read_buf(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
        });
        if body.len() == length.unwrap() {
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            return body.to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_heads_go_to_a_file_and_to_a_url_and_verify_compares_those_of_the_file() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/heads", listener.local_addr().unwrap());
    let mut site = Site::with(|config| {
        config.store.heads.path = config.data.dir.with_extension("heads");
        config.store.heads.url = url;
        config.store.heads.every_secs = 1;
    })
    .await;
    site.sell("LAMP", 1_000, 10).await;
    let sent: Vec<SignedHead> =
        serde_json::from_str(&body_of_a_request(&listener, "200 OK").await).unwrap();
    drop(listener);
    site.app.take().unwrap().stop().await;
    let file = &site.config.store.heads.path;
    let kept = std::fs::read_to_string(file).unwrap();
    assert_eq!(serde_json::from_str::<SignedHead>(kept.lines().next().unwrap()).unwrap(), sent[0]);
    let mut verify = process::kontor();
    verify.args(["verify", "--json", "--heads"]).arg(file).arg("--data").arg(&site.config.data.dir);
    let report: Value = serde_json::from_slice(&verify.output().unwrap().stdout).unwrap();
    let heads = kept.lines().count() as u64;
    assert_eq!(report["checked"]["signed_heads"], heads + 1, "{report}");
    // Without the master key, the public key must be given.
    std::fs::remove_file(site.config.data.dir.join("master.key")).unwrap();
    for (key, compared) in [(None, 0), (Some(&sent[0].key), heads + 1)] {
        let mut verify = process::kontor();
        verify.args(["verify", "--json", "--heads"]).arg(file);
        verify.arg("--data").arg(&site.config.data.dir);
        verify.args(key.map(|key| format!("--public-key={key}")));
        let report: Value = serde_json::from_slice(&verify.output().unwrap().stdout).unwrap();
        assert_eq!(report["checked"]["signed_heads"], compared, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_could_not_be_sent_or_written_goes_out_later_without_new_events() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/heads", listener.local_addr().unwrap());
    let mut site = Site::with(|config| {
        // The folder of the file is not there yet.
        config.store.heads.path = config.data.dir.with_extension("away").join("heads");
        config.store.heads.url = url;
        config.store.heads.every_secs = 1;
    })
    .await;
    site.sell("LAMP", 1_000, 10).await;
    let last = site.app.as_ref().unwrap().store.shards().await.unwrap()[0].last_pos;
    let refused = loop {
        let body = body_of_a_request(&listener, "500 Oh").await;
        let heads: Vec<SignedHead> = serde_json::from_str(&body).unwrap();
        if heads[0].pos >= last {
            break heads;
        }
    };
    let body = body_of_a_request(&listener, "200 OK").await;
    let sent: Vec<SignedHead> = serde_json::from_str(&body).unwrap();
    assert!(sent[0].pos >= refused[0].pos, "{sent:?}");
    drop(listener);
    let file = site.config.store.heads.path.clone();
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "{\"history\":\"cut").unwrap();
    site.app.take().unwrap().stop().await;
    let kept = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = kept.lines().collect();
    assert_eq!(lines[0], "{\"history\":\"cut", "{kept}");
    let head: SignedHead = serde_json::from_str(lines[1]).unwrap();
    assert!(head.pos >= last, "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_at_a_price_or_tax_that_only_a_changed_row_had_is_named() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    site.sell("CHAIR", 2_000, 10).await;
    let honest = site.cart(&[("LAMP", 1), ("CHAIR", 1)]).await;
    site.checkout(&honest, "honest", "tok_ok", 10).await.expect(201);
    let dir = site.config.data.dir.clone();
    let change = async |text: &'static str| {
        let options = SqliteConnectOptions::new().filename(dir.join("kontor.db"));
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    site.app.take().unwrap().stop().await;
    change(
        "CREATE TABLE kept AS SELECT sku, prices, tax_rate FROM product; \
         UPDATE product SET prices = replace(prices, '10000000', '10000') WHERE sku = 'LAMP'; \
         UPDATE product SET tax_rate = 1 WHERE sku = 'CHAIR'",
    )
    .await;
    site.app = Some(App::start(&site.config).await.unwrap());
    let mut cheap = Vec::new();
    for sku in ["LAMP", "CHAIR"] {
        let cart = site.cart(&[(sku, 1)]).await;
        site.checkout(&cart, sku, "tok_ok", 10).await.expect(201);
        cheap.push(cart.replace("cart_", "ord_"));
    }
    site.app.take().unwrap().stop().await;
    change(
        "UPDATE product SET prices = kept.prices, tax_rate = kept.tax_rate FROM kept \
         WHERE kept.sku = product.sku; DROP TABLE kept",
    )
    .await;
    let store = Store::open_beside(&dir).await.unwrap();
    let report = verify(&store, None, |_| {}).await.unwrap();
    store.close().await;
    assert!(report.violations.iter().all(|one| one.invariant == Invariant::I3), "{report}");
    let mut found: Vec<&str> = report.violations.iter().map(|one| &*one.entity).collect();
    found.sort_unstable();
    cheap.sort();
    assert_eq!(found, cheap, "{report}");
}

/// The end of the chain of these events.
fn computed(events: &[Record]) -> Head {
    let mut head = Head { pos: 0, digest: Digest::FIRST };
    for event in events {
        head.add(event);
    }
    head
}
