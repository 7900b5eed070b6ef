//! Connections to servers that nodes share are encrypted and authenticated as the settings say.

mod files;
mod nodes;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kontor::app::App;
use kontor::bus;
use kontor::bus::nats::Connection;
use kontor::cache::{self, Cache, CacheSeal, CacheState};
use kontor::config::{Config, ServerProfile};
use kontor::domain::cluster_key::ClusterKey;
use kontor::domain::time::Timestamp;
use kontor::domain::tls_files::TlsFiles;
use kontor::store::{Options, Store};
use kontor_lab::cluster::servers::{Nats, PostgresServer, Redis, free_port};

use crate::bus::until;

/// An authority, and what it has signed for a server on this machine and for a node.
struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap() };
        let ca = ["req", "-x509", "-subj", "/CN=authority", "-days", "2", "-out", "ca.pem"];
        this.openssl(&[&ca[..], &this.key("ca.key")].concat());
        for name in ["server", "node"] {
            let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
            let subject = format!("/CN={name}");
            let new = ["req", "-subj", &subject, "-out", &request];
            this.openssl(&[&new[..], &this.key(&key)].concat());
            std::fs::write(this.dir.path().join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
            let out = format!("{name}.pem");
            let sign =
                ["x509", "-req", "-in", &request, "-days", "2", "-CA", "ca.pem", "-out", &out];
            let by = ["-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"];
            this.openssl(&[&sign[..], &by[..]].concat());
        }
        this
    }

    /// Arguments for a new key.
    fn key<'a>(&self, name: &'a str) -> [&'a str; 6] {
        ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", name]
    }

    fn openssl(&self, arguments: &[&str]) {
        let nodes = if arguments[0] == "req" { &["-nodes"][..] } else { &[] };
        let mut command = Command::new("openssl");
        let told =
            command.args(arguments).args(nodes).current_dir(self.dir.path()).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Gives the files to the user of a server, which reads private keys of its own only.
    fn belongs_to(&self, user: u32) {
        std::os::unix::fs::chown(self.dir.path(), Some(user), None).unwrap();
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            std::os::unix::fs::chown(entry.unwrap().path(), Some(user), None).unwrap();
        }
    }

    /// A Redis server with TLS, for those who have a certificate.
    fn redis(&self, dir: &Path, port: &str) -> Redis {
        let settings = [
            ("--tls-port", port.to_owned()),
            ("--tls-cert-file", self.path("server.pem")),
            ("--tls-key-file", self.path("server.key")),
            ("--tls-ca-cert-file", self.path("ca.pem")),
        ];
        let each = settings.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        Redis::start_with(dir, &each.collect::<Vec<String>>()).unwrap()
    }

    /// The files of a node.
    fn node(&self) -> TlsFiles {
        let own = |name| self.file(name);
        TlsFiles { ca: own("ca.pem"), cert: own("node.pem"), key: own("node.key") }
    }

    /// The files of who trusts the authority, and has no certificate.
    fn stranger(&self) -> TlsFiles {
        TlsFiles { ca: self.file("ca.pem"), ..TlsFiles::default() }
    }
}

fn seal() -> CacheSeal {
    CacheSeal::new(ClusterKey::alone(), Arc::new(Timestamp::default))
}

#[tokio::test]
async fn redis_is_reached_with_tls_and_only_with_a_certificate_of_its_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let port = free_port().unwrap().to_string();
    let _redis = authority.redis(&dir.path().join("redis"), &port);
    let state = async |tls: TlsFiles| {
        let url = format!("rediss://127.0.0.1:{port}");
        let options = cache::Options { url, tls, timeout_ms: 2_000, ..cache::Options::default() };
        Cache::open(&options, seal()).await.unwrap().state()
    };
    assert!(matches!(state(authority.node()).await, CacheState::Ok));
    for refused in [authority.stranger(), other.node(), TlsFiles::default()] {
        assert!(matches!(state(refused).await, CacheState::Away(_)));
    }
    let url = format!("rediss://127.0.0.1:{port}");
    let tls = TlsFiles { ca: authority.file("missing.pem"), ..TlsFiles::default() };
    let options = cache::Options { url, tls, ..cache::Options::default() };
    let error = Cache::open(&options, seal()).await.map(drop).unwrap_err().to_string();
    assert!(error.starts_with("cache.tls.ca is ") && error.contains("missing.pem"), "{error}");
}

#[tokio::test]
async fn nats_is_reached_with_tls_and_only_with_a_certificate_of_its_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        format!("--tlscert={}", authority.path("server.pem")),
        format!("--tlskey={}", authority.path("server.key")),
        format!("--tlscacert={}", authority.path("ca.pem")),
        "--tlsverify".to_owned(),
    ];
    let nats = Nats::start_with(&dir.path().join("nats"), &settings).unwrap();
    let connection = async |tls: TlsFiles| {
        let url = nats.url().replace("nats://", "tls://");
        let options = bus::Options { url, tls, start_wait_ms: 0, ..bus::Options::default() };
        Connection::open(&options, "a").await.unwrap().unwrap()
    };
    let up = connection(authority.node()).await;
    up.connected().wait_for(|up| *up).await.unwrap();
    for (refused, advice) in [
        (authority.stranger(), "name one in bus.tls.cert and bus.tls.key"),
        (
            TlsFiles { ca: authority.file("ca.pem"), ..other.node() },
            "refuses the certificate in bus.tls",
        ),
        (other.node(), "not of an authority in bus.tls.ca"),
        (TlsFiles::default(), "authority's certificate in bus.tls.ca"),
    ] {
        let connection = connection(refused).await;
        let said = || connection.trouble().unwrap_or_default();
        until(advice, async || said().contains(advice)).await;
        assert!(!connection.is_up());
    }
}

#[tokio::test]
async fn postgres_is_reached_with_tls_and_only_with_a_certificate_of_its_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let server = PostgresServer::start(&dir.path().join("postgres")).unwrap();
    let plain = server.create_database("shop").unwrap();
    let sql = |statement: &str| server.sql("shop", statement).unwrap();
    authority.belongs_to(std::fs::metadata(sql("SHOW data_directory")).unwrap().uid());
    for (name, file) in [("cert", "server.pem"), ("key", "server.key"), ("ca", "ca.pem")] {
        sql(&format!("ALTER SYSTEM SET ssl_{name}_file = '{}'", authority.path(file)));
    }
    sql("ALTER SYSTEM SET ssl = on");
    sql("CREATE ROLE node LOGIN; ALTER DATABASE shop OWNER TO node; GRANT pg_monitor TO node");
    let access = "host all postgres 127.0.0.1/32 trust\n\
                  hostssl all node 127.0.0.1/32 trust clientcert=verify-ca\n";
    std::fs::write(sql("SHOW hba_file"), access).unwrap();
    sql("SELECT pg_reload_conf()");
    let plain = plain.replace("postgres@", "node@");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while sql("SHOW ssl") != "on" {
        assert!(std::time::Instant::now() < until, "TLS was never turned on");
    }
    let open = async |authority: &Authority, own: bool| {
        let files = authority.dir.path().display();
        let own = if own {
            format!("&sslcert={files}/node.pem&sslkey={files}/node.key")
        } else {
            String::new()
        };
        let url = format!("{plain}?sslmode=verify-full&sslrootcert={files}/ca.pem{own}");
        Store::connect(&url.as_str().into(), &Options { shards: 2, ..Options::default() }).await
    };
    open(&authority, true).await.unwrap().close().await;
    assert!(open(&authority, false).await.is_err());
    assert!(open(&other, true).await.is_err());
    assert!(Store::connect(&plain.as_str().into(), &Options::default()).await.is_err());
}

#[tokio::test]
async fn profile_production_refuses_a_bus_or_cache_that_lets_anyone_in() {
    let dir = tempfile::tempdir().unwrap();
    for (bus, cache, setting) in [
        ("nats://10.0.0.1:4222", "", "bus.url"),
        ("tls://10.0.0.1:4222", "", "bus.url"),
        ("", "redis://10.0.0.1", "cache.url"),
        ("", "rediss://10.0.0.1/0", "cache.url"),
    ] {
        let mut config = Config::default();
        config.data.dir = dir.path().join("data");
        config.profile = ServerProfile::Production;
        (config.bus.url, config.cache.url) = (bus.to_owned(), cache.to_owned());
        let refused = App::start(&config).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains(&format!("a client certificate in {setting}")), "{refused}");
    }
    for url in ["nats://u:p@10.0.0.1", "nats://token@10.0.0.1"] {
        assert!(bus::Options { url: url.to_owned(), ..bus::Options::default() }.authenticates());
    }
    let tls = TlsFiles { cert: "a".into(), key: "b".into(), ..TlsFiles::default() };
    assert!(bus::Options { tls: tls.clone(), ..bus::Options::default() }.authenticates());
    assert!(cache::Options { tls, ..cache::Options::default() }.authenticates());
    let url = "redis://:secret@10.0.0.1".to_owned();
    assert!(cache::Options { url, ..cache::Options::default() }.authenticates());
}
