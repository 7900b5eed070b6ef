//! Nodes that call each other with TLS, and who is admitted to their internal address.

use std::path::Path;
use std::process::Command;

use kontor::app::App;
use kontor::bus::{CallError, Calls, Options, Peer};
use kontor::config::{Config, ServerProfile};
use kontor::domain::cluster_key::ClusterKey;
use kontor::domain::tls_files::TlsFiles;
use kontor::store::personal::master::MasterKeyText;
use kontor::tls::NodeTls;
use kontor_lab::cluster::servers::free_port;
use reqwest::{Certificate, ClientBuilder, Identity, Method, StatusCode};
use tokio_util::bytes::Bytes;

use super::Authority;
use crate::bus::{PATIENCE, now};
use crate::cache::until;
use crate::process::{Server, key};
use crate::security_events::events;
use crate::servers::database;
use crate::site::Site;

/// A node with TLS that shares a store.
async fn node(store: &str, name: &str, tls: TlsFiles) -> Site {
    Site::with(|config| {
        config.store.url = store.into();
        config.http.internal_listen = "127.0.0.1:0".into();
        config.cluster.node = name.into();
        config.cluster.settle_ms = 0;
        config.cluster.tls = tls;
    })
    .await
}

fn internal(site: &Site) -> String {
    site.app.as_ref().unwrap().internal_url()
}

/// A client that trusts an authority, with the certificate of a node if it has one.
fn client(trusts: &Authority, own: Option<&TlsFiles>) -> reqwest::Client {
    let read = |file: &Path| std::fs::read(file).unwrap();
    let ca = Certificate::from_pem(&read(&trusts.file("ca.pem"))).unwrap();
    let identity = own.map(|own| [read(&own.cert), read(&own.key)].concat());
    let with =
        |client: ClientBuilder, pem: Vec<u8>| client.identity(Identity::from_pem(&pem).unwrap());
    let client = reqwest::Client::builder().tls_certs_only([ca]).timeout(PATIENCE);
    identity.into_iter().fold(client, with).build().unwrap()
}

/// The block of shell commands under a heading of a document.
fn recipe(document: &str, heading: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once(&format!("\n{heading}\n")).unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_certificates_made_as_documented_serve_a_checkout_together() {
    let dir = tempfile::tempdir().unwrap();
    let made = recipe("docs/operations.md", "### TLS between nodes");
    assert!(made.contains("IP:10.0.1.11"), "{made}");
    let made = made.replace("10.0.1.11", "127.0.0.1");
    let told = Command::new("sh").args(["-ec", &made]).current_dir(dir.path()).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let file = |name: &str| dir.path().join(name);
    let tls = TlsFiles { ca: file("nodes-ca.pem"), cert: file("node.pem"), key: file("node.key") };
    let store = database();
    let (one, two) =
        (node(&store, "one", tls.clone()).await, node(&store, "two", tls.clone()).await);
    until("each has shards", async || {
        let all = one.admin(Method::GET, "/cluster", None).await.expect(200);
        let nodes = all["nodes"].as_array().unwrap();
        let https = |node: &serde_json::Value| node["url"].as_str().unwrap().starts_with("https:");
        nodes.len() == 2 && nodes.iter().all(|node| node["shards"] != 0 && https(node))
    })
    .await;
    one.sell("LAMP", 1_000, 9).await;
    for at in 0..8 {
        let site = [&one, &two][at % 2];
        let cart = site.cart(&[("LAMP", 1)]).await;
        site.checkout(&cart, &format!("key-{at}"), "tok_ok", 30).await.expect(201);
    }
    let known = NodeTls::read("cluster.tls", &tls).unwrap().unwrap();
    let known = reqwest::Client::builder().tls_backend_preconfigured(known.client).build().unwrap();
    for site in [&one, &two] {
        let metrics = known.get(format!("{}/metrics", internal(site))).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let calls = metrics.lines().filter(|line| line.starts_with("kontor_node_calls_total"));
        let answered = calls.filter(|line| line.contains("http") && line.contains("answered"));
        assert!(answered.count() > 0, "{metrics}");
    }
}

#[tokio::test]
async fn node_whose_certificate_is_for_another_host_than_the_others_call_does_not_start() {
    let (authority, mut config) = (Authority::new(), Config::default());
    config.store.url = "postgres://kontor@127.0.0.1:1/kontor".into();
    config.http.internal_listen = "127.0.0.1:0".into();
    config.cluster.url = "https://node-9.example".into();
    config.cluster.tls = authority.node();
    let refused = App::start(&config).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("which call this one at node-9.example, would"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_address_answers_nobody_without_a_certificate_of_its_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let site = node(&database(), "one", authority.node()).await;
    let url = internal(&site);
    let member = client(&authority, Some(&authority.node()));
    let foreign = client(&authority, Some(&other.node()));
    let nameless = client(&authority, None);
    for path in ["/metrics", "/livez", "/readyz", "/v1/node/calls", "/v1/store/products"] {
        let at = format!("{url}{path}");
        for refused in [&foreign, &nameless] {
            let (get, post) = (refused.get(&at).send(), refused.post(&at).body("call").send());
            assert!(get.await.is_err() && post.await.is_err(), "{path}");
        }
        let clear = format!("http{}", at.trim_start_matches("https"));
        for arguments in [vec!["-s", "-m", "60", &clear], vec!["-s", "-k", "-m", "60", &at]] {
            let told = Command::new("curl").args(&arguments).output().unwrap();
            assert!(!told.status.success() && told.stdout.is_empty(), "{arguments:?}: {told:?}");
        }
    }
    let status = async |method: Method, path: &str| {
        member.request(method, format!("{url}{path}")).send().await.unwrap().status()
    };
    assert_eq!(status(Method::GET, "/metrics").await, StatusCode::OK);
    assert_eq!(status(Method::GET, "/livez").await, StatusCode::OK);
    assert_eq!(status(Method::POST, "/v1/node/calls").await, StatusCode::UNAUTHORIZED);
    let public = site.web.get(format!("{}/livez", site.url())).send().await.unwrap();
    assert_eq!(public.status(), StatusCode::OK, "buyers need no certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_with_a_foreign_certificate_or_without_tls_is_not_called() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = NodeTls::read("cluster.tls", &authority.node()).unwrap().unwrap();
    let key = ClusterKey::new([7; 32]);
    let calls = Calls::new(None, Some(tls.client), &Options::default(), key, "a", now()).unwrap();
    let call = async |node: &str, url: String| {
        let peer = Peer { node: node.to_owned(), url };
        calls.call(&peer, Bytes::from_static(b"call"), PATIENCE).await
    };
    let known = node(&database(), "known", authority.node()).await;
    let answered = call("known", internal(&known)).await;
    let Err(CallError::Unknown { why, .. }) = &answered else { panic!("{answered:?}") };
    assert!(why.contains("401"), "it has another key, and answers that: {why}");
    let foreign = node(&database(), "foreign", other.node()).await;
    let refused = call("foreign", internal(&foreign)).await;
    let Err(CallError::Unreachable { why, .. }) = &refused else { panic!("{refused:?}") };
    assert!(why.contains("invalid peer certificate"), "{why}");
    // Its certificate is not for this name.
    let renamed = call("known", internal(&known).replace("127.0.0.1", "localhost")).await;
    assert!(matches!(renamed, Err(CallError::Unreachable { .. })), "{renamed:?}");
    let clear = Site::open().await;
    let refused = call("clear", clear.url()).await;
    assert!(matches!(refused, Err(CallError::Unreachable { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_connection_of_nodes_is_a_security_event() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("log"));
    let (admin, port) = (key(&data), free_port().unwrap());
    let server = Server::start_with(&data, "http://127.0.0.1:1", |command| {
        command.env("KONTOR__LOG__FILTER", "info").env("KONTOR__LOG__FORMAT", "json");
        command.env("KONTOR__HTTP__INTERNAL_LISTEN", format!("127.0.0.1:{port}"));
        for (name, file) in [("CA", "ca.pem"), ("CERT", "node.pem"), ("KEY", "node.key")] {
            command.env(format!("KONTOR__CLUSTER__TLS__{name}"), authority.file(file));
        }
        command.stderr(std::fs::File::create(&file).unwrap());
    });
    let url = format!("https://127.0.0.1:{port}");
    assert!(client(&authority, None).get(&url).send().await.is_err());
    // Who only looks whether somebody listens there is no event.
    drop(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    let answer = reqwest::Client::new().get(format!("{}/v1/admin/orders", server.url));
    assert_eq!(answer.bearer_auth(&admin).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(server.terminate(), Some(0));
    let found = events(&std::fs::read_to_string(&file).unwrap());
    let of = |one: &&[String; 4]| one[0] == "node_connection_refused";
    let [only] = &found.iter().filter(of).collect::<Vec<_>>()[..] else { panic!("{found:#?}") };
    assert_eq!((&*only[1], &*only[2]), ("anyone", "127.0.0.1"));
    assert!(only[3].contains("NoCertificatesPresented") || only[3].contains("no certificates"));
}

#[tokio::test]
async fn profile_production_refuses_a_node_that_other_machines_call_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.data.dir = dir.path().join("data");
    config.profile = ServerProfile::Production;
    config.store.url = "postgres://kontor@127.0.0.1:1/kontor?connect_timeout=1".into();
    config.store.master_key = MasterKeyText::new(&"00".repeat(32));
    config.http.listen = "10.0.0.11:8080".parse().unwrap();
    let refused = App::start(&config).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("cluster.tls.ca, cert and key"), "{refused}");
    config.http.internal_listen = "127.0.0.1:8090".into();
    let later = App::start(&config).await.map(drop).unwrap_err().to_string();
    assert!(!later.contains("cluster.tls"), "{later}");
}
