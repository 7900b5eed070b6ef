//! Backups of the store, and what is left of those who were erased after a backup once it is restored.
//!
//! The backup is restored at the end of a run, into a store of its own, as `kontor restore --erased`
//! does: the erasures of the store that it replaces are added, and a node continues them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::process::SimulatedProcess;
use super::run::Environment;
use crate::actors::engine::fold::load;
use crate::actors::flows::payment::{self, Payments};
use crate::actors::node::{Node, NodeStart};
use crate::domain::entity::{EntityId, Noun as _};
use crate::domain::order::Order;
use crate::domain::sealed::KeyId;
use crate::store::erase_again::add_erasures;
use crate::store::memory::MemoryStore;
use crate::store::personal::StoredKey;
use crate::store::personal::erasure::Erasure;
use crate::store::{Error, Tables as _};

/// How often a node continues the erasures of a restored store, at most.
const ROUNDS: u32 = 5;
/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(2);

impl Environment {
    /// Backs the store up.
    pub(super) fn back_up(&self) {
        self.world.tell("operator", |line| write!(line, "backs the store up"));
        let mut backup = self.backup.lock().unwrap_or_else(PoisonError::into_inner);
        *backup = Some(self.tables.copy());
    }

    /// Restores the backup, and checks that all invariants hold in it, and that whoever was erased is
    /// not readable.
    pub(super) async fn check_restored(&self) {
        let backup = self.backup.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(store) = backup else { return };
        if let Err(error) = self.restore(&store).await {
            self.world.violate("a backup is restored", error);
        }
    }

    async fn restore(&self, store: &MemoryStore) -> Result<(), String> {
        let words = |error: Error| error.to_string();
        let erased = self.tables.erasures(false).await.map_err(words)?;
        let added = add_erasures(store, &erased).await.map_err(words)?;
        self.world.tell("operator", |line| {
            write!(line, "restores the backup; {added} of {} are to be erased again", erased.len())
        });
        let process = SimulatedProcess::alone(&self.world);
        let node = Node::start(NodeStart {
            store: Arc::new(store.clone()),
            // The provider knows what the backup does not: no order goes on.
            payments: Payments::new(Vec::new(), payment::Options::default()),
            cluster: None,
            ..self.start(&process)
        });
        let node = node.await.map_err(|error| error.to_string())?;
        for _ in 0..ROUNDS {
            // A round that fails is continued by the next one.
            let _again = node.flows.erasure.go_on_with_all().await;
            if store.erasures(true).await.map_err(words)?.is_empty() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        node.stop().await;
        self.checks.verify_store(&self.world, (store, None), true).await;
        for erasure in &erased {
            self.check_erased(store, erasure).await.map_err(words)?;
        }
        Ok(())
    }

    /// Checks that the keys of an erased person are destroyed, unless an order still needs them or is
    /// under a legal hold.
    async fn check_erased(&self, store: &MemoryStore, erasure: &Erasure) -> Result<(), Error> {
        let keys = store.keys_of_subject(&erasure.subject).await?;
        let made_before = |key: &&StoredKey| {
            key.id.parse().is_ok_and(|id: KeyId| id.made_at() <= erasure.erased_at)
        };
        let left: Vec<&StoredKey> = keys.iter().filter(made_before).collect();
        let carts: BTreeSet<&str> = left.iter().map(|key| key.entity.as_str()).collect();
        for cart in carts {
            let order = EntityId::new(&format!("{}_{}", Order::PREFIX, EntityId::new(cart).key()));
            let found = load::<Order>(&*store.journal(), &order, i64::MAX).await;
            let needs = |order: &Order| {
                order.placed().is_some() && (order.needs_buyer() || order.legal_hold().is_some())
            };
            if found.is_ok_and(|found| found.is_ok_and(|found| needs(&found.state))) {
                return Ok(());
            }
        }
        if let Some(key) = left.first() {
            let what = format!("the buyer of {} was erased at {}", key.entity, erasure.erased_at);
            self.world.violate("whoever was erased stays erased after a restore", what);
        }
        Ok(())
    }
}
