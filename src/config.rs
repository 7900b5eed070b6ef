//! All settings: defaults, then `config.toml`, then the environment, then flags.
//!
//! Each floor owns its own `Options`; here they only meet. Secrets are made and kept by the
//! store; a setting that names a file (`..._FILE` in the environment) is read from it. What each
//! setting may be stands beside it, how all that is wrong is told is in `check`, and what is not
//! shown of a setting in `mask`.

mod check;
mod mask;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use garde::Validate;
use serde::{Deserialize, Serialize};

pub use check::SettingFault;

use crate::actors::engine::{cluster, host};
use crate::actors::flows::payment;
use crate::actors::node;
use crate::domain::limits::{holds, within};
use crate::domain::pricing;
use crate::{bus, cache, http, store, telemetry};

/// What every variable of the environment begins with.
const PREFIX: &str = "KONTOR__";
/// The file that is read when none is named.
pub const FILE: &str = "config.toml";

/// All settings of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// What the server is for.
    pub profile: Use,
    /// The data folder.
    #[garde(dive)]
    pub data: Data,
    /// The HTTP server.
    #[garde(dive)]
    pub http: http::server::Options,
    /// How the shop is run.
    #[garde(dive)]
    pub shop: node::ShopSettings,
    /// How prices are computed.
    #[garde(dive)]
    pub pricing: pricing::Rules,
    /// How patient kontor is with payment providers.
    #[garde(dive)]
    pub payments: payment::Options,
    /// The sandbox payment provider.
    #[garde(dive)]
    pub sandbox: SandboxConfig,
    /// The limits of entities.
    #[garde(dive)]
    pub entities: host::Options,
    /// How a node lives among others.
    #[garde(dive)]
    pub cluster: cluster::Options,
    /// How the store is opened.
    #[garde(dive)]
    pub store: store::Options,
    /// Where what nodes share is kept.
    #[garde(dive)]
    pub cache: cache::Options,
    /// How nodes reach each other.
    #[garde(dive)]
    pub bus: bus::Options,
    /// Logs.
    #[garde(dive)]
    pub log: telemetry::Options,
}

/// What a server is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Trying things out.
    #[default]
    Development,
    /// Real money: what is only for trying things out is refused.
    Production,
}

/// Where the data is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The folder of the store.
    #[garde(custom(folder))]
    pub dir: PathBuf,
}

fn folder(dir: &Path, (): &()) -> garde::Result {
    holds(!dir.as_os_str().is_empty(), || "must name a folder")
}

impl Default for Data {
    fn default() -> Self {
        Self { dir: "data".into() }
    }
}

/// The sandbox payment provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxConfig {
    /// Where it listens; empty if there is none.
    #[garde(custom(sandbox_address))]
    pub url: String,
    /// How long to wait for an answer, in milliseconds.
    #[garde(custom(within(1..=600_000)))]
    pub timeout_ms: u64,
    /// When to stop asking for a while.
    #[garde(dive)]
    pub breaker: crate::providers::payment::BreakerOptions,
}

fn sandbox_address(url: &str, (): &()) -> garde::Result {
    let web = reqwest::Url::parse(url)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    holds(url.is_empty() || web, || "must be empty, or a URL such as http://127.0.0.1:8081")
}

impl Default for SandboxConfig {
    fn default() -> Self {
        let defaults = crate::providers::sandbox::Options::default();
        let (timeout_ms, breaker) = (defaults.timeout_ms, defaults.breaker);
        Self { url: String::new(), timeout_ms, breaker }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value is not what it should be; the message says which and where it came from.
    #[error("the configuration is not valid: {0}")]
    Invalid(#[from] Box<figment::Error>),
    /// Values that are read well and cannot be used; all of them.
    #[error("the configuration is not valid:{}", lines(.0))]
    Faults(Vec<SettingFault>),
    /// A named file is not there or cannot be read.
    #[error("{file} cannot be read: {error}")]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

fn lines(faults: &[SettingFault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

impl Config {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Faults`], with all that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let faults = check::faults(self);
        if faults.is_empty() { Ok(()) } else { Err(Error::Faults(faults)) }
    }
}

/// A configuration, and where each value came from.
pub struct Loaded {
    /// The settings.
    pub config: Config,
    figment: Figment,
}

/// Reads the configuration: `file`, or `config.toml` here if there is one; then the environment;
/// then `flags`, by their path (`http.listen`).
///
/// # Errors
/// [`Error`]: an unknown or wrong value, or a file that cannot be read.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[(&str, String)],
) -> Result<Loaded, Error> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    let place = file.unwrap_or(Path::new(FILE));
    let found = std::fs::metadata(place).and_then(|found| match found.is_dir() {
        true => Err(std::io::ErrorKind::IsADirectory.into()),
        false => Ok(()),
    });
    match found {
        Err(error) if file.is_some() || error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::File { file: place.into(), error });
        }
        Err(_) => {}
        Ok(()) => figment = figment.merge(Toml::file_exact(place)),
    }
    let mut values = Variables::default();
    for (name, value) in environment {
        let Some(path) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let (path, value) = match path.strip_suffix("_FILE") {
            Some(path) => {
                let file = PathBuf::from(value);
                let text =
                    std::fs::read_to_string(&file).map_err(|error| Error::File { file, error })?;
                (path, text.trim_end().to_owned())
            }
            None => (path, value),
        };
        values.0.insert(path.to_lowercase().replace("__", "."), value);
    }
    figment = figment.merge(values);
    for (path, value) in flags {
        figment = figment.merge(Flag(path, value.clone()));
    }
    let config = figment.extract().map_err(Box::new)?;
    Ok(Loaded { config, figment })
}

impl Loaded {
    /// Where a value came from, by its path.
    #[must_use]
    pub fn source(&self, path: &str) -> String {
        match self.figment.find_metadata(path) {
            None => "default".into(),
            Some(metadata) => match &metadata.source {
                Some(figment::Source::File(file)) => file.display().to_string(),
                _ if metadata.name.contains("Config") => "default".into(),
                _ => metadata.name.to_string(),
            },
        }
    }

    /// All that is wrong with the values, and where each came from.
    #[must_use]
    pub fn faults(&self) -> Vec<SettingFault> {
        let mut faults = check::faults(&self.config);
        for fault in &mut faults {
            // A list is one value.
            let path = fault.path.split('[').next().unwrap_or_default();
            fault.source = Some(self.source(path));
        }
        faults
    }

    /// The settings, if all of them are good.
    ///
    /// # Errors
    /// [`Error::Faults`], with all that is wrong and where it came from.
    pub fn checked(self) -> Result<Config, Error> {
        let faults = self.faults();
        if faults.is_empty() { Ok(self.config) } else { Err(Error::Faults(faults)) }
    }

    /// All values by path, without the passwords of addresses.
    ///
    /// # Errors
    /// Never, for a configuration that was loaded.
    pub fn values(&self) -> Result<BTreeMap<String, serde_json::Value>, serde_json::Error> {
        let mut values = BTreeMap::new();
        flatten("", masked_values(&self.config)?, &mut values);
        Ok(values)
    }
}

/// A configuration as it may be shown: without the passwords of addresses.
fn masked_values(config: &Config) -> Result<serde_json::Value, serde_json::Error> {
    let mut values = serde_json::to_value(config)?;
    mask::passwords(&mut values);
    // Several addresses, and what stands before the @ may be a token.
    values["bus"]["url"] = bus::masked(&config.bus.url).into();
    Ok(values)
}

fn flatten(path: &str, value: serde_json::Value, into: &mut BTreeMap<String, serde_json::Value>) {
    match value {
        serde_json::Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                flatten(&path, value, into);
            }
        }
        value => {
            into.insert(path.to_owned(), value);
        }
    }
}

/// Variables of the environment, by path.
#[derive(Default)]
struct Variables(BTreeMap<String, String>);

impl Provider for Variables {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        for (path, text) in &self.0 {
            insert(&mut dict, path, text);
        }
        Ok(Profile::Default.collect(dict))
    }
}

/// A flag of the command line.
struct Flag<'a>(&'a str, String);

impl Provider for Flag<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named("flag")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        insert(&mut dict, self.0, &self.1);
        Ok(Profile::Default.collect(dict))
    }
}

/// Puts a text at a path: as a number, a truth value or a list where it reads as one, unless the
/// setting is a text.
fn insert(dict: &mut Dict, path: &str, text: &str) {
    static DEFAULTS: LazyLock<Option<Value>> =
        LazyLock::new(|| Value::serialize(Config::default()).ok());
    let default = DEFAULTS.as_ref().and_then(|all| all.find_ref(path));
    let value = match default {
        Some(Value::String(..)) => Value::from(text),
        _ => text.parse().unwrap_or_else(|_| Value::from(text)),
    };
    insert_value(dict, path, value);
}

fn insert_value(dict: &mut Dict, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(dict.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let entry = dict.entry(first.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = entry {
                insert_value(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
        let owned: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        owned.into_iter()
    }

    #[test]
    fn text_settings_accept_any_text() {
        for text in ["007", "true", "1.50", "[a]", "node-1"] {
            let pairs = [("KONTOR__CLUSTER__NODE", text), ("KONTOR__CLUSTER__URL", text)];
            let loaded = load(None, environment(&pairs), &[]).unwrap();
            assert_eq!(loaded.config.cluster.node, text);
            assert_eq!(loaded.config.cluster.url, text);
        }
    }

    #[test]
    fn configuration_file_is_here_and_a_file() {
        let folder = tempfile::tempdir().unwrap();
        for wrong in [folder.path(), &folder.path().join("none.toml")] {
            let error = load(Some(wrong), environment(&[]), &[]).err().unwrap();
            assert!(matches!(error, Error::File { .. }), "{error}");
        }
    }

    #[test]
    fn the_file_shows_every_option_at_its_default() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
        let text = std::fs::read_to_string(file).unwrap();
        let shown: String = text
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let loaded: Config = Figment::from(Toml::string(&shown)).extract().unwrap();
        assert_eq!(loaded, Config::default());
        let full: Dict = Figment::from(Toml::string(&shown)).extract().unwrap();
        let mut known = BTreeMap::new();
        flatten("", serde_json::to_value(Config::default()).unwrap(), &mut known);
        let mut there = BTreeMap::new();
        flatten("", serde_json::to_value(full).unwrap(), &mut there);
        let missing: Vec<_> = known.keys().filter(|path| !there.contains_key(*path)).collect();
        assert!(missing.is_empty(), "not in config.toml: {missing:?}");
    }

    #[test]
    fn later_sources_win_and_are_named() {
        let env = environment(&[("KONTOR__HTTP__LISTEN", "127.0.0.1:9"), ("OTHER", "x")]);
        let loaded = load(None, env, &[("data.dir", "/tmp/x".into())]).unwrap();
        assert_eq!(loaded.config.http.listen.to_string(), "127.0.0.1:9");
        assert_eq!(loaded.source("http.listen"), "environment");
        assert_eq!(loaded.config.data.dir, Path::new("/tmp/x"));
        assert_eq!(loaded.source("data.dir"), "flag");
        assert_eq!(loaded.source("shop.currency"), "default");
    }

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        let env = environment(&[("KONTOR__BUS__URL", "nats://u:secret@a:4222")]);
        let values = load(None, env, &[]).unwrap().values().unwrap();
        assert_eq!(values["bus.url"], "nats://***@a:4222");
    }

    #[test]
    fn invalid_values_are_reported_with_their_source() {
        let env = [("KONTOR__SHOP__HOLD_SECS", "0"), ("KONTOR__STORE__LANE__BATCH_APPENDS", "0")];
        let loaded = load(None, environment(&env), &[("http.backlog", "0".into())]).unwrap();
        let error = loaded.checked().unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().map(str::trim).collect();
        assert_eq!(lines.len(), 4, "{error}");
        assert_eq!(lines[1], "http.backlog is 0 (from flag): it must be from 1 to 65535");
        assert!(lines[2].starts_with("shop.hold_secs is 0 (from environment)"), "{error}");
    }

    #[test]
    fn a_wrong_or_unknown_value_is_named() {
        for (name, part) in [("KONTOR__HTTP__LISTN", "listn"), ("KONTOR__SHOP__HOLD_SECS", "hold")]
        {
            let error = load(None, environment(&[(name, "soon")]), &[]).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
        let missing = environment(&[("KONTOR__DATA__DIR_FILE", "/nowhere/at/all")]);
        assert!(load(None, missing, &[]).is_err());
    }
}
