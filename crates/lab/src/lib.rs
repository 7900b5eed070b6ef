//! The lab: tools that fill, test, measure and break a kontor server from outside.
//!
//! `import` fills it from files; `shoppers`, `shopkeepers` and `people` simulate its users; `load`
//! measures it; `replay` replays a real shop's year of orders; `crash_test` kills it, `cluster`
//! runs a whole cluster on this machine. All of them use kontor only through its HTTP API
//! (`kontor_client`) and its command line (`program`), and define the arguments of their commands.
//! Commands print through `stdout`.
//!
//! Deliberately not here: the server, its store, and everything that needs them.

// `println!` panics if the output is a closed pipe: commands print with `stdout`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod args;
pub mod cluster;
pub mod crash_test;
pub mod import;
pub mod load;
pub mod online_retail;
pub mod people;
pub mod program;
pub mod replay;
pub mod shopkeepers;
pub mod shoppers;
pub mod stderr;
pub mod stdout;

/// Why a tool failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is what it wraps")]
pub enum Error {
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    Client(#[from] kontor_client::Error),
    #[error(transparent)]
    Import(#[from] import::Error),
    #[error(transparent)]
    SandboxPsp(#[from] kontor_sandbox_psp::Error),
    #[error(transparent)]
    Servers(#[from] cluster::servers::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Runs blocking code.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}
