//! The doctor: what is wrong with an installation, and what to do about it.
//!
//! It looks and tells; it repairs nothing. What deliberately is not here: whether orders, money and
//! stock are right, which is `verify`'s to say, and how findings are shown (`cli`).

mod around;
mod folder;
mod inside;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

pub use self::inside::BACKUP_TAKEN_AT;
use crate::store::{DatabaseUrl, Store};
use crate::telemetry::chain;

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub struct Installation {
    /// The data folder.
    pub data: PathBuf,
    /// The PostgreSQL database that the store is in, instead of the folder.
    pub store: Option<DatabaseUrl>,
    /// Where the server listens, or will.
    pub listen: Option<SocketAddr>,
    /// The sandbox payment provider's address.
    pub sandbox_psp: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth a look.
    Warn,
    /// Something does not work, or will not for long.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub level: Severity,
    /// How it is, in a sentence.
    pub message: String,
    /// What to do; nothing if it is well.
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

/// Everything that is looked at, in order.
pub async fn examine(installation: &Installation) -> Vec<Finding> {
    let Installation { data, store: database, .. } = installation;
    let mut findings = match database {
        Some(_) => Vec::new(),
        None => folder::examine(data),
    };
    let mut store = None;
    if database.is_some() || data.is_dir() {
        let opened = match database {
            Some(address) => Store::connect_beside(address).await,
            None => Store::open_beside(data).await,
        };
        match opened {
            Ok(opened) => {
                findings.push(Finding::ok("version", "the store has the version of this program"));
                findings.extend(inside::examine(&opened).await);
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
