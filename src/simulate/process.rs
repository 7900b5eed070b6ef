//! A simulated process, which runs one node from its start to its end. It records whether it is
//! dead, and until when it cannot reach the store. All calls of a dead process to its environment
//! wait forever, so it has no effect any more.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::plan::Bus;
use super::world::World;
use crate::bus::local::{CallLink, Fate};
use crate::store::memory::StoreLink;

/// A process. Clones are handles on the same process.
#[derive(Clone)]
pub struct SimulatedProcess(Arc<Inner>);

struct Inner {
    world: World,
    name: String,
    /// It is the only process of the machine: its death ends this life of the machine.
    alone: bool,
    dead: AtomicBool,
    ended: Notify,
    stop: CancellationToken,
    /// The end of its disconnection from the store, in simulated milliseconds.
    cut_off_until: AtomicI64,
    bus: Bus,
}

impl SimulatedProcess {
    /// The only process of a machine.
    #[must_use]
    pub fn alone(world: &World) -> Self {
        Self::with(world, "node", true, Bus::default())
    }

    /// One of several processes, which call each other over a bus.
    #[must_use]
    pub fn among(world: &World, name: &str, bus: Bus) -> Self {
        Self::with(world, name, false, bus)
    }

    fn with(world: &World, name: &str, alone: bool, bus: Bus) -> Self {
        Self(Arc::new(Inner {
            world: world.clone(),
            name: name.to_owned(),
            alone,
            dead: AtomicBool::new(false),
            ended: Notify::new(),
            stop: CancellationToken::new(),
            cut_off_until: AtomicI64::new(0),
            bus,
        }))
    }

    /// Its node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The failure rates of its calls and relayed messages.
    #[must_use]
    pub fn bus(&self) -> Bus {
        self.0.bus
    }

    /// Cancelled when it dies.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// Kills it.
    pub fn die(&self, of: &str) {
        self.0.stop.cancel();
        if self.0.alone {
            return self.0.world.die(of);
        }
        if !self.0.dead.swap(true, Ordering::Relaxed) {
            self.0.world.tell(&self.0.name, |line| write!(line, "is killed {of}"));
            self.0.ended.notify_one();
        }
    }

    /// Whether it is dead.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::Relaxed) || self.0.world.is_dead()
    }

    /// Waits forever if it is dead.
    pub async fn alive(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// The result of `work`; `None` if the process dies first.
    pub async fn answers<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.0.stop.run_until_cancelled(work).await
    }

    /// Resolves when the process dies; only once, for one waiting task.
    pub async fn ended(&self) {
        self.0.ended.notified().await;
    }

    /// Disconnects the process from the store for `ms` milliseconds.
    pub fn cut_off(&self, ms: u64) {
        let until = self.0.world.elapsed() + i64::try_from(ms).unwrap_or(0);
        self.0.cut_off_until.fetch_max(until, Ordering::Relaxed);
        self.0.world.tell(&self.0.name, |line| {
            write!(
                line,
                "is cut off from the store for {ms} \
                                                             ms"
            )
        });
    }

    /// Waits until the process can reach the store.
    pub async fn reach_store(&self) {
        loop {
            self.alive().await;
            let left = self.0.cut_off_until.load(Ordering::Relaxed) - self.0.world.elapsed();
            match u64::try_from(left) {
                Ok(left) if left > 0 => tokio::time::sleep(Duration::from_millis(left)).await,
                _ => return,
            }
        }
    }
}

#[async_trait]
impl StoreLink for SimulatedProcess {
    async fn pass(&self) {
        self.reach_store().await;
    }
}

#[async_trait]
impl CallLink for SimulatedProcess {
    fn fate(&self) -> Fate {
        let Inner { world, bus, .. } = &*self.0;
        let ms = |most: u64| Duration::from_millis(world.chance(most));
        let late = world.happens(bus.late);
        Fate {
            way: ms(if late { 4_000 } else { 5 }),
            lost: world.happens(bus.lost),
            again: world.happens(bus.doubled).then(|| ms(2_000)),
            back: ms(5),
            unanswered: world.happens(bus.unanswered),
        }
    }

    async fn open(&self) {
        self.alive().await;
    }
}
