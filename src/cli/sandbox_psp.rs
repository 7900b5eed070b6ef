//! `kontor sandbox-psp`: runs the sandbox payment provider as a process of its own.

use std::process::ExitCode;

use kontor::telemetry;
use kontor_lab::stdout;
use kontor_sandbox_psp::{Options, start};

use super::Error;
use super::serve::told_to_stop;

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// [`Error`]: the ledger cannot be opened, or the address cannot be used.
pub async fn run(options: Options) -> Result<ExitCode, Error> {
    telemetry::start(&telemetry::Options::default()).map_err(Error::Usage)?;
    let running = start(options).await?;
    stdout::notice(format!("the sandbox payment provider is ready at {}\n", running.url()));
    told_to_stop().await;
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}
