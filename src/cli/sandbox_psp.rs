//! `kontor sandbox-psp`: the sandbox payment provider, as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use super::Error;
use super::serve::told_to_stop;
use crate::{sandbox_psp, telemetry};

/// Run the sandbox payment provider
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
It moves no money. Its ledger is DIR/ledger.jsonl, a line a fact, on disk before an answer.

What a payment token does: tok_ok pays, tok_declined and tok_insufficient_funds are declined,
tok_timeout pays and never answers, tok_timeout_lost never answers, tok_500 fails twice, tok_slow
takes 2 seconds, tok_webhook_only tells by webhook, tok_mismatch sets another amount aside.
Faults by rate: PUT /v1/faults.

Example:
  kontor sandbox-psp --data psp --listen 127.0.0.1:8081")]
pub struct Args {
    /// The folder of the ledger
    #[arg(long, value_name = "DIR", default_value = "data/sandbox-psp")]
    pub data: PathBuf,
    /// The address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
}

/// Serves until told to stop.
///
/// # Errors
/// [`Error`]: the ledger cannot be opened, or the address not be used.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    telemetry::start(&telemetry::Options::default()).map_err(Error::Usage)?;
    let options = sandbox_psp::Options { data: args.data, listen: args.listen };
    let running = sandbox_psp::start(options).await?;
    println!("the sandbox payment provider is ready at {}", running.url());
    told_to_stop().await;
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}
