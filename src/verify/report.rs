//! The report of a verification: counts, violations, and its text form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::domain::entity::{EntityId, Record};

/// The most violations that a report describes; all are counted.
pub const VIOLATIONS_MAX: usize = 100;
/// The most events that are printed below the first violation.
const EVENTS_PRINTED_MAX: usize = 20;
/// The most damaged heads that are printed.
const DAMAGED_PRINTED_MAX: usize = 10;
/// The most characters of an event's data that are printed.
const DATA_CHARS_MAX: usize = 1_000;

/// The invariants that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Invariant {
    /// Every acknowledged order exists with its content.
    I1,
    /// Nothing is done twice: one order per idempotency key, one capture per capture number, one
    /// order number per order.
    I2,
    /// The amounts in the journal, the amounts at the provider, and the amount due agree, and so do the
    /// prices of orders with those of products.
    I3,
    /// Stock adds up after every event, and orders have their units.
    I4,
    /// The journal has no gaps, and every entity with unfinished work has a timer.
    I5,
    /// Every projected row equals the fold of its events.
    I6,
    /// Who was erased cannot be read: the keys of their data are destroyed. Those of all other orders
    /// are not, and nobody is erased under a legal hold.
    I7,
    /// The digests of the events of each shard are a chain, up to the digest in the shard's row.
    I8,
}

impl Invariant {
    /// All invariants.
    pub const ALL: [Self; 8] =
        [Self::I1, Self::I2, Self::I3, Self::I4, Self::I5, Self::I6, Self::I7, Self::I8];
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The violated invariant.
    pub invariant: Invariant,
    /// The id of the entity, or of the provider's payment, or the name of the shard.
    pub entity: String,
    /// A description, in a sentence.
    pub message: String,
    /// The positions, in the shard of the entity, of the events that show the violation.
    pub positions: Vec<i64>,
}

/// What became of the signed heads that were kept outside of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeptHeads {
    /// The number of heads.
    pub given: u64,
    /// Those that were compared with the chains of events; one that differs is a violation.
    pub compared: u64,
    /// Those whose key is not known.
    pub unknown_key: u64,
    /// Those that are of an ended history, and of events that other events have replaced since.
    pub ended_history: u64,
    /// What could not be read as a head, in words.
    pub damaged: Vec<String>,
}

impl fmt::Display for KeptHeads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { given, compared, unknown_key, ended_history, damaged } = self;
        write!(
            f,
            "{compared} of {given} compared; of the others {unknown_key} with an unknown key, \
             {ended_history} of an ended history"
        )?;
        if !damaged.is_empty() {
            write!(f, "; {} damaged and not compared:", damaged.len())?;
            damaged
                .iter()
                .take(DAMAGED_PRINTED_MAX)
                .try_for_each(|why| write!(f, "\n  {}", shown(why)))?;
        }
        Ok(())
    }
}

/// Counts of what was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each counts what its name says")]
pub struct CheckedCounts {
    pub shards: u64,
    pub events: u64,
    pub orders: u64,
    pub confirmed: u64,
    pub cancelled: u64,
    pub in_flight: u64,
    pub stuck: u64,
    pub overruled: u64,
    pub carts: u64,
    pub carts_spent: u64,
    pub stock_items: u64,
    pub products: u64,
    pub numbers: u64,
    pub idempotency_keys: u64,
    pub operations: u64,
    pub allocations: u64,
    pub holds: u64,
    pub timers: u64,
    /// The number of orders whose buyer was erased.
    pub erased: u64,
    /// The number of orders under a legal hold.
    pub legal_holds: u64,
    /// The number of signed heads that agree with the chains of events.
    pub signed_heads: u64,
    /// The number of signed heads that are of a history that has ended, or whose key is not known.
    pub signed_heads_not_compared: u64,
    /// What became of the heads that were kept outside of the store; nothing if none were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_heads: Option<KeptHeads>,
    pub order_rows: u64,
    pub stock_rows: u64,
    pub product_rows: u64,
    /// The number of snapshots that equal the folds of their events.
    pub snapshots: u64,
    /// The number of payments at the provider; `null` if the provider was not asked.
    pub payments: Option<u64>,
    /// The number of differences that disappeared when both sides were read again.
    pub settled: u64,
    /// The numbers of entities and rows of nouns that are checked by themselves, by name.
    #[serde(flatten)]
    pub others: BTreeMap<String, u64>,
}

/// The result of a check.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// Whether there are no violations.
    pub ok: bool,
    /// Counts of what was checked.
    pub checked: CheckedCounts,
    /// The first violations, some [`VIOLATIONS_MAX`], and the first of each invariant.
    pub violations: Vec<Violation>,
    /// The number of violations of each violated invariant.
    pub violations_total: BTreeMap<Invariant, u64>,
    /// The events that show the first violation.
    #[serde(skip)]
    pub evidence: Vec<Record>,
}

/// A number and what is counted.
fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A text on one line, with its control characters escaped.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => shown.extend(letter.escape_unicode()),
            false => shown.push(letter),
        }
    }
    shown
}

/// Collects the violations that a verification finds.
#[derive(Debug, Default)]
pub struct Violations {
    pub(super) kept: Vec<Violation>,
    pub(super) total: BTreeMap<Invariant, u64>,
}

impl Violations {
    /// Adds a violation of an entity. `positions` are those of the events that show it.
    pub fn add(
        &mut self,
        invariant: Invariant,
        entity: impl fmt::Display,
        positions: &[i64],
        message: impl Into<String>,
    ) {
        let total = self.total.entry(invariant).or_insert(0);
        *total += 1;
        // The first of each invariant is kept, however many of another one were found before.
        if self.kept.len() < VIOLATIONS_MAX || *total == 1 {
            // Whoever writes to the database writes these texts: they must not control a terminal.
            let (entity, message) = (shown(&entity.to_string()), shown(&message.into()));
            self.kept.push(Violation { invariant, entity, message, positions: positions.to_vec() });
        }
    }
}

impl VerifyReport {
    /// Whether heads that were kept outside of the store were to be compared, and none could be.
    #[must_use]
    pub fn compared_no_head(&self) -> bool {
        self.checked.kept_heads.as_ref().is_some_and(|heads| heads.compared == 0)
    }

    /// The text form: one line per invariant if there are no violations, otherwise the first
    /// violation with its events.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _infallible = if self.ok { self.proof(&mut text) } else { self.complaint(&mut text) };
        let nothing = if self.compared_no_head() { "No head proves anything: " } else { "" };
        if let Some(heads) = &self.checked.kept_heads {
            let _infallible = writeln!(text, "{nothing}heads kept elsewhere: {heads}");
        }
        text
    }

    fn proof(&self, text: &mut String) -> fmt::Result {
        let c = &self.checked;
        let shards = counted(c.shards, "shard", "shards");
        writeln!(text, "All invariants hold: {} events on {shards} replayed.", c.events)?;
        writeln!(
            text,
            "  I1 orders      {} placed ({} confirmed, {} cancelled, {} in progress) from {} carts, \
             {} of them checked out; content and totals add up",
            c.orders, c.confirmed, c.cancelled, c.in_flight, c.carts, c.carts_spent
        )?;
        writeln!(
            text,
            "  I2 once        {} idempotency keys, {} provider operations, {} order numbers: no \
             duplicates, no gaps",
            c.idempotency_keys, c.operations, c.numbers
        )?;
        match c.payments {
            Some(payments) => writeln!(
                text,
                "  I3 money       captured minus refunded equals the amount due; {payments} payments \
                 at the provider agree",
            )?,
            None => writeln!(
                text,
                "  I3 money       captured minus refunded equals the amount due (not compared with \
                 the provider: use --sandbox-psp)",
            )?,
        }
        writeln!(
            text,
            "  I4 stock       {} SKUs add up after every event; {} allocations and {} holds \
             belong to their orders",
            c.stock_items, c.allocations, c.holds
        )?;
        writeln!(
            text,
            "  I5 journal     positions and sequence numbers have no gaps; {} timers, \
             none missing",
            c.timers
        )?;
        writeln!(
            text,
            "  I6 read models {} orders, {} stock levels, {} products equal their events",
            c.order_rows, c.stock_rows, c.product_rows
        )?;
        if c.erased + c.legal_holds > 0 {
            writeln!(
                text,
                "  I7 erased      {}: their keys are destroyed, or an erasure is in progress; {} under a \
                 legal hold: their keys are there",
                counted(c.erased, "order", "orders"),
                counted(c.legal_holds, "order", "orders")
            )?;
        }
        write!(text, "  I8 history     the digests of all events are a chain")?;
        if c.signed_heads > 0 {
            write!(
                text,
                "; {}",
                counted(c.signed_heads, "signed head agrees", "signed heads agree")
            )?;
        }
        if c.signed_heads_not_compared > 0 {
            write!(
                text,
                "; {} not compared: of an ended history, or of an unknown key",
                counted(c.signed_heads_not_compared, "signed head", "signed heads")
            )?;
        }
        writeln!(text)?;
        for (name, count) in &c.others {
            writeln!(text, "  {name:<14} {count}, each consistent")?;
        }
        if c.stuck > 0 {
            writeln!(text, "  orders that need an operator: {}", c.stuck)?;
        }
        if c.overruled > 0 {
            writeln!(text, "  orders with a skipped step or a cleared alert: {}", c.overruled)?;
        }
        Ok(())
    }

    fn complaint(&self, text: &mut String) -> fmt::Result {
        let total: u64 = self.violations_total.values().sum();
        let by: Vec<String> =
            self.violations_total.iter().map(|(of, count)| format!("{of}: {count}")).collect();
        writeln!(
            text,
            "{} ({}) in {} events.",
            counted(total, "violation", "violations"),
            by.join(", "),
            self.checked.events
        )?;
        let Some(first) = self.violations.first() else {
            return Ok(());
        };
        writeln!(text, "\n{} {}: {}", first.invariant, first.entity, first.message)?;
        for record in self.evidence.iter().take(EVENTS_PRINTED_MAX) {
            writeln!(
                text,
                "  pos {} seq {} {} v{} at {} by {}\n    {}",
                record.pos,
                record.seq,
                shown(&record.kind),
                record.version,
                record.at,
                shown(&record.cause),
                printable(&record.data)
            )?;
        }
        // The first of each invariant, then the others, all as they were found.
        let mut seen = BTreeSet::from([first.invariant]);
        let others = self.violations.iter().skip(1);
        let (mut others, rest): (Vec<_>, Vec<_>) =
            others.partition(|other| seen.insert(other.invariant));
        others.extend(rest);
        for other in others.iter().take(9) {
            writeln!(text, "\n{} {}: {}", other.invariant, other.entity, other.message)?;
        }
        if total > 10 {
            writeln!(text, "\n... {} more; --json has the first {VIOLATIONS_MAX}", total - 10)?;
        }
        Ok(())
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().trim_end())
    }
}

/// An event's data without payment tokens, and truncated.
fn printable(data: &str) -> String {
    let hidden = match serde_json::from_str::<serde_json::Value>(data) {
        Ok(mut value) => {
            hide(&mut value);
            value.to_string()
        }
        Err(_) => data.to_owned(),
    };
    let hidden = shown(&hidden);
    match hidden.char_indices().nth(DATA_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &hidden[..end]),
        None => hidden,
    }
}

fn hide(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                if name == "token" {
                    *field = "...".into();
                } else {
                    hide(field);
                }
            }
        }
        serde_json::Value::Array(all) => all.iter_mut().for_each(hide),
        _ => {}
    }
}

/// The name of a shard, for violations that belong to no entity.
pub(super) fn shard_name(shard: u16) -> EntityId {
    EntityId::new(&format!("shard {shard}"))
}

/// A number of items, for the report.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(checked: CheckedCounts, findings: Violations) -> VerifyReport {
        let Violations { kept, total } = findings;
        let ok = total.is_empty();
        VerifyReport { ok, checked, violations: kept, violations_total: total, evidence: vec![] }
    }

    #[test]
    fn the_first_violation_of_each_invariant_is_kept_and_printed() {
        let mut findings = Violations::default();
        for nth in 0..2 * VIOLATIONS_MAX {
            findings.add(Invariant::I6, format!("ord_{nth}"), &[], "its row differs");
        }
        findings.add(Invariant::I1, "ord_x", &[], "its key is damaged");
        findings.add(Invariant::I1, "ord_y", &[], "its key is damaged");
        let text = report(CheckedCounts::default(), findings).text();
        let place = |words: &str| text.find(words);
        assert!(place("I1 ord_x") > place("I6 ord_0") && place("I1 ord_x") < place("I6 ord_1"));
        assert_eq!(text.matches("\nI1 ord_y").count(), 0, "{text}");
    }

    #[test]
    fn what_is_counted_agrees_with_its_number() {
        let mut findings = Violations::default();
        findings.add(Invariant::I1, "ord_x", &[], "its key is damaged");
        let text = report(CheckedCounts::default(), findings).text();
        assert!(text.starts_with("1 violation (I1: 1)"), "{text}");
        let checked = CheckedCounts {
            erased: 1,
            signed_heads: 1,
            signed_heads_not_compared: 1,
            ..CheckedCounts::default()
        };
        let text = report(checked, Violations::default()).text();
        for words in ["I7 erased      1 order:", "1 signed head agrees; 1 signed head not compared"]
        {
            assert!(text.contains(words), "{text}");
        }
    }
}
