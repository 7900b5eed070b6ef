//! The kontor binary: the command line (`cli`), on the allocator that it runs with.

// `println!` panics once nobody reads: commands print with `kontor_lab::stdout`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;

/// Many small things are made on one thread and dropped on another, and that for weeks: the
/// system's allocator is slow at the first and keeps what it should give back after the second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
