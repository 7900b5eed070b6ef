//! Bounds on the security events that strangers cause: who makes requests in a loop must not fill the
//! log. Of each kind, the first events of an address and of all addresses are logged in full. The
//! others are counted, and the summary of a period says how many there were, and from where.

use std::collections::HashMap;
use std::hash::Hash;

/// The most events of a kind from one address that are logged in full, in a period.
pub const OF_ADDRESS: u64 = 10;
/// The most events of a kind that are logged in full, in a period.
pub const OF_KIND: u64 = 200;
/// The most addresses of a kind that are counted apart.
const ADDRESSES: usize = 1_000;
/// The most addresses of a kind that have a line of their own in a summary.
pub const SUMMARIES: usize = 50;

/// The events of a period.
#[derive(Debug)]
pub struct Flood<K>(HashMap<K, OfKind>);

impl<K> Default for Flood<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

#[derive(Debug, Default)]
struct OfKind {
    logged: u64,
    addresses: HashMap<String, Counts>,
    /// Events from addresses that are not counted apart.
    rest: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    logged: u64,
    more: u64,
}

/// Events that were not logged in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct More<K> {
    /// Their kind.
    pub kind: K,
    /// Their address; `None` for all that have no line of their own.
    pub from: Option<String>,
    /// Their number.
    pub count: u64,
}

impl<K: Copy + Eq + Hash> Flood<K> {
    /// Counts an event; whether it is to be logged in full.
    pub fn admits(&mut self, kind: K, from: &str) -> bool {
        let of = self.0.entry(kind).or_default();
        if !of.addresses.contains_key(from) {
            if of.addresses.len() >= ADDRESSES {
                of.rest += 1;
                return false;
            }
            of.addresses.insert(from.to_owned(), Counts::default());
        }
        let Some(counts) = of.addresses.get_mut(from) else { return false };
        let is_full = counts.logged >= OF_ADDRESS || of.logged >= OF_KIND;
        if is_full {
            counts.more += 1;
        } else {
            counts.logged += 1;
            of.logged += 1;
        }
        !is_full
    }

    /// Ends the period: what was not logged in full. Of each kind, the addresses with the most events
    /// have a line of their own.
    pub fn end(&mut self) -> Vec<More<K>> {
        let mut all = Vec::new();
        for (kind, of) in self.0.drain() {
            let mut of_addresses: Vec<(String, u64)> = of
                .addresses
                .into_iter()
                .map(|(from, counts)| (from, counts.more))
                .filter(|(_, more)| *more > 0)
                .collect();
            of_addresses
                .sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
            let others = of_addresses.split_off(of_addresses.len().min(SUMMARIES));
            let rest = of.rest + others.iter().map(|(_, more)| more).sum::<u64>();
            all.extend(of_addresses.into_iter().map(|(from, count)| More {
                kind,
                from: Some(from),
                count,
            }));
            if rest > 0 {
                all.push(More { kind, from: None, count: rest });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events that were logged in full, and what the summary says.
    fn period(flood: &mut Flood<char>, events: &[(char, &str, u64)]) -> (u64, Vec<More<char>>) {
        let mut logged = 0;
        for (kind, from, count) in events {
            logged += (0..*count).filter(|_| flood.admits(*kind, from)).count() as u64;
        }
        (logged, flood.end())
    }

    fn more(kind: char, from: &str, count: u64) -> More<char> {
        More { kind, from: Some(from.to_owned()), count }
    }

    #[test]
    fn each_address_and_kind_has_its_first_events_in_full_and_the_rest_as_a_number() {
        let mut flood = Flood::default();
        let (logged, mut summary) =
            period(&mut flood, &[('a', "x", 1_000), ('b', "x", 12), ('a', "y", 10)]);
        summary.sort_by_key(|more| more.kind);
        assert_eq!((logged, summary), (30, vec![more('a', "x", 990), more('b', "x", 2)]));
        assert_eq!(period(&mut flood, &[('a', "x", 11)]), (10, vec![more('a', "x", 1)]));
        assert_eq!(period(&mut flood, &[]), (0, Vec::new()));
    }

    #[test]
    fn many_addresses_have_bounded_lines_and_memory_and_none_of_their_events_is_lost() {
        let mut flood = Flood::default();
        let addresses: Vec<String> = (0..5_000).map(|number| format!("10.0.{number}")).collect();
        let mut logged = 0;
        for from in addresses.iter().chain(&addresses).chain(&addresses[..3]) {
            logged += u64::from(flood.admits('a', from));
        }
        assert_eq!(logged, OF_KIND);
        assert_eq!(flood.0[&'a'].addresses.len(), ADDRESSES);
        let summary = flood.end();
        assert_eq!(summary.len(), SUMMARIES + 1);
        assert_eq!(logged + summary.iter().map(|more| more.count).sum::<u64>(), 10_003);
        assert_eq!(summary.iter().filter(|more| more.from.is_none()).count(), 1);
    }
}
