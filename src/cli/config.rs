//! `kontor config`: shows all settings of the configuration, and the source of each value. Settings
//! that were changed at run time are in the store, and are not shown.

use std::process::ExitCode;

use kontor_lab::{stderr, stdout};
use serde_json::json;

use super::Error;
use super::serve::SettingArgs;

/// Show all settings and the source of each value
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kontor config
  KONTOR__SHOP__HOLD_SECS=600 kontor config --json")]
pub struct Args {
    /// Settings.
    #[command(flatten)]
    pub settings: SettingArgs,
    /// Print the settings as JSON
    #[arg(long)]
    pub json: bool,
}

/// Shows the settings, and then the invalid values.
///
/// # Errors
/// [`Error`]: a setting is unknown or of the wrong type.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let loaded = args.settings.load()?;
    let values = loaded.values().map_err(std::io::Error::from)?;
    let faults = loaded.faults();
    if args.json {
        let all: serde_json::Map<_, _> = values
            .into_iter()
            .map(|(path, value)| {
                let source = loaded.source(&path);
                (path, json!({"value": value, "source": source}))
            })
            .collect();
        stdout::json(&all)?;
    } else {
        for (path, value) in values {
            stdout::line(format_args!("{path} = {value}  # {}", loaded.source(&path)));
        }
    }
    for fault in &faults {
        stderr::line(format_args!("error: {fault}"));
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
