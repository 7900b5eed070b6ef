//! The binary `kontor`: it sets the allocator and runs the command line (`cli`).

// `println!` panics if the output is a closed pipe: commands print with `kontor_lab::stdout`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;

/// Many small values are allocated on one thread and freed on another, for weeks. The system's
/// allocator is slow in this case, and does not return all freed memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
