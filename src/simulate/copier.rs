//! A client that copies the shop by its changes: it reads page after page, each through another
//! node, while nodes die and shards move. It must get every event once, in the order of its entity,
//! and with each change a row that is not older.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fleet::{Fleet, One};
use super::world::World;
use crate::actors::engine::change_pages::{ChangePage, Error, PageTopic, read_page};
use crate::actors::engine::projections::Projection as _;
use crate::actors::order_rows::OrderRows;
use crate::actors::stock_rows::StockRows;
use crate::domain::entity::{EntityId, Noun as _};
use crate::domain::location::StockLocation;
use crate::domain::order::Order;
use crate::domain::product::Product;
use crate::domain::stock::{self, Stock};
use crate::domain::versioned::Versioned as _;
use crate::store::list_page::page;
use crate::store::versioned::{VersionedRow, list_behind};
use crate::store::{LIST_MAX, Tables, order};

/// The topics that are copied.
const TOPICS: [PageTopic; 4] = [
    PageTopic { prefix: Order::PREFIX, projection: Some(OrderRows::NAME) },
    PageTopic { prefix: Stock::PREFIX, projection: Some(StockRows::NAME) },
    PageTopic { prefix: Product::PREFIX, projection: None },
    PageTopic { prefix: StockLocation::PREFIX, projection: None },
];
/// The most changes of a page: so few that most pages are full.
const LIMIT: usize = 3;
/// The pause between two pages.
const PAUSE: Duration = Duration::from_millis(700);

/// The copy, and where it goes on.
#[derive(Default)]
struct Copy {
    seen: Vec<i64>,
    pages: usize,
    /// The last event of each entity, and the version of its last row.
    entities: BTreeMap<EntityId, (i64, i64)>,
    /// The entities with an event that gives them a row: what only releases units that it never had
    /// has none.
    listed: BTreeSet<EntityId>,
}

/// The client. Clones share the copy, which outlives the machine.
#[derive(Clone)]
pub struct Copier {
    world: World,
    copy: Arc<Mutex<Copy>>,
}

/// A page, and the version of every row.
type Copied = (ChangePage, BTreeMap<EntityId, i64>);

impl Copier {
    /// A client that has copied nothing from a store with this many shards.
    pub fn new(world: &World, shards: u16) -> Self {
        let copy = Copy { seen: vec![0; shards.into()], ..Copy::default() };
        Self { world: world.clone(), copy: Arc::new(Mutex::new(copy)) }
    }

    fn copy(&self) -> MutexGuard<'_, Copy> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads pages through one node after the other, until the time `until`.
    pub async fn follow(self, fleet: Fleet, until: i64) {
        while self.world.elapsed() < until {
            tokio::time::sleep(PAUSE).await;
            let (all, pages) = (fleet.all(), self.copy().pages);
            let Some(One { process, node }) = all.get(pages % all.len().max(1)) else { continue };
            // A client whose node dies, or cannot read, asks the next one.
            self.copy().pages += 1;
            if let Some(Ok(copied)) = process.answers(self.read(node.store.as_ref())).await {
                self.take(copied);
            }
        }
    }

    /// Reads the rest, once nothing is in progress any more, and compares the copy with the journal.
    pub async fn finish(&self, tables: &dyn Tables) -> Result<(), Error> {
        loop {
            let copied = self.read(tables).await?;
            let more = copied.0.more;
            self.take(copied);
            if !more || self.world.violation().is_some() {
                break;
            }
        }
        let journal = tables.journal();
        let mut last = BTreeMap::new();
        for shard in 0..journal.shards() {
            for record in journal.read_shard(shard, 0, u32::MAX).await? {
                if TOPICS.iter().any(|topic| topic.prefix == record.entity.prefix()) {
                    last.insert(record.entity, (record.seq, record.seq));
                }
            }
        }
        let missing = last.iter().find(|(id, end)| self.copy().entities.get(*id) != Some(end));
        if let Some((entity, (seq, _))) = missing {
            let copied = self.copy().entities.get(entity).copied();
            let what = format!("{entity} has {seq} events, its last event and row are {copied:?}");
            self.world.violate("a copy by the changes is complete", what);
        }
        Ok(())
    }

    async fn read(&self, tables: &dyn Tables) -> Result<Copied, Error> {
        let heads = tables.shards().await?.iter().map(|shard| shard.last_pos).collect();
        let from = self.copy().seen.clone();
        let page = read_page(tables, &TOPICS, (&from, heads), LIMIT).await?;
        Ok((page, versions(tables).await?))
    }

    fn take(&self, (page, versions): Copied) {
        let mut copy = self.copy();
        let Copy { entities, listed, .. } = &mut *copy;
        for (entity, events) in page.changes {
            let (last, row) = entities.entry(entity.clone()).or_default();
            for event in events {
                if event.seq != *last + 1 {
                    let what = format!("{entity} #{} follows #{last}", event.seq);
                    self.world.violate("the changes have every event once", what);
                }
                *last = event.seq;
                if entity.prefix() != Stock::PREFIX || &*event.kind != "released" {
                    listed.insert(entity.clone());
                }
            }
            *row = versions.get(&entity).copied().unwrap_or(0);
            if !listed.contains(&entity) {
                *row = *last;
            }
            if *row < *last {
                let what = format!("{entity}: event {last}, but its row has version {row}");
                self.world.violate("a row is not older than its change", what);
            }
        }
        copy.seen = page.seen;
    }
}

/// The version of every row.
async fn versions(tables: &dyn Tables) -> Result<BTreeMap<EntityId, i64>, Error> {
    let mut all = BTreeMap::new();
    for row in page::<order::Row>(tables, None, LIST_MAX).await? {
        all.insert(EntityId::new(&row.id), row.version);
    }
    for row in page::<crate::store::stock::Row>(tables, None, LIST_MAX).await? {
        all.insert(stock::entity_id(&row.sku), row.version);
    }
    add::<Product>(tables, &mut all).await?;
    add::<StockLocation>(tables, &mut all).await?;
    Ok(all)
}

async fn add<T: VersionedRow>(
    tables: &dyn Tables,
    all: &mut BTreeMap<EntityId, i64>,
) -> Result<(), Error> {
    for row in list_behind::<T>(tables, None, LIST_MAX).await? {
        all.insert(T::entity_id(row.value.key()), row.version);
    }
    Ok(())
}
