//! Compares the payments at the provider with those in the journal (I3).
//!
//! The provider's list is read before the journal, so the journal must contain a request for every
//! payment in the list. If a payment differs, the order is read from the journal again, and then
//! the payment from the provider, because unfinished orders change on both sides. Only a difference
//! that remains is a violation.

use std::collections::HashMap;
use std::time::Duration;

use super::books::Books;
use super::order::{OrderEntry, OrderProgress, Summary, closed};
use super::replay::replay;
use super::report::Invariant;
use super::{Error, VerifyProgress};
use crate::actors::flows::payment::parse_reference;
use crate::domain::entity::EntityId;
use crate::domain::id::{Key, OrderId};
use crate::domain::money::Currency;
use crate::domain::order::{self, Attempt, AttemptState, Order, attempt_reference};
use crate::providers::payment::{AuthorizationStatus, OperationKind, Payment, Provider};
use crate::store::journal::Journal;

/// The number of payments that are read at once.
const PAGE: u32 = 200;
/// How often a difference is checked again, and the pause before each check.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);
/// The most differences that are checked again. If there are more, they do not come from unfinished
/// orders alone, and the rest is reported at once.
const SETTLED_MAX: usize = 500;

/// A payment at the provider, in compact form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedPayment {
    id: Box<str>,
    status: AuthorizationStatus,
    amount: i64,
    currency: Currency,
    captured: i64,
    refunded: i64,
    voided: bool,
    operations: Box<[(OperationKind, Box<str>, i64)]>,
}

impl From<&Payment> for ListedPayment {
    fn from(payment: &Payment) -> Self {
        let operations = payment.operations.iter();
        Self {
            id: payment.id.as_str().into(),
            status: payment.status,
            amount: payment.amount.amount,
            currency: payment.amount.currency,
            captured: payment.captured,
            refunded: payment.refunded,
            voided: payment.voided,
            operations: operations
                .map(|one| (one.kind, one.id.as_str().into(), one.amount.amount))
                .collect(),
        }
    }
}

impl ListedPayment {
    /// Whether money of the buyer is authorized and not captured, or may become so.
    const fn live(&self) -> bool {
        match self.status {
            AuthorizationStatus::Authorized => !self.voided && self.captured < self.amount,
            AuthorizationStatus::Pending => true,
            AuthorizationStatus::Declined => false,
        }
    }

    /// Whether all captured money was refunded.
    const fn nothing_kept(&self) -> bool {
        !self.live() && self.captured == self.refunded
    }
}

/// The provider's list of all payments.
#[derive(Default)]
pub(super) struct ProviderLedger {
    known: HashMap<(Key, u32), ListedPayment>,
    /// Payments whose references are not those of an attempt: id and reference.
    strangers: Vec<(String, String)>,
    /// Attempts that have two payments.
    twice: Vec<(Key, u32)>,
    count: u64,
}

impl ProviderLedger {
    /// Reads the provider's whole list.
    pub(super) async fn read(
        provider: &dyn Provider,
        progress: &mut impl FnMut(VerifyProgress),
    ) -> Result<Self, Error> {
        let mut ledger = Self::default();
        let mut after: Option<String> = None;
        loop {
            let page = ledger_page(provider, after.as_deref()).await?;
            for payment in &page.payments {
                ledger.count += 1;
                let reference = parse_reference(&payment.reference);
                let key = reference.as_ref().and_then(|(order, kind, number)| {
                    let order: OrderId = order.as_str().parse().ok()?;
                    (*kind == 'p').then_some((order.0, *number))
                });
                match key {
                    Some(key) if ledger.known.insert(key, payment.into()).is_some() => {
                        ledger.twice.push(key);
                    }
                    Some(_) => {}
                    None => ledger.strangers.push((payment.id.clone(), payment.reference.clone())),
                }
            }
            progress(VerifyProgress { stage: "payments", done: ledger.count, total: 0 });
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(ledger),
            }
        }
    }
}

async fn ledger_page(
    provider: &dyn Provider,
    after: Option<&str>,
) -> Result<crate::providers::payment::PaymentPage, Error> {
    let mut tries = 0;
    loop {
        match provider.list(after, PAGE).await {
            Ok(page) => return Ok(page),
            Err(error) if error.retryable() && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(Error::Provider(error.to_string())),
        }
    }
}

impl Books {
    /// Compares the provider's payments with the attempts of all orders.
    pub(super) async fn compare_money(
        &mut self,
        journal: &dyn Journal,
        provider: &dyn Provider,
        ledger: &ProviderLedger,
    ) -> Result<(), Error> {
        self.checked.payments = Some(ledger.count);
        for (id, reference) in &ledger.strangers {
            let why = format!("the provider has it under {reference:?}, which no order requested");
            self.findings.add(Invariant::I3, id, &[], why);
        }
        for (key, number) in &ledger.twice {
            let why = format!("the provider has two payments for its attempt {number}");
            self.findings.add(Invariant::I2, order::entity_id(OrderId(*key)), &[], why);
        }
        let mut differences = Vec::new();
        for ((key, number), told) in &ledger.known {
            let entry = self.orders.all.get(key);
            if entry.is_some_and(|entry| entry.broken) {
                continue;
            }
            let found = entry.and_then(|entry| Some((entry, entry.summary()?)));
            let found = found
                .and_then(|(entry, summary)| Some((entry, summary, attempt(summary, *number)?)));
            let Some((entry, summary, attempt)) = found else {
                let why =
                    format!("the provider has its payment attempt {number}, the journal does not");
                self.findings.add(Invariant::I3, order::entity_id(OrderId(*key)), &[], why);
                continue;
            };
            if difference(entry, summary, attempt, Some(told)).is_some() {
                differences.push((*key, *number));
            }
        }
        for (key, entry) in self.orders.all.iter().filter(|(_, entry)| !entry.broken) {
            let Some(summary) = entry.summary() else { continue };
            for attempt in &summary.attempts {
                if !ledger.known.contains_key(&(*key, attempt.number))
                    && difference(entry, summary, attempt, None).is_some()
                {
                    differences.push((*key, attempt.number));
                }
            }
        }
        self.settle(journal, provider, ledger, differences).await
    }

    /// Checks differences again, and reports those that remain.
    async fn settle(
        &mut self,
        journal: &dyn Journal,
        provider: &dyn Provider,
        ledger: &ProviderLedger,
        differences: Vec<(Key, u32)>,
    ) -> Result<(), Error> {
        for (at, (key, number)) in differences.into_iter().enumerate() {
            let entity = order::entity_id(OrderId(key));
            let Some(entry) = self.orders.all.get(&key) else { continue };
            let told = ledger.known.get(&(key, number)).cloned();
            let mut seen = (entry.seq, told);
            let mut left = entry.summary().and_then(|summary| {
                difference(entry, summary, attempt(summary, number)?, seen.1.as_ref())
            });
            for _ in 0..if at < SETTLED_MAX { TRIES } else { 0 } {
                let (now, why) = look_again(journal, provider, entry, &entity, number).await?;
                left = why;
                if left.is_none() || now == seen {
                    break;
                }
                seen = now;
                tokio::time::sleep(PAUSE).await;
            }
            match left {
                Some(why) => {
                    let positions = [entry.first_pos, entry.last_pos];
                    self.findings.add(Invariant::I3, &entity, &positions, why);
                }
                None => self.checked.settled += 1,
            }
        }
        Ok(())
    }
}

/// Reads an order from the journal and then its attempt from the provider, and compares them.
async fn look_again(
    journal: &dyn Journal,
    provider: &dyn Provider,
    entry: &OrderEntry,
    entity: &EntityId,
    number: u32,
) -> Result<((i64, Option<ListedPayment>), Option<String>), Error> {
    let Some(folded) = replay::<Order>(journal, entity, i64::MAX).await? else {
        return Ok(((entry.seq, None), None));
    };
    let reference = attempt_reference(entity, number);
    let told = provider.find(&reference).await;
    let told = told.map_err(|error| Error::Provider(error.to_string()))?;
    let told = told.as_ref().map(ListedPayment::from);
    let summary = Summary::of(entity, &folded.state, folded.seq, None);
    let why = attempt(&summary, number)
        .and_then(|attempt| difference(entry, &summary, attempt, told.as_ref()));
    Ok(((folded.seq, told), why))
}

fn attempt(summary: &Summary, number: u32) -> Option<&Attempt> {
    summary.attempts.iter().find(|attempt| attempt.number == number)
}

/// The difference between an attempt of an order and its payment at the provider, if any.
fn difference(
    entry: &OrderEntry,
    summary: &Summary,
    attempt: &Attempt,
    told: Option<&ListedPayment>,
) -> Option<String> {
    let number = attempt.number;
    let Some(told) = told else {
        let known = matches!(attempt.state, AttemptState::Authorized { .. } | AttemptState::Voided);
        return known
            .then(|| format!("attempt {number} was authorized, but the provider has none"));
    };
    let refused = attempt.open() || closed(attempt) && told.nothing_kept();
    if told.currency != summary.currency && !refused {
        let (theirs, ours) = (told.currency, summary.currency);
        return Some(format!("attempt {number} is in {theirs} at the provider and in {ours} here"));
    }
    if let AttemptState::Authorized { amount } = attempt.state
        && (amount != told.amount || attempt.payment.as_deref() != Some(&*told.id))
    {
        return Some(format!(
            "attempt {number} has {amount} authorized as {:?}, at the provider {} as {:?}",
            attempt.payment, told.amount, told.id
        ));
    }
    let its_own = summary
        .attempts
        .iter()
        .find(|one| one.payment.is_some() && !closed(one) && !one.open())
        .is_some_and(|one| one.number == number);
    if its_own {
        return paid_difference(entry, summary, attempt, told);
    }
    (!attempt.open() && !told.nothing_kept()).then(|| {
        format!(
            "attempt {number} was not successful, but the provider has {} authorized, {} captured \
             and {} refunded",
            if told.live() { told.amount - told.captured } else { 0 },
            told.captured,
            told.refunded
        )
    })
}

/// The difference between the attempt that pays an order and its payment, if any.
fn paid_difference(
    entry: &OrderEntry,
    summary: &Summary,
    attempt: &Attempt,
    told: &ListedPayment,
) -> Option<String> {
    for done in &summary.operations {
        let kind = if done.refund { OperationKind::Refund } else { OperationKind::Capture };
        let mut theirs = told.operations.iter();
        let there = theirs
            .any(|(of, id, amount)| *of == kind && *id == done.operation && *amount == done.amount);
        if !there {
            let (operation, amount) = (&done.operation, done.amount);
            return Some(format!("the provider has no {kind:?} {operation} of {amount}"));
        }
    }
    let (captured, refunded) = (summary.captured, summary.refunded);
    let ledgers = || {
        let (theirs, back) = (told.captured, told.refunded);
        format!(
            "the journal has {captured} captured and {refunded} refunded, the provider {theirs} \
             and {back}"
        )
    };
    if told.captured < captured || told.refunded < refunded {
        return Some(ledgers());
    }
    if summary.progress == OrderProgress::InFlight || entry.overruled {
        return None;
    }
    if (told.captured, told.refunded) != (captured, refunded) {
        return Some(ledgers());
    }
    let voided = attempt.state == AttemptState::Voided;
    if (summary.progress == OrderProgress::Cancelled || voided) && told.live() {
        let left = told.amount - told.captured;
        return Some(format!(
            "nothing should be authorized any more, but the provider still has {left} authorized"
        ));
    }
    if summary.progress == OrderProgress::Confirmed
        && told.voided
        && !voided
        && captured < summary.total
    {
        return Some(
            "the authorization is void at the provider, but not in the journal".to_owned(),
        );
    }
    None
}
