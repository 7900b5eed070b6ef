//! Which node should have which shard: a function of who is there, so that all nodes find the same
//! without asking each other. It is only about speed and an even share; that no shard has two
//! writers is the journal's.
//!
//! Every shard has its favorite among the nodes (rendezvous hashing), and a node takes no more than
//! its share: what is too much goes to the next favorite. So when a node comes or goes, few shards
//! move that need not.

use std::collections::{BTreeMap, BTreeSet};

/// A node that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub id: String,
    /// It gives its shards away and takes no more.
    pub draining: bool,
    /// It has been there for a while. Until then it only gets what nobody else can have, so that
    /// nodes that come and go do not set everything in motion.
    pub settled: bool,
}

/// A shard as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The shard.
    pub shard: u16,
    /// Who has it, as long as the lease stands.
    pub owner: Option<String>,
    /// The node that an operator wants it to be with.
    pub pinned_to: Option<String>,
}

/// A shard that should be with another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMove {
    /// The shard.
    pub shard: u16,
    /// Who has it now.
    pub from: Option<String>,
    /// Who should.
    pub to: String,
}

/// The node that each shard should be with; nothing where there is no node at all.
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

/// What would have to move for every shard to be where it should be.
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

/// Who can have shards: the settled ones that do not drain, or else any that does not, or else
/// any.
fn able(members: &[Member]) -> BTreeSet<&str> {
    let of = |fits: &dyn Fn(&Member) -> bool| -> BTreeSet<&str> {
        members.iter().filter(|member| fits(member)).map(|member| member.id.as_str()).collect()
    };
    let settled = of(&|member| member.settled && !member.draining);
    if settled.is_empty() { of(&|member| !member.draining) } else { settled }
}

/// How much a shard likes a node: FNV-1a of both, stirred.
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
    fn the_order_in_which_nodes_are_named_means_nothing() {
        let (one, other) = ([member("a"), member("b")], [member("b"), member("a")]);
        assert_eq!(wanted(&one, &holdings(None)), wanted(&other, &holdings(None)));
    }

    #[test]
    fn one_that_drains_or_has_just_come_gets_nothing_that_others_can_have() {
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
