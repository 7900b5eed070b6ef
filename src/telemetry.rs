//! Logs: lines for a person on a terminal, JSON elsewhere; and errors as one line. What is counted
//! is in `http::operator::metrics`.

use std::io::IsTerminal as _;

use garde::Validate;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Options {
    /// What is logged: `error`, `warn`, `info`, `debug`, or `kontor::actors=debug,info`.
    #[garde(custom(log_filter))]
    pub filter: String,
    /// Their shape.
    pub format: Format,
}

fn log_filter(filter: &str, (): &()) -> garde::Result {
    let wrong = |error| garde::Error::new(format!("must be a filter such as info: {error}"));
    EnvFilter::try_new(filter).map(drop).map_err(wrong)
}

impl Default for Options {
    fn default() -> Self {
        Self { filter: "info,actix_server=warn,async_nats=warn".into(), format: Format::Auto }
    }
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For a person.
    Text,
    /// For a program.
    Json,
}

/// Starts logging to standard error, once a process.
///
/// # Errors
/// What is wrong with the filter.
pub fn start(options: &Options) -> Result<(), String> {
    let filter = EnvFilter::try_new(&options.filter)
        .map_err(|error| format!("log.filter is not valid: {error}"))?;
    let json = match options.format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !std::io::stderr().is_terminal(),
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, in a test, leaves the first as it is.
    let _ = if json { logs.json().try_init() } else { logs.compact().try_init() };
    Ok(())
}

/// An error with its causes, in one line; a cause that only repeats it is left out.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
