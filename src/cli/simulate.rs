//! `kontor simulate`: the arguments. Only a build with the feature `simulate` contains the
//! simulator (`seeds`); in other builds, the command prints how to build it.

#[cfg(feature = "simulate")]
mod seeds;

#[cfg(feature = "simulate")]
pub use self::seeds::run;

/// Run whole nodes in simulated time with random faults, and check that every promise holds
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo simulate --seeds 1000          a thousand runs, each with different faults
  cargo simulate --seed 42 --story     one run, line by line
  cargo run --features simulate -- simulate --flaws
                                       check that deliberate bugs are found

A run that breaks a rule is shrunk to a minimal one, whose story is printed.

This is a development tool; it needs a build with --features simulate.")]
pub struct Args {
    /// How many seeds to run
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub seeds: u64,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub from: u64,
    /// Only this seed
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    pub seed: Option<u64>,
    /// Print the story of the run, line by line
    #[arg(long, requires = "seed")]
    pub story: bool,
    /// Turn on deliberate bugs, one after the other, and show how many seeds it takes to find each;
    /// only in a build with debug assertions
    #[arg(long, conflicts_with_all = ["seed", "story"])]
    pub flaws: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints how to build the simulator.
///
/// # Errors
/// None.
#[cfg(not(feature = "simulate"))]
pub fn run(_: &Args) -> std::io::Result<std::process::ExitCode> {
    kontor_lab::stderr::line(format_args!(
        "error: this kontor was built without the simulator; run this in its source folder: \
         cargo run --release --features simulate -- simulate --seeds 1000"
    ));
    Ok(std::process::ExitCode::FAILURE)
}
