//! `kontor demo --cluster`: runs the demo on three nodes behind a load balancer, prints all
//! addresses, and deletes all data at the end.

use std::convert::Infallible;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use kontor::store::Store;
use kontor::store::session::SET_UP_LASTS;
use kontor_lab::cluster::{Cluster, DATABASE, Options, packages};
use kontor_lab::people::stock_up;
use kontor_lab::program::Kontor;
use kontor_lab::{stderr, stdout};

use super::{Args, links, run_people, show, show_line, verify_store};
use crate::cli::sign_in::{self, SignInLink};
use crate::cli::{Error, serve};

/// How often the demo checks whether a node has ended.
const LOOK: Duration = Duration::from_millis(500);

/// Runs the demo in a folder.
///
/// # Errors
/// [`Error`]: a server does not start. All servers that were started are stopped then.
pub async fn run(args: &Args, dir: &Path) -> Result<ExitCode, Error> {
    tokio::task::block_in_place(packages::install)?;
    if !args.json {
        stderr::line("starting PostgreSQL, NATS, Redis, three nodes and HAProxy");
    }
    let start = async {
        let program = Kontor::at(std::env::current_exe()?);
        let options = Options { program, proxies: false, settings: Vec::new() };
        let cluster = Cluster::start(dir, &options).await?;
        stock_up(&cluster.url(), &cluster.key, args.json).await?;
        Ok::<_, Error>(cluster)
    };
    let cluster = tokio::select! {
        started = start => started?,
        () = serve::told_to_stop() => return Ok(ExitCode::SUCCESS),
    };
    let store = Store::connect_beside(&cluster.store_url().as_str().into()).await?;
    let outcome = open(args, cluster, &store).await;
    store.close().await;
    outcome
}

async fn open(args: &Args, mut cluster: Cluster, store: &Store) -> Result<ExitCode, Error> {
    let (url, key) = (cluster.url(), cluster.key.clone());
    let mut watch = None;
    if !args.json {
        let link = sign_in::make(store, &url, "you", SET_UP_LASTS).await?;
        stdout::notice(screen(&cluster, &link)?);
        watch = Some(tokio::spawn(links(store.clone(), url.clone(), link)));
    }
    let day = tokio::select! {
        day = run_people(&url, &key, args) => day?,
        never = keep_up(&mut cluster, args.json) => match never {},
    };
    if let Some(watch) = watch {
        watch.abort();
    }
    // A node that is still starting does not handle signals yet.
    cluster.settle();
    cluster.close()?;
    let report = verify_store(store, &cluster.psp).await?;
    let shown = show(&day, &report, args.json);
    cluster.psp.stop().await;
    shown
}

/// Restarts nodes that were killed, so that visitors can kill nodes and watch the effect.
async fn keep_up(cluster: &mut Cluster, quiet: bool) -> Infallible {
    loop {
        tokio::time::sleep(LOOK).await;
        for line in cluster.restart_ended() {
            if !quiet {
                show_line(&line);
            }
        }
    }
}

fn screen(cluster: &Cluster, link: &SignInLink) -> std::io::Result<Vec<u8>> {
    let url = cluster.url();
    let mut out = Vec::new();
    writeln!(
        out,
        "\n  kontor demo: a shop on three nodes, with simulated buyers and temporary data\n"
    )?;
    writeln!(out, "  admin     {}", link.address)?;
    writeln!(out, "  shop      {url}/v1/store/products")?;
    writeln!(out, "  API docs  {url}/docs")?;
    for node in &cluster.nodes {
        writeln!(out, "  {:<9} {}/readyz", node.name(), node.url())?;
    }
    writeln!(out, "  balancer  {}", cluster.haproxy.stats_url())?;
    writeln!(out, "  database  psql {}", cluster.postgres.url(DATABASE))?;
    writeln!(out, "  NATS      {}    Redis  {}", cluster.nats.url(), cluster.redis.url())?;
    writeln!(out, "  payments  {}/v1/payments", cluster.psp.url())?;
    writeln!(out, "  API key   {}\n", cluster.key)?;
    writeln!(
        out,
        "  Kill a node with kill -9, and watch: it is started again, and its shards move."
    )?;
    writeln!(out, "  Ctrl-C stops it, verifies every order and deletes all data.\n")?;
    Ok(out)
}
