//! Checks of the store: that it is not damaged, that its projections are not far behind, that there
//! is a recent backup, and what needs an operator.

use std::path::Path;

use super::Finding;
use crate::actors::engine::clock::Clock;
use crate::actors::read_models;
use crate::domain::time::Span;
use crate::store::maintenance::Check;
use crate::store::personal::own_master::OwnMasterKey;
use crate::store::{Error, LIST_MAX, Store, order};
use crate::telemetry::chain;

/// The name of the stored value with the time of the last backup, in milliseconds since 1970.
pub const BACKUP_TAKEN_AT: &str = "backup_taken_at";
/// The number of events in one read of the journal.
const PAGE: u32 = 2_000;
/// A larger lag of the projections, in events, is a warning.
const BEHIND_MAX: i64 = 10_000;
/// An older last backup is a warning.
const BACKUP_AGE_MAX: Span = Span::from_secs(48 * 3600);
/// How far in the future an event's time may be, because the clocks of different machines differ.
const AHEAD_MAX: Span = Span::from_secs(60);

pub(super) async fn examine(store: &Store, data: &Path) -> Vec<Finding> {
    let own_key = match store.is_shared() {
        true => Some(("master", master(store).await)),
        false => None,
    };
    let looked = [
        ("file", check_integrity(store).await),
        ("schema", schema(store, data).await),
        ("events", events(store).await),
        ("rows", rows(store).await),
        ("backup", backup(store).await),
        ("clock", clock(store).await),
        ("webhooks", webhooks(store).await),
        ("letters", dead_letters(store).await),
        ("orders", stuck(store).await),
        ("keys", keys(store).await),
        ("people", people(store).await),
    ];
    let finding = |(check, looked): (&'static str, Result<Finding, Error>)| {
        looked.unwrap_or_else(|error| {
            let advice = "check the disk; if the database is damaged, restore a backup";
            Finding::bad(check, chain(&error), advice)
        })
    };
    looked.into_iter().chain(own_key).map(finding).collect()
}

async fn check_integrity(store: &Store) -> Result<Finding, Error> {
    let faults = store.check(Check::Full).await?;
    let sizes = store.sizes().await?;
    if store.is_shared() {
        let mib = sizes.database_bytes >> 20;
        return Ok(match faults.first() {
            Some(fault) => Finding::bad(
                "file",
                format!("events are missing: {fault}"),
                "stop all nodes, keep a copy of the database, and restore the last backup",
            ),
            None => Finding::ok(
                "file",
                format!("all shards are complete: {} events, {mib} MiB", sizes.events),
            ),
        });
    }
    Ok(match faults.first() {
        Some(fault) => Finding::bad(
            "file",
            format!("the database file is damaged: {fault}"),
            "stop the server, keep a copy of the folder, and restore the last backup",
        ),
        None => Finding::ok(
            "file",
            format!(
                "the database file is intact: {} events in {} MiB, and a write-ahead log of {} MiB",
                sizes.events,
                sizes.database_bytes >> 20,
                sizes.log_bytes >> 20
            ),
        ),
    })
}

/// Compares what the database declares with a new store.
async fn schema(store: &Store, data: &Path) -> Result<Finding, Error> {
    let faults = store.schema_faults().await?;
    if faults.is_empty() {
        return Ok(Finding::ok("schema", "the database declares what a store does, and no more"));
    }
    if !store.is_shared() {
        let message = format!("kontor restore would refuse a backup of this store: {faults}");
        let mend = faults.remedy(&data.join("kontor.db").to_string_lossy());
        let advice = format!("stop the server, keep a copy of the folder, and {mend}");
        return Ok(Finding::bad("schema", message, advice));
    }
    let advice = "drop what is not of kontor, unless you have made it: a trigger or a rule changes \
                  what servers write. What it lacks, or is disabled, the migrations of this version \
                  have (migrations/postgres)";
    let views = faults.foreign.iter().all(|one| one.kind.ends_with("view"));
    Ok(match views && faults.missing.is_empty() {
        true => Finding::warn("schema", faults.to_string(), advice),
        false => Finding::bad("schema", faults.to_string(), advice),
    })
}

/// Reads every event and compares it with its checksum.
async fn events(store: &Store) -> Result<Finding, Error> {
    let journal = store.journal();
    let (mut read, mut damaged, mut first) = (0, 0, None);
    for shard in store.shards().await? {
        let mut after = 0;
        loop {
            let page = journal.read_shard(shard.id, after, PAGE).await;
            let page = page.map_err(|error| Error::Refused(error.to_string()))?;
            let Some(last) = page.last() else { break };
            after = last.pos;
            read += page.len();
            for record in page.iter().filter(|record| !record.intact) {
                damaged += 1;
                first.get_or_insert((record.pos, record.entity.to_string()));
            }
        }
    }
    Ok(match first {
        None => Finding::ok("events", format!("the checksums of {read} events are correct")),
        Some((pos, entity)) => Finding::bad(
            "events",
            format!(
                "{damaged} of {read} events are damaged on disk; the first is at position {pos}, \
                 of {entity}"
            ),
            "keep a copy of the folder, and restore the last backup; until then the entities of \
             these events are in quarantine, and all others go on",
        ),
    })
}

async fn rows(store: &Store) -> Result<Finding, Error> {
    let cursors = read_models::all().reached(store).await?;
    let behind = store.shards().await?.iter().fold(0, |behind, shard| {
        behind + (shard.last_pos - cursors.get(&shard.id).copied().unwrap_or(0)).max(0)
    });
    let message = format!("projections are {behind} events behind the journal");
    Ok(if behind > BEHIND_MAX {
        let advice = "start the server, and look in its log for `rows of a projection are refused` and \
                      `rows fall behind`";
        Finding::warn("rows", message, advice)
    } else {
        Finding::ok("rows", message)
    })
}

async fn backup(store: &Store) -> Result<Finding, Error> {
    if store.is_shared() {
        let message = "backups of PostgreSQL (pg_dump, or its archive) are not checked";
        return Ok(Finding::ok("backup", message));
    }
    let taken = store.setting(BACKUP_TAKEN_AT).await?.and_then(|text| text.parse::<i64>().ok());
    let advice = "kontor backup --to FILE, every night, to another machine";
    Ok(match taken {
        None => Finding::warn("backup", "no backup was ever taken", advice),
        Some(taken) => {
            let age = Clock::system().now().millis() - taken;
            let message = format!("the last backup is {} hours old", age / 3_600_000);
            if age > BACKUP_AGE_MAX.millis() {
                Finding::warn("backup", message, advice)
            } else {
                Finding::ok("backup", message)
            }
        }
    })
}

async fn clock(store: &Store) -> Result<Finding, Error> {
    let now = Clock::system().now();
    let journal = store.journal();
    for shard in store.shards().await? {
        let after = (shard.max_pos - 1).max(0);
        let read = journal.read_shard(shard.id, after, 1).await;
        let last = read.map_err(|error| Error::Refused(error.to_string()))?;
        if let Some(last) = last.first().filter(|last| last.at > now + AHEAD_MAX) {
            return Ok(Finding::bad(
                "clock",
                format!("the last event's time, {}, is in the future", last.at),
                "correct the machine's clock (timedatectl): holds and deadlines depend on it",
            ));
        }
    }
    Ok(Finding::ok("clock", "no event is in the future"))
}

async fn webhooks(store: &Store) -> Result<Finding, Error> {
    let parked = store.parked_webhooks(0, LIST_MAX).await?;
    Ok(match parked.last() {
        None => Finding::ok("webhooks", "no webhook is parked"),
        Some(last) => Finding::warn(
            "webhooks",
            format!(
                "{} webhooks or payments match no order; the last: {}",
                parked.len(),
                last.webhook.reason
            ),
            "see GET /v1/admin/webhooks: a webhook is retried for 43 minutes; settle the rest at the \
             provider, then POST /v1/admin/webhooks/{id}/retry, or DELETE it",
        ),
    })
}

async fn dead_letters(store: &Store) -> Result<Finding, Error> {
    let letters = store.dead_letters(0, LIST_MAX).await?;
    Ok(match letters.first() {
        None => Finding::ok("letters", "there are no dead letters"),
        Some(first) => Finding::bad(
            "letters",
            format!(
                "projections could not read {} events; the first is of {}: {}",
                letters.len(),
                first.entity,
                first.reason
            ),
            "kontor verify gives details; once the cause is fixed, for example by an upgrade, \
             POST /v1/admin/dead-letters/replay rebuilds all rows",
        ),
    })
}

async fn stuck(store: &Store) -> Result<Finding, Error> {
    let status = vec!["stuck".to_owned()];
    let filter = order::Filter { status, limit: LIST_MAX, ..order::Filter::default() };
    let stuck = store.orders(&filter).await?;
    Ok(match stuck.first() {
        None => Finding::ok("orders", "no order needs an operator"),
        Some(first) => {
            let why = first.alert.as_deref().or(first.stuck_reason.as_deref()).unwrap_or("stuck");
            Finding::warn(
                "orders",
                format!("{} orders need an operator; the last is {}: {why}", stuck.len(), first.id),
                "look at each (GET /v1/admin/orders?status=stuck), then retry, skip or cancel it",
            )
        }
    })
}

/// Opens every key of personal data.
async fn people(store: &Store) -> Result<Finding, Error> {
    if let Err(unknown) = store.people().master() {
        return Ok(match store.keys_behind(None, 1).await?.len() {
            0 => Finding::ok("people", "there are no keys of personal data"),
            _ => Finding::bad(
                "people",
                format!("the keys of personal data cannot be checked: {unknown}"),
                "without it a server does not start on this store, and nobody can read its personal \
                 data",
            ),
        });
    }
    let (mut read, mut unopened, mut first) = (0, 0, None);
    let mut after = None;
    loop {
        let page = store.keys_behind(after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        read += page.len();
        for error in page.iter().filter_map(|key| store.people().unwrap(key).err()) {
            unopened += 1;
            first.get_or_insert(error);
        }
    }
    Ok(match first {
        None => Finding::ok("people", format!("{read} keys of personal data can be opened")),
        Some(first) => {
            let message = format!(
                "{unopened} of {read} keys of personal data cannot be opened; the first: {first}"
            );
            let advice = match first {
                Error::Locked(_) => {
                    "give the doctor the master key that the servers have: nothing is damaged if it \
                     opens them. If this is that key, restore the rows of personal_key from the last \
                     backup"
                }
                _ => "restore the rows of personal_key from the last backup",
            };
            Finding::bad("people", message, advice)
        }
    })
}

/// Names a database that keeps its own master key.
async fn master(store: &Store) -> Result<Finding, Error> {
    let own = store.own_master_key().await?;
    Ok(match own {
        OwnMasterKey::Unused => Finding::ok("master", own.meaning()),
        _ => Finding::warn("master", own.meaning(), OwnMasterKey::REMEDY),
    })
}

async fn keys(store: &Store) -> Result<Finding, Error> {
    let keys = store.keys().await?;
    let live: Vec<_> = keys.iter().filter(|key| key.revoked_at.is_none()).collect();
    Ok(if live.iter().any(|key| key.scopes.iter().any(|scope| scope == "admin")) {
        Finding::ok("keys", format!("{} API keys are active", live.len()))
    } else {
        let advice = "kontor key create --scope admin";
        Finding::warn("keys", "there is no API key for the admin API", advice)
    })
}
