//! What is said of files for TLS that cannot be used, and of servers that refuse them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use kontor::bus;
use kontor::bus::nats::Connection;
use kontor::cache::{self, Cache};
use kontor::config::Config;
use kontor::domain::tls_files::TlsFiles;
use kontor::tls::{NodeTls, advised, read};

use kontor_lab::cluster::servers::free_port;

use super::{Authority, seal};
use crate::process::Server;

/// What is said of the files of `bus.tls`.
fn said(files: &TlsFiles) -> String {
    read("bus.tls", files).map(drop).unwrap_err().to_string()
}

fn openssl(dir: &Path, arguments: &str) {
    let told =
        Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

#[test]
fn file_for_tls_that_cannot_be_used_is_named_with_its_setting_and_what_is_wanted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = authority.dir.path();
    std::fs::write(authority.file("empty.pem"), "").unwrap();
    std::fs::write(authority.file("text.pem"), "no certificate").unwrap();
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(authority.file("damaged.pem"), damaged).unwrap();
    openssl(dir, "pkey -in node.key -aes256 -passout pass:secret -out locked.key");
    let right = authority.node();
    let missing = || PathBuf::from("missing.pem");
    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut files = right.clone();
        change(&mut files);
        files
    };
    for (files, setting, words) in [
        (with(&|files| files.ca = missing()), "ca", "it cannot be read (No such file"),
        (with(&|files| files.ca = authority.file("empty.pem")), "ca", "it has no certificate"),
        (with(&|files| files.ca = authority.file("text.pem")), "ca", "it has no certificate"),
        (with(&|files| files.ca = authority.file("node.key")), "ca", "it has no certificate"),
        (with(&|files| files.ca = authority.file("damaged.pem")), "ca", "is damaged"),
        (with(&|files| files.cert = missing()), "cert", "it cannot be read (No such file"),
        (with(&|files| files.cert = authority.file("damaged.pem")), "cert", "cannot be used"),
        (with(&|files| files.key = missing()), "key", "it cannot be read (No such file"),
        (with(&|files| files.key = authority.file("node.pem")), "key", "it has no private key"),
        (with(&|files| files.key = authority.file("locked.key")), "key", "its key has a password"),
        (with(&|files| files.key = other.file("node.key")), "key", "does not belong to the cert"),
    ] {
        let said = said(&files);
        let file = match setting {
            "ca" => &files.ca,
            "cert" => &files.cert,
            _ => &files.key,
        };
        assert!(said.starts_with(&format!("bus.tls.{setting} is {}, ", file.display())), "{said}");
        assert!(said.contains(words) && said.contains("it must name a file with"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
    assert!(read("bus.tls", &right).is_ok() && read("bus.tls", &TlsFiles::default()).is_ok());
}

#[test]
fn certificate_of_a_node_must_be_one_that_the_others_accept() {
    let (authority, other) = (Authority::new(), Authority::new());
    let said =
        |files: &TlsFiles| NodeTls::read("cluster.tls", files).map(drop).unwrap_err().to_string();
    let foreign = TlsFiles { ca: other.file("ca.pem"), ..authority.node() };
    let text = said(&foreign);
    let file = authority.path("node.pem");
    assert!(
        text.starts_with(&format!("cluster.tls.cert is {file}, and other nodes would")),
        "{text}"
    );
    assert!(text.contains("invalid peer certificate"), "{text}");
    openssl(
        authority.dir.path(),
        "x509 -req -in node.csr -days 0 -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out old.pem",
    );
    let old = TlsFiles { cert: authority.file("old.pem"), ..authority.node() };
    // It is valid in the second in which it was made.
    while NodeTls::read("cluster.tls", &old).is_ok() {
        std::thread::yield_now();
    }
    let text = said(&old);
    assert!(text.contains("expired"), "{text}");
    let valid = NodeTls::read("cluster.tls", &authority.node()).unwrap().unwrap();
    let days = |days: u64| std::time::Duration::from_secs(days * 24 * 3_600);
    assert!(valid.expires_within(days(3)) && !valid.expires_within(days(1)));
    assert!(NodeTls::read("cluster.tls", &TlsFiles::default()).unwrap().is_none());
    let for_host = |host: &str| valid.check_host("cluster.tls", &authority.node(), host);
    assert!(for_host("127.0.0.1").is_ok());
    let text = for_host("10.9.9.9").unwrap_err().to_string();
    assert!(text.contains("nodes, which call this one at 10.9.9.9, would refuse it"), "{text}");
}

#[tokio::test]
async fn start_with_a_wrong_file_for_tls_says_what_is_wrong() {
    let authority = Authority::new();
    let tls = TlsFiles { key: authority.file("server.key"), ..authority.node() };
    let wrong = format!(
        "tls.key is {}, and its key does not belong to the certificate in",
        tls.key.display()
    );
    let url = "tls://127.0.0.1:1".to_owned();
    let options = bus::Options { url, tls: tls.clone(), ..bus::Options::default() };
    let nats = Connection::open(&options, "a").await.map(drop).unwrap_err().to_string();
    assert!(nats.contains(&format!("bus.{wrong} bus.tls.cert")), "{nats}");
    let url = "rediss://127.0.0.1:1".to_owned();
    let options = cache::Options { url, tls: tls.clone(), ..cache::Options::default() };
    let redis = Cache::open(&options, seal()).await.map(drop).unwrap_err().to_string();
    assert!(redis.contains(&format!("cache.{wrong} cache.tls.cert")), "{redis}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_of_a_redis_with_tls_is_logged_with_the_setting_to_change() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let port = free_port().unwrap().to_string();
    let _redis = authority.redis(&dir.path().join("redis"), &port);
    for (at, tls, advice) in [
        (0, other.node(), "not of an authority in cache.tls.ca"),
        (1, authority.stranger(), "name one in cache.tls.cert and cache.tls.key"),
        (
            2,
            TlsFiles { ca: authority.file("ca.pem"), ..other.node() },
            "certificate in cache.tls.cert",
        ),
    ] {
        let (data, file) = (dir.path().join(at.to_string()), dir.path().join("log"));
        let server = Server::start_with(&data, "http://127.0.0.1:1", |command| {
            command.env("KONTOR__LOG__FILTER", "warn").stderr(File::create(&file).unwrap());
            command.env("KONTOR__CACHE__URL", format!("rediss://127.0.0.1:{port}"));
            command.env("KONTOR__CACHE__TIMEOUT_MS", "2000");
            for (name, file) in [("CA", &tls.ca), ("CERT", &tls.cert), ("KEY", &tls.key)] {
                command.env(format!("KONTOR__CACHE__TLS__{name}"), file);
            }
        });
        assert_eq!(server.terminate(), Some(0));
        let log = std::fs::read_to_string(&file).unwrap();
        assert!(log.contains(advice), "{log}");
    }
}

#[test]
fn tls_between_nodes_needs_all_files_and_an_address_of_its_own() {
    let faults = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config.check().map_or_else(|error| error.to_string(), |()| String::new())
    };
    let all = || TlsFiles { ca: "a".into(), cert: "b".into(), key: "c".into() };
    let said = faults(&|config| config.cluster.tls = all());
    assert!(
        said.contains("http.internal_listen is \"\": it must be an address of its own"),
        "{said}"
    );
    let said = faults(&|config| {
        config.cluster.tls = all();
        config.http.internal_listen = "127.0.0.1:8090".into();
        config.cluster.url = "http://node-1:8090".into();
    });
    assert!(
        said.contains("cluster.url is \"http://node-1:8090\": it must begin with https://"),
        "{said}"
    );
    for some in
        [TlsFiles { ca: "a".into(), ..TlsFiles::default() }, TlsFiles { ca: "".into(), ..all() }]
    {
        let said = faults(&|config| config.cluster.tls = some.clone());
        assert!(said.contains("must have ca, cert and key, or none of them"), "{said}");
    }
    let right = faults(&|config| {
        config.cluster.tls = all();
        config.http.internal_listen = "127.0.0.1:8090".into();
        config.cluster.url = "https://node-1:8090".into();
    });
    assert_eq!(right, "");
}

#[test]
fn refusals_of_a_server_say_which_setting_to_change() {
    let none = TlsFiles::default();
    let own = TlsFiles { ca: "a.pem".into(), cert: "b.pem".into(), key: "c.pem".into() };
    for (files, error, advice) in [
        (
            &own,
            "invalid peer certificate: UnknownIssuer",
            "not of an authority in bus.tls.ca (a.pem)",
        ),
        (&none, "invalid peer certificate: UnknownIssuer", "authority's certificate in bus.tls.ca"),
        (
            &none,
            "received fatal alert: CertificateRequired",
            "name one in bus.tls.cert and bus.tls.key",
        ),
        (&none, "received fatal alert: BadCertificate", "name one in bus.tls.cert and bus.tls.key"),
        (
            &own,
            "received fatal alert: UnknownCA",
            "refuses the certificate in bus.tls.cert (b.pem)",
        ),
        (&own, "received fatal alert: CertificateExpired", "bus.tls.cert has expired"),
    ] {
        let said = advised("bus.tls", files, error);
        assert!(said.starts_with(error) && said.contains(advice), "{said}");
    }
    assert_eq!(advised("bus.tls", &own, "connection refused"), "connection refused");
}
