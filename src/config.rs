//! All settings. The sources are defaults, `config.toml`, the environment and flags; a later source
//! overrides an earlier one.
//!
//! Each floor defines its own `Options`; this file only combines them. If the name of an
//! environment variable ends in `_FILE`, the value is read from the file that the variable names.
//! Generated secrets are not settings: the store keeps them. The valid values of each setting are
//! declared at its field; `check` reports all invalid values, and `mask` hides passwords.

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

pub use check::InvalidSetting;

use crate::actors::engine::{cluster, host};
use crate::actors::flows::payment;
use crate::actors::node;
use crate::domain::limits::{holds, within};
use crate::domain::masked_url::masked_url;
use crate::domain::pricing;
use crate::http::edge::faults::contains;
use crate::providers::challenge;
use crate::{bus, cache, http, store, telemetry};

/// The prefix of all environment variables.
const PREFIX: &str = "KONTOR__";
/// The file that is read by default; it may be missing.
pub const FILE: &str = "config.toml";

/// All settings of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct Config {
    /// What the server is for.
    pub profile: ServerProfile,
    /// The data folder.
    #[garde(dive)]
    pub data: Data,
    /// The HTTP server.
    #[garde(dive)]
    pub http: http::server::Options,
    /// Currency, locations, holds, deadlines and captures of the shop.
    #[garde(dive)]
    pub shop: node::ShopSettings,
    /// How prices are computed.
    #[garde(dive)]
    pub pricing: pricing::Rules,
    /// Retries of calls to payment providers, and the sweep.
    #[garde(dive)]
    pub payments: payment::Options,
    /// The sandbox payment provider.
    #[garde(dive)]
    pub sandbox: SandboxConfig,
    /// The hook that decides on suspicious checkouts.
    #[garde(dive)]
    pub challenge: challenge::Options,
    /// The limits of entities.
    #[garde(dive)]
    pub entities: host::Options,
    /// The node's name and address, its leases, and the hand-over of shards.
    #[garde(dive)]
    pub cluster: cluster::Options,
    /// The store: the PostgreSQL database and its replica, connections, lanes.
    #[garde(dive)]
    pub store: store::Options,
    /// Redis, and the cache in this process.
    #[garde(dive)]
    pub cache: cache::Options,
    /// NATS, calls between nodes, and the stream of events.
    #[garde(dive)]
    pub bus: bus::Options,
    /// The filter and the format of logs.
    #[garde(dive)]
    pub log: telemetry::Options,
}

/// What a server is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerProfile {
    /// A shop for tests.
    #[default]
    Development,
    /// A shop with real money: the sandbox payment provider is refused.
    Production,
}

/// The settings of the data folder.
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

/// The settings of the sandbox payment provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxConfig {
    /// The provider's URL; empty for none.
    #[garde(custom(sandbox_address))]
    pub url: String,
    /// The timeout of one call, in milliseconds.
    #[garde(custom(within(1..=600_000)))]
    pub timeout_ms: u64,
    /// The circuit breaker of calls to the provider.
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

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is unknown, or its value has the wrong type; the message names the setting and the
    /// source of its value.
    #[error("the configuration is not valid: {0}")]
    Invalid(String),
    /// All values that have the right type but are invalid.
    #[error("the configuration is not valid:{}", lines(.0))]
    Faults(Vec<InvalidSetting>),
    /// A file is missing or cannot be read.
    #[error("{file} cannot be read: {error}")]
    File {
        /// The file.
        file: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
}

impl From<Box<figment::Error>> for Error {
    fn from(error: Box<figment::Error>) -> Self {
        Self::Invalid(mask::message(&error))
    }
}

fn lines(faults: &[InvalidSetting]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

impl Config {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Faults`], with all invalid values.
    pub fn check(&self) -> Result<(), Error> {
        let faults = check::faults(self);
        if faults.is_empty() { Ok(()) } else { Err(Error::Faults(faults)) }
    }
}

/// A configuration, with the source of each value.
pub struct Loaded {
    /// The settings; those that cannot be read are at their defaults.
    pub config: Config,
    /// The settings that are unknown or cannot be read.
    unreadable: Vec<InvalidSetting>,
    figment: Figment,
}

/// Where a value came from.
fn source(figment: &Figment, path: &str) -> String {
    // A list is one value.
    let path = path.split('[').next().unwrap_or_default();
    match figment.find_metadata(path) {
        None => "default".into(),
        Some(metadata) => match &metadata.source {
            Some(figment::Source::File(file)) => file.display().to_string(),
            _ if metadata.name.contains("Config") => "default".into(),
            _ => metadata.name.to_string(),
        },
    }
}

/// Reads the configuration: first `file`, or `config.toml` in the working folder if it exists; then
/// the environment; then `flags`, by path (such as `http.listen`). A later source overrides an
/// earlier one. Valid values are checked later ([`Loaded::checked`]).
///
/// # Errors
/// [`Error`]: a setting is unknown or of the wrong type, or a file cannot be read.
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
    let (mut values, mut unread) = (Variables::default(), Vec::new());
    for (name, value) in environment {
        let Some(path) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let (path, value) = match path.strip_suffix("_FILE") {
            Some(path) => {
                let why = match std::fs::read_to_string(&value) {
                    Ok(text) if !text.trim_end().is_empty() => Ok(text.trim_end().to_owned()),
                    Ok(_) => Err("is empty".to_owned()),
                    Err(error) => Err(format!("cannot be read ({error})")),
                };
                match why {
                    Ok(text) => (path, text),
                    Err(why) => {
                        unread.push(no_file(&name, &path.to_lowercase(), &value, &why));
                        continue;
                    }
                }
            }
            None => (path, value),
        };
        let path = path.to_lowercase().replace("__", ".");
        if values.0.insert(path.clone(), value).is_some() {
            unread.push(set_twice(path, name.strip_suffix("_FILE").unwrap_or(&name)));
        }
    }
    figment = figment.merge(values);
    for (path, value) in flags {
        figment = figment.merge(Flag(path, value.clone()));
    }
    let values = figment.extract().map_err(Box::new)?;
    let (config, mut unreadable) = check::readable(values).map_err(Box::new)?;
    for fault in &mut unreadable {
        fault.source = Some(source(&figment, &fault.path));
    }
    unreadable.extend(unread);
    Ok(Loaded { config, unreadable, figment })
}

/// A path, without the secrets that it has if the value itself stands there.
fn shown_path(text: &str) -> String {
    let digits = text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits { "***".to_owned() } else { masked_url(text) }
}

/// The fault of a setting whose value is in a file that has none.
fn no_file(variable: &str, path: &str, file: &str, why: &str) -> InvalidSetting {
    InvalidSetting {
        path: path.replace("__", "."),
        found: format!("in the file {}, which {why}", shown_path(file)),
        wanted: "must be in a file that kontor may read".to_owned(),
        source: Some(format!("the environment variable {variable}")),
    }
}

/// The fault of a setting with a variable for its value and another for its file.
fn set_twice(path: String, variable: &str) -> InvalidSetting {
    InvalidSetting {
        path,
        found: "both as a value and in a file".to_owned(),
        wanted: "must be set by one variable".to_owned(),
        source: Some(format!("the environment variables {variable} and {variable}_FILE")),
    }
}

impl Loaded {
    /// The source of the value at a path: a file, the environment, a flag or the default.
    #[must_use]
    pub fn source(&self, path: &str) -> String {
        source(&self.figment, path)
    }

    /// All invalid values, each with its source.
    #[must_use]
    pub fn faults(&self) -> Vec<InvalidSetting> {
        let known = |fault: &InvalidSetting| {
            self.unreadable.iter().any(|known| contains(&known.path, &fault.path))
        };
        let mut faults = check::faults(&self.config);
        faults.retain(|fault| !known(fault));
        for fault in &mut faults {
            fault.source = Some(self.source(&fault.path));
        }
        self.unreadable.iter().cloned().chain(faults).collect()
    }

    /// The settings, if all of them are valid.
    ///
    /// # Errors
    /// [`Error::Faults`], with all invalid values, each with its source.
    pub fn checked(self) -> Result<Config, Error> {
        let faults = self.faults();
        if faults.is_empty() { Ok(self.config) } else { Err(Error::Faults(faults)) }
    }

    /// All values by path; passwords in URLs are hidden.
    ///
    /// # Errors
    /// Never, for a configuration that was loaded.
    pub fn values(&self) -> Result<BTreeMap<String, serde_json::Value>, serde_json::Error> {
        let mut values = BTreeMap::new();
        flatten("", masked_values(&self.config)?, &mut values);
        Ok(values)
    }
}

/// A configuration in which the passwords in URLs are hidden.
fn masked_values(config: &Config) -> Result<serde_json::Value, serde_json::Error> {
    let mut values = serde_json::to_value(config)?;
    mask::passwords(&mut values);
    // `bus.url` may contain several URLs, and the text before the @ may be a token instead of a
    // user.
    values["bus"]["url"] = bus::masked(&config.bus.url).into();
    mask::queries(&mut values, &["/challenge/url", "/store/heads/url"]);
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

/// Values of environment variables, by the path of their setting.
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

/// A command-line flag: the path of its setting, and its value.
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

/// Inserts a value at a path. The text is parsed as a number, a boolean or a list if possible,
/// unless the setting is a text.
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

    /// Addresses that are written wrongly, or where another value belongs.
    #[test]
    fn no_error_of_a_setting_shows_a_password() {
        let wrong = ["redis:/:s3cret@a", "nats//u:s3cret@a", "postgres://u:s3cret", "s3cret@a:1"];
        let params = ["postgres:/a/b?password=s3cret", "https//a?sslpassword=s3cret&x=1"];
        for address in wrong.into_iter().chain(params) {
            for name in [
                "STORE__URL",
                "STORE__REPLICA_URL",
                "CACHE__URL",
                "BUS__URL",
                "STORE",
                "SANDBOX__URL",
                "PROFILE",
                "HTTP__LISTEN",
                "STORE__SHARDS",
                "CACHE__POLL_MS",
            ] {
                let name = format!("KONTOR__{name}");
                let text = match load(None, environment(&[(&name, address)]), &[]) {
                    Ok(loaded) => {
                        let shown = format!("{:?}", loaded.values());
                        format!("{shown} {:?}", loaded.checked().map_err(|error| error.to_string()))
                    }
                    Err(error) => format!("{error} {error:?}"),
                };
                assert!(!text.contains("s3cret"), "{name} is {address}: {text}");
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kontor.toml");
        for text in [
            "[store]\nurl = \"postgres://u:s3cret@db/shop\nshards = 1\n",
            "[store]\nmaster_key = \"s3cret\n",
            "[store]\nmaster_key = [\"s3cret\"]\n",
            "[store]\nurl = [\"postgres://u:s3cret@db/shop\"]\n",
            "store = \"postgres://u:s3cret@db/shop\"\n",
        ] {
            std::fs::write(&file, text).unwrap();
            let error = match load(Some(&file), environment(&[]), &[]) {
                Ok(loaded) => loaded.checked().unwrap_err(),
                Err(error) => error,
            };
            let shown = format!("{error} {error:?} {}", crate::telemetry::chain(&error));
            assert!(!shown.contains("s3cret"), "{text}: {shown}");
        }
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
    fn all_settings_that_cannot_be_read_are_named_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kontor.toml");
        let text = "[shop]\nhold_secs = true\npayment_deadline_secs = 0\n\
                    [[pricing.delivery]]\nid = \"van\"\nname = \"Van\"\nprices = { GBP = 4.99 }\n";
        std::fs::write(&file, text).unwrap();
        let env = [
            ("KONTOR__ENTITIES__COMMANDS_MAX", "-5"),
            ("KONTOR__HTTP__LISTN", "x"),
            ("KONTOR__SHOP__CAPTURE", "never"),
        ];
        let loaded = load(Some(&file), environment(&env), &[]).unwrap();
        let error =
            loaded.checked().unwrap_err().to_string().replace(file.to_str().unwrap(), "FILE");
        let mut lines: Vec<&str> = error.lines().skip(1).map(str::trim).collect();
        lines.sort_unstable();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_wrong_or_unknown_value_is_named() {
        for (name, part) in [("KONTOR__HTTP__LISTN", "listn"), ("KONTOR__SHOP__HOLD_SECS", "hold")]
        {
            let loaded = load(None, environment(&[(name, "soon")]), &[]).unwrap();
            let error = loaded.checked().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dir");
        std::fs::write(&file, "there").unwrap();
        let both =
            [("KONTOR__DATA__DIR_FILE", file.to_str().unwrap()), ("KONTOR__DATA__DIR", "here")];
        for variables in [both, [both[1], both[0]]] {
            let loaded = load(None, environment(&variables), &[]).unwrap();
            let error = loaded.checked().unwrap_err().to_string();
            assert!(error.contains("KONTOR__DATA__DIR and KONTOR__DATA__DIR_FILE"), "{error}");
        }
        std::fs::write(&file, "\n").unwrap();
        let empty = load(None, environment(&both[..1]), &[]).unwrap();
        let error = empty.checked().unwrap_err().to_string();
        assert!(error.contains("data.dir") && error.contains("is empty"), "{error}");
        let missing = environment(&[("KONTOR__DATA__DIR_FILE", "/nowhere/at/all")]);
        let error = load(None, missing, &[]).unwrap().checked().unwrap_err().to_string();
        for part in ["data.dir", "/nowhere/at/all", "KONTOR__DATA__DIR_FILE"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
