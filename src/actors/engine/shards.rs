//! What it means for a node to run a shard: its lane writes, its entities live, its rows are made,
//! and what was under way goes on. Which shards those are is `cluster`'s.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future;

use super::cluster::Cluster;
use super::host::Tenure;
use crate::actors::node::{Error, Node};
use crate::bus::{Call, Place, Relay, Source, follow};
use crate::domain::cart::Cart;
use crate::domain::counter::{self, Counter};
use crate::domain::entity::Record;
use crate::domain::entity::{EntityId, Noun as _};
use crate::domain::order::{self, Order};
use crate::domain::stock::Stock;
use crate::store::journal::{Fence, Journal};

/// Where the relay reads what it has not heard.
struct Committed(Arc<dyn Journal>);

#[async_trait]
impl Source for Committed {
    async fn read_shard(&self, shard: u16, after: i64, limit: u32) -> Result<Vec<Record>, String> {
        self.0.read_shard(shard, after, limit).await.map_err(|error| error.to_string())
    }

    async fn last_pos(&self, shard: u16) -> Result<i64, String> {
        self.0.last_pos(shard).await.map_err(|error| error.to_string())
    }
}

/// Orders that are woken at once.
const PAGE: u32 = 500;

impl Node {
    /// Runs a shard that was claimed, and goes on with what was under way.
    pub(in crate::actors) async fn open_shard(
        self: &Arc<Self>,
        fence: Fence,
        tenure: Tenure,
    ) -> Result<(), Error> {
        let shard = fence.shard;
        self.lanes.of(shard).own(fence);
        self.rows.iter().for_each(|rows| rows.open(shard, tenure.clone()));
        self.counters.open(shard, tenure.clone()).await?;
        self.stock.open(shard, tenure.clone()).await?;
        self.carts.open(shard, tenure.clone()).await?;
        self.orders.open(shard, tenure).await?;
        self.owned.own(shard);
        if let Some(relay) = self.relay.get() {
            relay.own(shard, fence.epoch.0);
        }
        let node = self.clone();
        tokio::spawn(async move {
            if let Err(error) = node.resume_shard(shard).await {
                tracing::warn!(%error, shard, "what was under way goes on when its timer is due");
            }
        });
        Ok(())
    }

    /// Finishes what a shard has been asked, and takes no more for it. It is disowned then.
    pub(in crate::actors) async fn finish_shard(&self, shard: u16) {
        future::join4(
            self.carts.close(shard),
            self.orders.close(shard),
            self.stock.close(shard),
            self.counters.close(shard),
        )
        .await;
        self.lanes.of(shard).flush().await;
    }

    /// Runs a shard no longer.
    pub(in crate::actors) fn disown_shard(&self, shard: u16) {
        self.lanes.of(shard).disown(shard);
        self.rows.iter().for_each(|rows| rows.close(shard));
        self.owned.disown(shard);
        if let Some(relay) = self.relay.get() {
            relay.disown(shard);
        }
    }

    /// Forgets a shard that another node has, or may have.
    pub(in crate::actors) fn abandon_shard(&self, shard: u16) {
        self.carts.abandon(shard);
        self.orders.abandon(shard);
        self.stock.abandon(shard);
        self.counters.abandon(shard);
        self.disown_shard(shard);
    }

    /// Whether this node runs a shard.
    #[must_use]
    pub fn runs(&self, shard: u16) -> bool {
        self.owned.has(shard)
    }

    /// Wakes every order of a shard that has something under way, and tells the counter what has
    /// arrived.
    async fn resume_shard(&self, shard: u16) -> Result<(), Error> {
        let journal = self.store.journal();
        let (mut woken, mut after): (usize, Option<EntityId>) = (0, None);
        let prefix = format!("{}_", Order::PREFIX);
        loop {
            let page = journal.timers_of(shard, &prefix, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else {
                break;
            };
            after = Some(last.entity.clone());
            for timer in &page {
                self.orders.wake(&timer.entity, false);
            }
            woken += page.len();
        }
        if woken > 0 {
            tracing::info!(shard, orders = woken, "orders that were under way go on");
        }
        if counter::order_numbers().shard(journal.shards()) == shard {
            self.resume_numbers().await;
        }
        Ok(())
    }

    /// Tells the counter of orders that have their number for good.
    async fn resume_numbers(&self) {
        let numbers = counter::order_numbers();
        let drawn = self.counters.look(&numbers, |view| view.state.open().clone()).await;
        for (order, number) in drawn.unwrap_or_default() {
            let arrived = self
                .orders
                .look(&order::entity_id(order), move |view| view.state.number() == Some(number))
                .await;
            if arrived == Ok(true) {
                self.numbers.arrived(order);
            }
        }
    }

    /// Relays what this node commits to the stream of all nodes, and hears there what the others
    /// do, if there is one.
    pub(in crate::actors) async fn relay(self: &Arc<Self>, cluster: &Cluster) {
        let Some(stream) = cluster.stream.clone() else {
            return;
        };
        let clock = self.clock.clone();
        let (relay, relaying) = Relay::start(
            stream.clone(),
            Arc::new(Committed(self.store.journal())),
            &self.feed,
            &cluster.bus,
            Arc::new(move || clock.now()),
            self.stop.clone(),
        );
        // An error means that there is one already.
        let _before = self.relay.set(relay);
        let owned = (self.owned.watch(), self.lanes.shards());
        let following = follow::start(stream, self.feed.clone(), owned, self.stop.clone());
        let mut work = self.work.lock().await;
        for task in [relaying, following] {
            work.spawn(async move { drop(task.await) });
        }
    }

    /// Answers another node that asks for an entity of this one.
    pub(in crate::actors) async fn answer_call(&self, call: Call, mut place: Place) -> Bytes {
        let Some(end) = call.body.iter().position(|byte| *byte == b'\n') else {
            return Bytes::new();
        };
        let (noun, body) = (&call.body[..end], &call.body[end + 1..]);
        let noun = std::str::from_utf8(noun).unwrap_or_default();
        let may_wait = || place.wait();
        let answer = match noun {
            Cart::PREFIX => self.carts.serve(body, may_wait).await,
            Order::PREFIX => self.orders.serve(body, may_wait).await,
            Stock::PREFIX => self.stock.serve(body, may_wait).await,
            Counter::PREFIX => self.counters.serve(body, may_wait).await,
            crate::actors::report::NOUN => serde_json::to_vec(&self.report()).unwrap_or_default(),
            _ => match self.rows.named(noun) {
                Some(rows) => rows.serve(body).await,
                None => {
                    tracing::error!(noun, from = call.from, "another node asks for the unknown");
                    Vec::new()
                }
            },
        };
        answer.into()
    }
}
