//! The command line: the arguments and the code of the commands.
//!
//! Results go to standard output, progress and errors to standard error. Deliberately not here: the
//! commands that use a server only through its API, which are in `crates/lab`; this file only lists
//! them.

mod audit;
mod backup;
mod config;
mod demo;
mod doctor;
mod erasures;
mod key;
mod move_store;
mod new_history;
mod restore;
mod sandbox_psp;
mod serve;
mod sign_in;
mod simulate;
mod store_location;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use kontor::http::Routes;
use kontor::http::docs::openapi::Document;
use kontor::http::docs::postman;
use kontor::http::live::asyncapi;
use kontor::telemetry::chain;
use kontor::telemetry::security::SecurityEvent;
use kontor::{app, store};
use kontor_lab::program::Kontor;
use kontor_lab::stderr;
use kontor_lab::{crash_test, import, load, replay, stdout};

/// A headless commerce and order platform: never oversold, never paid without an order, never an
/// order lost.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
First steps:
  kontor demo                          run a demo shop on temporary data
  kontor                               serve the shop in ./data (the same as kontor serve)
  kontor key create --scope admin      create a key for the admin API
  kontor sign-in                       print a sign-in link for the admin page

Every command has --help with examples."
)]
struct Arguments {
    /// The command; `serve` if there is none.
    #[command(subcommand)]
    command: Option<CliCommand>,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    Serve(serve::Args),
    Demo(demo::Args),
    Import(import::Args),
    Replay(replay::Args),
    Load(load::Args),
    Verify(verify::Args),
    Simulate(simulate::Args),
    Doctor(doctor::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    NewHistory(new_history::Args),
    Erasures(erasures::Args),
    Move(move_store::Args),
    Key(key::Args),
    SignIn(sign_in::Args),
    SignOut(sign_in::SignOutArgs),
    Config(config::Args),
    SandboxPsp(kontor_sandbox_psp::Options),
    CrashTest(crash_test::Args),
    /// Print the OpenAPI document of the HTTP API
    Openapi,
    /// Print the AsyncAPI document of the websocket
    Asyncapi,
    /// Print a Postman collection of the HTTP API
    Postman,
    /// Print the bill of materials of this program, as CycloneDX
    Sbom,
    /// Print shell completions
    #[command(after_help = "Example:\n  kontor completions bash > /etc/bash_completion.d/kontor")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Default for CliCommand {
    fn default() -> Self {
        Self::Serve(serve::Args::default())
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] kontor::config::Error),
    #[error(transparent)]
    App(#[from] app::Error),
    #[error(transparent)]
    Open(#[from] store::OpenError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Lab(#[from] kontor_lab::Error),
    #[error(transparent)]
    Import(#[from] import::Error),
    #[error(transparent)]
    Replay(#[from] replay::Error),
    #[error(transparent)]
    Load(#[from] load::Error),
    #[error(transparent)]
    SandboxPsp(#[from] kontor_sandbox_psp::Error),
    #[error(transparent)]
    Verify(#[from] kontor::verify::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Parses the command line and runs the command; returns its exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let command = arguments.command.unwrap_or_default();
    // The simulator has its own runtimes, which run in simulated time.
    if let CliCommand::Simulate(args) = &command {
        return simulate::run(args).unwrap_or(ExitCode::FAILURE);
    }
    let mut runtime = match command {
        CliCommand::Load(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            stderr::line(format_args!("error: cannot start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(Box::pin(run(command)));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome.unwrap_or_else(|error| {
        stderr::line(format_args!("error: {}", chain(&error)));
        ExitCode::FAILURE
    })
}

async fn run(command: CliCommand) -> Result<ExitCode, Error> {
    match command {
        CliCommand::Serve(args) => serve::run(args).await,
        CliCommand::Demo(args) => demo::run(args).await,
        CliCommand::Import(args) => {
            audit::log(SecurityEvent::ImportStarted, &args.file.to_string_lossy());
            Ok(import::run(args).await?)
        }
        CliCommand::Replay(args) => Ok(replay::run(args).await?),
        CliCommand::Load(args) => Ok(load::run(args, serve::told_to_stop).await?),
        CliCommand::Verify(args) => Ok(verify::run(args).await),
        CliCommand::Simulate(_) => Ok(ExitCode::SUCCESS),
        CliCommand::Doctor(args) => doctor::run(args).await,
        CliCommand::Backup(args) => Ok(backup::run(args).await),
        CliCommand::Restore(args) => Ok(restore::run(args).await),
        CliCommand::NewHistory(args) => new_history::run(args).await,
        CliCommand::Erasures(args) => erasures::run(args).await,
        CliCommand::Move(args) => move_store::run(args).await,
        CliCommand::Key(args) => key::run(args).await,
        CliCommand::SignIn(args) => sign_in::run(args).await,
        CliCommand::SignOut(args) => sign_in::run_sign_out(args).await,
        CliCommand::Config(args) => config::run(&args),
        CliCommand::SandboxPsp(args) => sandbox_psp::run(args).await,
        CliCommand::CrashTest(args) => {
            let program = Kontor::at(std::env::current_exe()?);
            Ok(crash_test::run(args, program, serve::told_to_stop()).await?)
        }
        CliCommand::Openapi => {
            let document = Document::new(Routes::standard());
            stdout::line(document.text().map_err(std::io::Error::other)?);
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Asyncapi => {
            stdout::line(asyncapi::text().map_err(std::io::Error::other)?);
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Postman => {
            let routes = Routes::standard();
            stdout::line(postman::text(&routes).map_err(std::io::Error::other)?);
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Sbom => {
            stdout::write(include_str!("../../sbom.cdx.json"));
            Ok(ExitCode::SUCCESS)
        }
        CliCommand::Completions { shell } => {
            let mut command = Arguments::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "kontor", &mut script);
            stdout::write(&String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
    }
}
