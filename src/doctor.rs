//! The doctor: finds what is wrong with an installation, and suggests what to do about it.
//!
//! It repairs nothing. Deliberately not here: the invariants of orders, money and stock (`verify`),
//! and the output of findings (`cli`).

mod around;
mod folder;
mod inside;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

pub use self::inside::BACKUP_TAKEN_AT;
use crate::store::personal::MasterKeyText;
use crate::store::{DatabaseUrl, Store};
use crate::telemetry::chain;

/// The installation to check.
#[derive(Clone, Debug, Default)]
pub struct Installation {
    /// The data folder.
    pub data: PathBuf,
    /// The PostgreSQL database that the store is in, instead of the folder.
    pub store: Option<DatabaseUrl>,
    /// The master key of the settings.
    pub master_key: MasterKeyText,
    /// The address on which the server listens, or will listen; `None` to skip this check.
    pub listen: Option<SocketAddr>,
    /// The URL of the sandbox payment provider; `None` to skip this check.
    pub sandbox_psp: Option<String>,
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is wrong.
    Ok,
    /// Something may become a problem, or needs an operator.
    Warn,
    /// Something does not work, or will soon stop working.
    Bad,
}

/// The result of one check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// The severity.
    pub level: Severity,
    /// The result, in a sentence.
    pub message: String,
    /// What to do; `None` if nothing is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Severity::Ok, message: message.into(), advice: None }
    }

    fn warn(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        let (message, advice) = (message.into(), Some(advice.into()));
        Self { check, level: Severity::Warn, message, advice }
    }

    fn bad(check: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        let (message, advice) = (message.into(), Some(advice.into()));
        Self { check, level: Severity::Bad, message, advice }
    }
}

/// Makes all checks, and returns their results in a fixed order.
pub async fn examine(installation: &Installation) -> Vec<Finding> {
    let Installation { data, store: database, master_key, .. } = installation;
    let mut findings = match database {
        Some(_) => Vec::new(),
        None => folder::examine(data),
    };
    let mut store = None;
    if database.is_some() || data.is_dir() {
        let opened = match database {
            Some(address) => Store::connect_beside_with(address, master_key.clone()).await,
            None => Store::open_beside_with(data, master_key.clone()).await,
        };
        match opened {
            Ok(opened) => {
                findings.push(Finding::ok("version", "the store has the version of this program"));
                findings.extend(inside::examine(&opened, data).await);
                store = Some(opened);
            }
            Err(error) => {
                let advice = "follow the message; kontor serve creates a new store";
                findings.push(Finding::bad("store", chain(&error), advice));
            }
        }
    }
    findings.extend(around::examine(installation, store.as_ref()).await);
    if let Some(store) = store {
        store.close().await;
    }
    findings
}
