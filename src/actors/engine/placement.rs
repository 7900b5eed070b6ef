//! Placement: which node should own which shard. It is a pure function of the members and the
//! shards, so that all nodes compute the same without communication. It affects only speed and an
//! even share of the load; the journal guarantees that no shard has two writers.
//!
//! Rendezvous hashing ranks the nodes for every shard, and no node gets more than its share, except
//! of pinned shards: a surplus shard goes to the next node in its ranking. So when a node joins or
//! leaves, few shards move without need.

use std::collections::{BTreeMap, BTreeSet};

/// A live node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub id: String,
    /// The node hands over its shards and gets no new ones.
    pub draining: bool,
    /// The node has been alive for `cluster.settle_ms`. Before that it gets only shards that no
    /// other node can take, so that nodes that restart often do not move shards all the time.
    pub settled: bool,
}

/// A shard and its current owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The shard.
    pub shard: u16,
    /// The owner, if its lease is valid.
    pub owner: Option<String>,
    /// The node to which an operator has pinned it.
    pub pinned_to: Option<String>,
}

/// A shard that should have another owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMove {
    /// The shard.
    pub shard: u16,
    /// Its current owner.
    pub from: Option<String>,
    /// The node that should own it.
    pub to: String,
}

/// The node that should own each shard; empty if no node can get shards.
#[must_use]
pub fn wanted(members: &[Member], holdings: &[Holding]) -> BTreeMap<u16, String> {
    let able = able(members);
    let Some(share) = holdings.len().checked_div(able.len()) else {
        return BTreeMap::new();
    };
    let share = share + usize::from(!holdings.len().is_multiple_of(able.len()));
    let mut loads: BTreeMap<&str, usize> = able.iter().map(|id| (*id, 0)).collect();
    let mut wanted = BTreeMap::new();
    let (pinned, free): (Vec<_>, Vec<_>) = holdings
        .iter()
        .partition(|holding| holding.pinned_to.as_deref().is_some_and(|id| able.contains(id)));
    for holding in pinned {
        if let Some(id) = &holding.pinned_to {
            *loads.entry(id).or_default() += 1;
            wanted.insert(holding.shard, id.clone());
        }
    }
    for holding in free {
        let mut favorites: Vec<&str> = able.iter().copied().collect();
        favorites.sort_unstable_by_key(|id| std::cmp::Reverse(score(id, holding.shard)));
        let room = |id: &&&str| loads.get(**id).is_some_and(|load| *load < share);
        let found = favorites.iter().find(room).or(favorites.first()).copied();
        if let Some(id) = found {
            *loads.entry(id).or_default() += 1;
            wanted.insert(holding.shard, id.to_owned());
        }
    }
    wanted
}

/// The moves after which every shard has the owner that it should have.
#[must_use]
pub fn plan(members: &[Member], holdings: &[Holding]) -> Vec<ShardMove> {
    let wanted = wanted(members, holdings);
    let moved = holdings.iter().filter_map(|holding| {
        let to = wanted.get(&holding.shard)?;
        (holding.owner.as_ref() != Some(to)).then(|| ShardMove {
            shard: holding.shard,
            from: holding.owner.clone(),
            to: to.clone(),
        })
    });
    moved.collect()
}

/// The nodes that can get shards: the settled ones that do not drain, or, if there are none, all
/// that do not drain.
fn able(members: &[Member]) -> BTreeSet<&str> {
    let of = |fits: &dyn Fn(&Member) -> bool| -> BTreeSet<&str> {
        members.iter().filter(|member| fits(member)).map(|member| member.id.as_str()).collect()
    };
    let settled = of(&|member| member.settled && !member.draining);
    if settled.is_empty() { of(&|member| !member.draining) } else { settled }
}

/// The rank of a node for a shard: FNV-1a of both, mixed.
fn score(id: &str, shard: u16) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in id.bytes().chain(shard.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str) -> Member {
        Member { id: id.to_owned(), draining: false, settled: true }
    }

    fn holdings(owner: Option<&str>) -> Vec<Holding> {
        let owner = owner.map(str::to_owned);
        (0..64).map(|shard| Holding { shard, owner: owner.clone(), pinned_to: None }).collect()
    }

    fn settle(members: &[Member], holdings: &mut [Holding]) -> usize {
        let moves = plan(members, holdings);
        for one in &moves {
            holdings[usize::from(one.shard)].owner = Some(one.to.clone());
        }
        moves.len()
    }

    fn loads(holdings: &[Holding]) -> BTreeMap<&str, usize> {
        let mut loads = BTreeMap::new();
        for owner in holdings.iter().filter_map(|holding| holding.owner.as_deref()) {
            *loads.entry(owner).or_insert(0) += 1;
        }
        loads
    }

    #[test]
    fn shards_are_shared_evenly_and_few_move_when_a_node_comes_or_goes() {
        let mut members = vec![member("a"), member("b"), member("c")];
        let mut all = holdings(None);
        assert_eq!(settle(&members, &mut all), 64);
        assert!(loads(&all).values().all(|load| (20..=22).contains(load)), "{:?}", loads(&all));
        assert_eq!(settle(&members, &mut all), 0, "it is at rest");

        members.push(member("d"));
        let moved = settle(&members, &mut all);
        assert!((16..=28).contains(&moved), "{moved}");
        assert_eq!(loads(&all)["d"], 16);

        members.remove(0);
        let moved = settle(&members, &mut all);
        assert!((16..=28).contains(&moved), "{moved}");
        assert!(loads(&all).values().all(|load| (20..=22).contains(load)), "{:?}", loads(&all));
    }

    #[test]
    fn placement_ignores_the_order_of_nodes() {
        let (one, other) = ([member("a"), member("b")], [member("b"), member("a")]);
        assert_eq!(wanted(&one, &holdings(None)), wanted(&other, &holdings(None)));
    }

    #[test]
    fn draining_and_new_nodes_get_only_shards_nobody_else_can_take() {
        let fresh = |id| Member { settled: false, ..member(id) };
        let draining = |id| Member { draining: true, ..member(id) };
        let targets = |members: &[Member]| -> BTreeSet<String> {
            wanted(members, &holdings(None)).into_values().collect()
        };
        assert_eq!(targets(&[member("a"), fresh("b"), draining("c")]), ["a".to_owned()].into());
        assert_eq!(targets(&[fresh("b"), draining("c")]), ["b".to_owned()].into());
        assert_eq!(targets(&[draining("c")]), BTreeSet::new());
        assert_eq!(targets(&[]), BTreeSet::new());
    }

    #[test]
    fn a_pinned_shard_is_where_it_was_pinned_to_while_that_node_can_have_it() {
        let mut all = holdings(Some("a"));
        for holding in &mut all[..40] {
            holding.pinned_to = Some("b".into());
        }
        let wanted_now = wanted(&[member("a"), member("b")], &all);
        assert!((0..40).all(|shard| wanted_now[&shard] == "b"));
        assert!((40..64).all(|shard| wanted_now[&shard] == "a"), "b has its share");
        let away = wanted(&[member("a")], &all);
        assert!(away.values().all(|id| id == "a"));
    }
}
