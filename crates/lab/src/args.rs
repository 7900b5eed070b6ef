//! Arguments that several commands share: the server, the API key, and durations.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use kontor_client::{Client, Error};

/// An API key or a payment token, which is hidden in debug output and errors.
#[derive(Clone)]
pub struct HiddenArg(String);

impl HiddenArg {
    /// The secret itself, for a header.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for HiddenArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl fmt::Debug for HiddenArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The server that a command uses, and the API key for it.
#[derive(Clone, Debug, clap::Args)]
pub struct TargetArgs {
    /// The server's URL
    #[arg(long, env = "KONTOR_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    /// An API key (see kontor key create)
    #[arg(long, env = "KONTOR_KEY", hide_env_values = true, value_name = "KEY")]
    pub key: HiddenArg,
}

impl TargetArgs {
    /// Creates a client for this server, with this API key.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Key`] and [`Error::Setup`].
    pub fn client(&self) -> Result<Client, Error> {
        Client::new(&self.url, Some(self.key.reveal().to_owned()))
    }
}

/// Parses a duration: `500ms`, `30s`, `5m`, `1h`. A number without a unit is in seconds.
///
/// # Errors
/// The expected format.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number and a unit, for example 500ms, 30s or 5m".to_owned();
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_key() {
        let target = TargetArgs { url: String::new(), key: "sk_hidden".parse().unwrap() };
        assert!(!format!("{target:?}").contains("sk_hidden"));
    }
}
