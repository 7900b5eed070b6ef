//! The kontor binary: it hands the command line to the library.

fn main() -> std::process::ExitCode {
    kontor::cli::main()
}
