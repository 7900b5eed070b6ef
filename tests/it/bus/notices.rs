//! Notices between nodes, on the twin and on NATS.

use futures_util::StreamExt as _;
use kontor::bus::local::Board;
use kontor::bus::{Notice, Notices};
use kontor::domain::cluster_key::ClusterKey;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, nats, now, until};

fn key() -> ClusterKey {
    ClusterKey::new([9; 32])
}

async fn next(heard: &mut Receiver<Notice>) -> Notice {
    tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap().unwrap()
}

/// All others hear a notice, and whoever told it does not.
async fn suite(a: Notices, b: Notices) {
    let (mut by_a, mut by_b) = (a.listen(), b.listen());
    // Whether both listen by now is not known: they are asked until they answer.
    until("b hears", async || {
        a.tell(Notice::Shards);
        by_b.try_recv().is_ok()
    })
    .await;
    until("a hears", async || {
        b.tell(Notice::Shards);
        by_a.try_recv().is_ok()
    })
    .await;
    let keys = vec!["product:*".to_owned()];
    a.tell(Notice::CacheDrop { keys: keys.clone() });
    a.tell(Notice::Settings);
    while next(&mut by_b).await != (Notice::CacheDrop { keys: keys.clone() }) {}
    assert_eq!(next(&mut by_b).await, Notice::Settings);
    b.tell(Notice::Settings);
    let mut heard = next(&mut by_a).await;
    while heard != Notice::Settings {
        assert_eq!(heard, Notice::Shards, "a heard itself");
        heard = next(&mut by_a).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_in_one_process() {
    let (board, stop) = (Board::default(), CancellationToken::new());
    let notices = |node| Notices::local(&board, key(), node, now(), stop.clone());
    suite(notices("a"), notices("b")).await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_by_nats_report_missed_ones() {
    let stop = CancellationToken::new();
    let mut server = nats::Server::start();
    let (a, b) = (server.connect("a").await, server.connect("b").await);
    let notices = |nats, node| Notices::new(Some(nats), key(), node, now(), stop.clone());
    let (a, b) = (notices(a, "a"), notices(b.clone(), "b"));
    suite(a.clone(), b.clone()).await;
    let mut by_b = b.listen();
    server.kill();
    server.resume();
    while next(&mut by_b).await != Notice::Missed {}
    until("b hears again", async || {
        a.tell(Notice::Settings);
        matches!(by_b.try_recv(), Ok(Notice::Settings))
    })
    .await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_or_old_notice_is_ignored() {
    let (stop, server) = (CancellationToken::new(), nats::Server::start());
    let notices = async |node: &str, key, now| {
        Notices::new(Some(server.connect(node).await), key, node, now, stop.clone())
    };
    let listener = notices("b", key(), now()).await;
    let forger = notices("x", ClusterKey::new([8; 32]), now()).await;
    let old: kontor::bus::Now =
        std::sync::Arc::new(|| kontor::domain::time::Timestamp::from_millis(1));
    let late = notices("y", key(), old).await;
    let honest = notices("a", key(), now()).await;
    let mut heard = listener.listen();
    until("b hears", async || {
        for other in [&forger, &late] {
            other.tell(Notice::Shards);
        }
        honest.tell(Notice::Settings);
        heard.try_recv().is_ok_and(|notice| notice != Notice::Missed)
    })
    .await;
    until("b hears no other", async || {
        for other in [&forger, &late] {
            other.tell(Notice::Shards);
        }
        honest.tell(Notice::CacheDrop { keys: vec!["last".to_owned()] });
        loop {
            match heard.try_recv() {
                Ok(Notice::CacheDrop { .. }) => return true,
                Ok(notice) => assert_ne!(notice, Notice::Shards),
                Err(_) => return false,
            }
        }
    })
    .await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_is_sent_again_is_heard_once() {
    let (stop, server) = (CancellationToken::new(), nats::Server::start());
    let notices = async |node: &str| {
        Notices::new(Some(server.connect(node).await), key(), node, now(), stop.clone())
    };
    let (a, b) = (notices("a").await, notices("b").await);
    let (spy, mut overheard) = server.stranger("kontor.notices").await;
    let mut heard = b.listen();
    until("b hears", async || {
        a.tell(Notice::Settings);
        heard.try_recv().is_ok_and(|notice| notice == Notice::Settings)
    })
    .await;
    a.tell(Notice::CacheDrop { keys: vec!["once".to_owned()] });
    let message = loop {
        let message = overheard.next().await.unwrap();
        if message.payload.windows(4).any(|part| part == b"once") {
            break message;
        }
    };
    for _ in 0..3 {
        let headers = message.headers.clone().unwrap();
        spy.publish_with_headers("kontor.notices", headers, message.payload.clone()).await.unwrap();
    }
    spy.flush().await.unwrap();
    let mut times = 0;
    until("b hears the last", async || {
        a.tell(Notice::Shards);
        while let Ok(notice) = heard.try_recv() {
            times += usize::from(matches!(notice, Notice::CacheDrop { .. }));
            if notice == Notice::Shards {
                return true;
            }
        }
        false
    })
    .await;
    assert_eq!(times, 1);
    stop.cancel();
}
