//! The live nodes, as clients find them: a request goes to a random one; if that node's process
//! dies meanwhile, there is no answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::process::SimulatedProcess;
use super::world::World;
use crate::actors::node::Node;

/// A node, and its process.
#[derive(Clone)]
pub struct One {
    /// The process.
    pub process: SimulatedProcess,
    /// The node.
    pub node: Arc<Node>,
}

/// All nodes that accept requests. Clones share them.
#[derive(Clone)]
pub struct Fleet {
    world: World,
    places: Arc<Mutex<Vec<Option<One>>>>,
}

impl Fleet {
    /// Slots for this many nodes, all empty.
    #[must_use]
    pub fn new(world: &World, nodes: usize) -> Self {
        Self { world: world.clone(), places: Arc::new(Mutex::new(vec![None; nodes])) }
    }

    fn places(&self) -> MutexGuard<'_, Vec<Option<One>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a node into its slot, or removes it.
    pub fn put(&self, place: usize, one: Option<One>) {
        if let Some(there) = self.places().get_mut(place) {
            *there = one;
        }
    }

    /// The node of a slot, if one runs there.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<One> {
        self.places().get(place).cloned().flatten()
    }

    /// All live nodes.
    #[must_use]
    pub fn all(&self) -> Vec<One> {
        self.places().iter().flatten().cloned().collect()
    }

    /// Whether every slot has a node.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.places().iter().all(Option::is_some)
    }

    /// A random live node.
    fn any(&self) -> Option<One> {
        let all = self.all();
        let drawn = if all.len() > 1 { self.world.chance(all.len() as u64) } else { 0 };
        all.get(usize::try_from(drawn).unwrap_or(0)).cloned()
    }

    /// Sends a request to a random live node; `None` if there is no node, or if the node dies
    /// before it answers.
    pub async fn through<T, F>(&self, work: impl FnOnce(Arc<Node>) -> F) -> Option<T>
    where
        F: Future<Output = T>,
    {
        let One { process, node } = self.any()?;
        let answer = work(node).await;
        process.alive().await;
        Some(answer)
    }
}
