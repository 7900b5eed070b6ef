//! `kontor doctor`: what is wrong with this installation, and what to do about it.
//!
//! It looks and tells; it repairs nothing. Whether orders, money and stock are right is
//! `verify`'s to say.

mod around;
mod folder;
mod inside;

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::{place, print_json};
use crate::store::Address;

/// Say what is wrong with this installation, and what to do
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Looks at the folder, its disk and permissions, the store and who serves from it, what waits for an
operator, the clock, the port and the payment provider. Works whether or not a server runs, and
changes nothing.

Exit code: 0 nothing is bad (warnings are no failure), 1 something is.

Examples:
  kontor doctor
  kontor doctor --data /var/lib/kontor --listen 127.0.0.1:8080 --sandbox-psp http://127.0.0.1:8081
  kontor doctor --json | jq '.findings[] | select(.level != \"ok\")'")]
pub struct Args {
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data: PathBuf,
    /// The PostgreSQL database that the store is in, instead of a folder
    #[arg(long, value_name = "URL", env = "KONTOR__STORE__URL", hide_env_values = true)]
    pub store: Option<Address>,
    /// Where the server listens, or will
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
    /// The sandbox payment provider's address
    #[arg(long, value_name = "URL")]
    pub sandbox_psp: Option<String>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth a look.
    Warn,
    /// Something does not work, or will not for long.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub level: Level,
    /// How it is, in a sentence.
    pub message: String,
    /// What to do; nothing if it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, message: message.into(), advice: None }
    }

    fn warn(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        let (message, advice) = (message.into(), Some(advice.into()));
        Self { check, level: Level::Warn, message, advice }
    }

    fn bad(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        let (message, advice) = (message.into(), Some(advice.into()));
        Self { check, level: Level::Bad, message, advice }
    }
}

/// Looks at an installation.
pub async fn run(args: Args) -> ExitCode {
    let findings = examine(&args).await;
    let ok = findings.iter().all(|finding| finding.level != Level::Bad);
    if args.json {
        if print_json(&json!({ "ok": ok, "findings": findings })).is_err() {
            return ExitCode::FAILURE;
        }
    } else {
        for finding in &findings {
            let mark = match finding.level {
                Level::Ok => "ok  ",
                Level::Warn => "warn",
                Level::Bad => "BAD ",
            };
            println!("{mark} {:<10} {}", finding.check, finding.message);
            if let Some(advice) = &finding.advice {
                println!("                -> {advice}");
            }
        }
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Everything that is looked at, in order.
pub async fn examine(args: &Args) -> Vec<Finding> {
    let database = place::database(args.store.as_ref());
    let mut findings = match database {
        Some(_) => Vec::new(),
        None => folder::examine(&args.data),
    };
    let mut store = None;
    if database.is_some() || args.data.is_dir() {
        match place::beside(&args.data, database).await {
            Ok(opened) => {
                findings.push(Finding::ok("version", "the store is of this version"));
                findings.extend(inside::examine(&opened).await);
                store = Some(opened);
            }
            Err(error) => {
                let advice = "the message says what to do; a new store is made by kontor serve";
                findings.push(Finding::bad("store", super::chain(&error), advice));
            }
        }
    }
    findings.extend(around::examine(args, store.as_ref()).await);
    if let Some(store) = store {
        store.close().await;
    }
    findings
}
