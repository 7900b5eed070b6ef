//! Logs, as text on a terminal and as JSON elsewhere, and the formatting of an error as one line.
//! Metrics are in `http::operator::metrics`.

mod flood;
pub mod security;

use std::io::IsTerminal as _;

use garde::Validate;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// Options of logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Options {
    /// What is logged: `error`, `warn`, `info`, `debug`, or `kontor::actors=debug,info`.
    #[garde(custom(log_filter))]
    pub filter: String,
    /// The format.
    pub format: LogFormat,
}

fn log_filter(filter: &str, (): &()) -> garde::Result {
    let wrong = |error| garde::Error::new(format!("must be a filter such as info: {error}"));
    EnvFilter::try_new(filter).map(drop).map_err(wrong)
}

impl Default for Options {
    fn default() -> Self {
        Self { filter: "info,actix_server=warn,async_nats=warn".into(), format: LogFormat::Auto }
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Text.
    Text,
    /// JSON, one object per line.
    Json,
}

/// The log filter of this process.
pub struct LogFilter(Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>);

impl LogFilter {
    /// Replaces the filter.
    ///
    /// # Errors
    /// The filter is not valid, with the reason; the previous filter stays in use.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        (self.0)(env_filter(filter)?)
    }
}

fn env_filter(filter: &str) -> Result<EnvFilter, String> {
    let read = EnvFilter::try_new(filter);
    let filter = read.map_err(|error| format!("log.filter is not valid: {error}"))?;
    [
        // It logs the values of parameters that it does not know, and one may be a mistyped password.
        "sqlx_postgres::options=off",
        // A line for each request that is none: strangers must not fill the log.
        "actix_http::h1::dispatcher=off",
    ]
    .into_iter()
    .try_fold(filter, |filter, silent| Ok(filter.add_directive(silent.parse()?)))
    .map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())
}

/// Starts logging to standard error. Only the first call in a process has an effect.
///
/// # Errors
/// The filter is not valid, with the reason.
pub fn start(options: &Options) -> Result<LogFilter, String> {
    let filter = env_filter(&options.filter)?;
    let json = match options.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    // If standard error is closed, the log is lost without a further message.
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // In tests, logging may be started again: `try_init` then fails, and nothing changes.
    Ok(if json {
        let logs = logs.json().with_filter_reloading();
        let handle = logs.reload_handle();
        let _ = logs.try_init();
        LogFilter(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())))
    } else {
        let logs = logs.compact().with_filter_reloading();
        let handle = logs.reload_handle();
        let _ = logs.try_init();
        LogFilter(Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())))
    })
}

/// Formats an error with its causes as one line. A cause whose text is already contained is left
/// out.
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
