//! The targets for files: settings and imports.

use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use kontor_lab::import::rows::{COLUMNS, FileFormat, read};

use super::split;
use crate::config::{Config, load};

/// If the first byte is even, the rest is a `config.toml`. Otherwise it is `NAME=value`, for the
/// environment variable `KONTOR__NAME`.
pub(super) fn config(bytes: &[u8]) {
    let (way, bytes) = split(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let config = if way % 2 == 0 {
        let defaults = Figment::from(Serialized::defaults(Config::default()));
        defaults.merge(Toml::string(text)).extract::<Config>().map_err(|error| error.to_string())
    } else {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.ends_with("_FILE") {
            return;
        }
        let variable = [(format!("KONTOR__{name}"), value.to_owned())];
        let loaded = load(None, variable.into_iter(), &[]);
        loaded.map(|loaded| loaded.config).map_err(|error| error.to_string())
    };
    match config {
        Err(told) => assert!(!told.is_empty(), "a wrong setting is told without a word"),
        Ok(config) => {
            if let Err(faults) = config.check() {
                assert!(faults.to_string().contains(" is "), "{faults}");
                return;
            }
            let shown = serde_json::to_value(&config).unwrap_or_default();
            let again = serde_json::from_value::<Config>(shown);
            assert!(again.is_ok_and(|again| again == config), "it is shown as another one");
        }
    }
}

/// The first byte selects the format; the rest is the file.
pub(super) fn import(bytes: &[u8]) {
    let (format, bytes) = split(bytes);
    let format = match format % 3 {
        0 => FileFormat::Csv,
        1 => FileFormat::Jsonl,
        _ => FileFormat::OnlineRetail,
    };
    let Ok(rows) = read(bytes, format, "main") else { return };
    let mut last = 0;
    for row in rows.take(10_000) {
        // The file itself cannot be read further, for example because it is truncated.
        let Ok(row) = row else { break };
        if format != FileFormat::OnlineRetail {
            assert!(row.line > last, "line {} comes after line {last}", row.line);
            last = row.line;
        }
        match row.body {
            Ok(body) => {
                assert!(!body.product.sku.is_empty() && body.product.name.as_deref() != Some(""));
                assert!(body.on_hand.is_none_or(|units| units >= 0), "{body:?}");
            }
            Err(faults) => {
                assert!(!faults.is_empty(), "a row is refused without a reason");
                for fault in faults {
                    assert!(!fault.message.is_empty(), "{fault:?}");
                    let known = COLUMNS.contains(&&*fault.field) || fault.field == "row";
                    assert!(known || format == FileFormat::Jsonl, "{fault:?} names no column");
                }
            }
        }
    }
}
