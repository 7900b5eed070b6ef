//! `kontor doctor`: reports what is wrong with an installation. The checks are in `kontor::doctor`;
//! this file has the arguments and the output.

use std::path::PathBuf;
use std::process::ExitCode;

use kontor::doctor::{Installation, Severity, examine};
use kontor_lab::stdout;
use serde_json::json;

use super::Error;
use super::store_location::{StoreArgs, StorePlace};

/// Check this installation, and say what to do about each problem
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Checks the folder, its disk and permissions, the store and which process serves it, what needs an
operator, the clock, the port and the payment provider. Works whether or not a server is running,
and changes nothing.

Exit code: 0 no errors (there may be warnings), 1 at least one error.

Examples:
  kontor doctor
  kontor doctor --data /var/lib/kontor --listen 127.0.0.1:8080 --sandbox-psp http://127.0.0.1:8081
  kontor doctor --json | jq '.findings[] | select(.level != \"ok\")'")]
pub struct Args {
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The address on which the server listens, or will listen
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
    /// The URL of the sandbox payment provider
    #[arg(long, value_name = "URL")]
    pub sandbox_psp: Option<String>,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// Checks an installation and prints the findings.
///
/// # Errors
/// [`Error`]: the configuration cannot be read.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let Args { store, listen, sandbox_psp, json } = args;
    let place = store.place()?;
    let master_key = place.master_key()?;
    let (data, store) = match place {
        StorePlace::Folder(dir) => (dir, None),
        StorePlace::Database(url) => (PathBuf::new(), Some(url)),
    };
    let installation = Installation { data, store, master_key, listen, sandbox_psp };
    let findings = examine(&installation).await;
    let ok = findings.iter().all(|finding| finding.level != Severity::Bad);
    if json {
        if stdout::json(&json!({ "ok": ok, "findings": findings })).is_err() {
            return Ok(ExitCode::FAILURE);
        }
    } else {
        for finding in &findings {
            let mark = match finding.level {
                Severity::Ok => "ok  ",
                Severity::Warn => "warn",
                Severity::Bad => "BAD ",
            };
            stdout::line(format_args!("{mark} {:<10} {}", finding.check, finding.message));
            if let Some(advice) = &finding.advice {
                stdout::line(format_args!("                -> {advice}"));
            }
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
