//! The simulator's payment provider, with its own ledger, against which all payments are checked.
//! Calls to it are lost, carried out without an answer, or refused at once; its webhooks arrive
//! late, twice, in any order, or never.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::plan::{CallFault, Net, PlannedFault};
use super::process::SimulatedProcess;
use super::watch::BooksWatch;
use super::world::World;
use crate::actors::flows::payment::parse_reference;
use crate::domain::entity::EntityId;
use crate::domain::money::{Currency, Money};
use crate::domain::time::Timestamp;
use crate::providers::payment::{
    AccountId, Authorization, AuthorizationStatus, Authorize, Error, NoticeKind, Operation,
    OperationKind, Payment, PaymentNotice, PaymentOperation, PaymentPage, Provider,
    ProviderAccount, Receipt, Reversal, WebhookError, WebhookRequest,
};

/// The provider name in checkouts.
pub const NAME: &str = "bank";
/// The header of a webhook's signature, and its value.
const SIGNATURE_HEADER: &str = "Bank-Signature";
const SIGNATURE: &str = "signed";

/// The reference of what is captured or refunded in the provider's dashboard.
const BY_HAND: &str = "by hand";

/// A webhook in transit.
#[derive(Clone, Debug)]
pub struct WebhookDelivery {
    /// The time of its arrival, in simulated milliseconds.
    pub at: i64,
    /// The id of the notice.
    pub notice: String,
    /// The number of earlier deliveries.
    pub tries: u32,
}

/// The provider. Clones share the same ledger.
#[derive(Clone)]
pub struct Bank {
    world: World,
    ledger: Arc<Mutex<Ledger>>,
    faults: Arc<[PlannedFault]>,
    net: Net,
    watch: Arc<Mutex<BooksWatch>>,
    /// The calling process, with an unreliable connection; `None` for the final checks, which read
    /// the ledger reliably.
    process: Option<SimulatedProcess>,
}

#[derive(Default)]
struct Ledger {
    calls: u64,
    named: BTreeMap<&'static str, u64>,
    payments: Vec<Payment>,
    /// The answer to each idempotency key.
    answers: BTreeMap<String, Answer>,
    blocked: BTreeSet<String>,
    /// Requests in transit, with the times of their arrival.
    late: Vec<(i64, Authorize)>,
    /// Payments that are decided later: the time, the index in `payments`, and whether they are
    /// authorized.
    pending: Vec<(i64, usize, bool)>,
    notices: BTreeMap<String, PaymentNotice>,
    deliveries: Vec<WebhookDelivery>,
}

#[derive(Clone)]
enum Answer {
    Authorized(usize),
    Done(Receipt),
    Refused(Error),
}

impl Bank {
    /// A provider without payments.
    pub fn new(
        world: World,
        faults: &[PlannedFault],
        net: Net,
        watch: Arc<Mutex<BooksWatch>>,
    ) -> Self {
        let (ledger, faults) = (Arc::default(), faults.into());
        Self { world, ledger, faults, net, watch, process: None }
    }

    /// The same provider, as `process` calls it: over an unreliable connection.
    pub fn of(&self, process: SimulatedProcess) -> Self {
        Self { process: Some(process), ..self.clone() }
    }

    /// The same provider over a reliable connection, for checks of its ledger.
    pub fn ledger(&self) -> Self {
        Self { process: None, ..self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// All payments.
    pub fn payments(&self) -> Vec<Payment> {
        self.lock().payments.clone()
    }

    /// Carries out late requests, decides due payments, and returns the webhooks that arrive by
    /// now.
    pub fn due(&self) -> Vec<WebhookDelivery> {
        let now = self.world.elapsed();
        let mut ledger = self.lock();
        let late: Vec<_> = ledger.late.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, request) in late {
            let outcome = self.grant(&mut ledger, &request);
            self.world.tell("bank", |line| {
                write!(line, "gets the late request {}: {}", request.reference, outcome.is_ok())
            });
        }
        let due: Vec<_> = ledger.pending.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, index, granted) in due {
            self.decide(&mut ledger, index, granted);
        }
        let mut due: Vec<WebhookDelivery> =
            ledger.deliveries.extract_if(.., |one| one.at <= now).collect();
        due.sort_by(|a, b| (a.at, &a.notice).cmp(&(b.at, &b.notice)));
        due
    }

    /// The time of the next due event.
    pub fn next(&self) -> Option<i64> {
        let ledger = self.lock();
        let pending = ledger.pending.iter().map(|(at, ..)| *at);
        let late = ledger.late.iter().map(|(at, _)| *at);
        pending.chain(late).chain(ledger.deliveries.iter().map(|one| one.at)).min()
    }

    /// Sends a webhook again, 5 seconds later, that was not acknowledged; at most 20 times.
    pub fn send_again(&self, delivery: WebhookDelivery) {
        let at = self.world.elapsed() + 5_000;
        if delivery.tries < 20 {
            self.lock().deliveries.push(WebhookDelivery {
                at,
                tries: delivery.tries + 1,
                ..delivery
            });
        }
    }

    /// The content of a notice.
    pub fn notice(&self, id: &str) -> Option<PaymentNotice> {
        self.lock().notices.get(id).cloned()
    }

    fn decide(&self, ledger: &mut Ledger, index: usize, granted: bool) {
        let payment = &mut ledger.payments[index];
        if payment.status != AuthorizationStatus::Pending {
            return;
        }
        let kind = if granted {
            payment.status = AuthorizationStatus::Authorized;
            NoticeKind::Authorized
        } else {
            payment.status = AuthorizationStatus::Declined;
            payment.decline_code = Some("declined".to_owned());
            NoticeKind::Declined
        };
        self.announce(ledger, index, kind, (None, self.net.withheld));
    }

    /// Sends a webhook about a payment's last change. The webhook may be late or duplicated, or lost
    /// (`withheld`, in per cent).
    fn announce(
        &self,
        ledger: &mut Ledger,
        index: usize,
        kind: NoticeKind,
        (operation, withheld): (Option<PaymentOperation>, u32),
    ) {
        let payment = ledger.payments[index].clone();
        let id = format!("evt_{}", ledger.notices.len() + 1);
        self.world.tell("bank", |line| write!(line, "{id}: {kind:?} {}", payment.reference));
        let notice = PaymentNotice { id: id.clone(), kind, payment, operation };
        ledger.notices.insert(id.clone(), notice);
        if self.world.happens(withheld) {
            return;
        }
        for _ in 0..=u32::from(self.world.happens(self.net.doubled)) {
            let late = if self.world.happens(self.net.late) { 60_000 } else { 200 };
            let at = self.world.elapsed() + i64::try_from(self.world.chance(late)).unwrap_or(0);
            ledger.deliveries.push(WebhookDelivery { at, notice: id.clone(), tries: 0 });
        }
    }

    /// Counts a call; returns its number, and its fault if the plan has one for it.
    fn count(&self, name: &'static str) -> (u64, Option<CallFault>) {
        let mut ledger = self.lock();
        ledger.calls += 1;
        let (all, of_name) = (ledger.calls - 1, ledger.named.get(name).copied().unwrap_or(0));
        *ledger.named.entry(name).or_insert(0) += 1;
        let met = self.faults.iter().find_map(|fault| match fault {
            PlannedFault::Call { point, what } if point.kind.is_none_or(|kind| kind == name) => {
                let before = if point.kind.is_some() { of_name } else { all };
                point.meets(before, 1).then_some(*what)
            }
            _ => None,
        });
        (all + 1, met)
    }

    /// Carries out a call over an unreliable connection. A call with `late` can arrive after its
    /// sender has timed out.
    async fn call<T>(
        &self,
        (name, what): (&'static str, String),
        late: Option<&Authorize>,
        execute: impl FnOnce(&mut Ledger) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(process) = &self.process else {
            return execute(&mut self.lock());
        };
        process.alive().await;
        let (number, fault) = self.count(name);
        let told = |how: &str| {
            self.world.tell("bank", |line| write!(line, "call {number}: {name} {what} {how}"));
        };
        match fault {
            Some(CallFault::CrashBefore) => {
                process.die(&format!("before call {number} ({name} {what})"));
            }
            Some(CallFault::Refused) => {
                told("cannot reach the provider");
                tokio::time::sleep(Duration::from_millis(5)).await;
                process.alive().await;
                return Err(Error::Unavailable);
            }
            Some(CallFault::Lost | CallFault::Late(_)) => {
                if let (Some(CallFault::Late(ms)), Some(request)) = (fault, late) {
                    let at = self.world.elapsed() + 2_000 + i64::try_from(ms).unwrap_or(0);
                    self.lock().late.push((at, request.clone()));
                }
                told("is lost");
                tokio::time::sleep(Duration::from_secs(2)).await;
                process.alive().await;
                return Err(Error::Unknown("it timed out".to_owned()));
            }
            _ => {}
        }
        process.alive().await;
        tokio::time::sleep(Duration::from_millis(self.world.chance(40))).await;
        process.alive().await;
        let outcome = execute(&mut self.lock());
        told(if outcome.is_ok() { "is done" } else { "is refused" });
        match fault {
            Some(CallFault::CrashAfter) => {
                process.die(&format!("after call {number} ({name} {what})"));
            }
            Some(CallFault::Unanswered) => {
                told("gets no answer");
                tokio::time::sleep(Duration::from_secs(2)).await;
                process.alive().await;
                return Err(Error::Unknown("it timed out".to_owned()));
            }
            Some(CallFault::Slow(ms)) => {
                told("gets a late answer");
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(self.world.chance(40))).await;
        process.alive().await;
        outcome
    }

    fn grant(&self, ledger: &mut Ledger, request: &Authorize) -> Result<Authorization, Error> {
        if ledger.blocked.contains(&request.reference) {
            return Err(rejected("reference_blocked"));
        }
        let index = match ledger.answers.get(&request.key) {
            Some(Answer::Authorized(index)) => *index,
            _ => {
                let index = ledger.payments.len();
                ledger.payments.push(new_payment(index, request));
                ledger.answers.insert(request.key.clone(), Answer::Authorized(index));
                let later = |granted| {
                    let wait = i64::try_from(self.world.chance(90_000)).unwrap_or(0);
                    (self.world.elapsed() + wait, index, granted)
                };
                match request.token.as_str() {
                    "tok_declined" => self.decide(ledger, index, false),
                    "tok_pending" => ledger.pending.push(later(true)),
                    "tok_pending_declined" => ledger.pending.push(later(false)),
                    _ => self.decide(ledger, index, true),
                }
                index
            }
        };
        let payment = &ledger.payments[index];
        let id = payment.id.clone();
        Ok(match payment.status {
            AuthorizationStatus::Pending => Authorization::Pending { payment: id },
            AuthorizationStatus::Declined => {
                let code = payment.decline_code.clone().unwrap_or_default();
                Authorization::Declined { payment: Some(id), code }
            }
            AuthorizationStatus::Authorized => {
                Authorization::Authorized { payment: id, amount: payment.amount }
            }
        })
    }

    fn operate(
        &self,
        ledger: &mut Ledger,
        kind: OperationKind,
        request: &Operation,
    ) -> Result<Receipt, Error> {
        match ledger.answers.get(&request.key) {
            Some(Answer::Done(receipt)) => return Ok(receipt.clone()),
            Some(Answer::Refused(error)) => return Err(error.clone()),
            _ => {}
        }
        let outcome = self.execute(ledger, kind, request);
        let answer = match &outcome {
            Ok(receipt) => Answer::Done(receipt.clone()),
            Err(error) => Answer::Refused(error.clone()),
        };
        ledger.answers.insert(request.key.clone(), answer);
        outcome
    }

    fn execute(
        &self,
        ledger: &mut Ledger,
        kind: OperationKind,
        request: &Operation,
    ) -> Result<Receipt, Error> {
        let asked = request.amount.amount;
        let found = ledger.payments.iter().position(|payment| payment.id == request.payment);
        let index = found.ok_or_else(|| rejected("unknown_payment"))?;
        let payment = &mut ledger.payments[index];
        let open = payment.amount.amount - payment.captured;
        let live = payment.status == AuthorizationStatus::Authorized && !payment.voided;
        let moved = match kind {
            OperationKind::Capture if live && (1..=open).contains(&asked) => {
                payment.captured += asked;
                asked
            }
            OperationKind::Void if live && open > 0 => {
                payment.voided = true;
                open
            }
            OperationKind::Refund if (1..=payment.captured - payment.refunded).contains(&asked) => {
                payment.refunded += asked;
                asked
            }
            _ => return Err(rejected("not_possible")),
        };
        Ok(self.record(ledger, index, kind, (&request.reference, self.net.withheld), moved))
    }

    /// Whether anything was captured or refunded by hand.
    pub fn moved_elsewhere(&self) -> bool {
        let by_hand = |one: &PaymentOperation| one.reference == BY_HAND;
        self.lock().payments.iter().flat_map(|one| &one.operations).any(by_hand)
    }

    /// Captures or refunds at most this amount of an order's payment, by hand. Its webhook is sent
    /// until it is acknowledged: without it, nobody would look at a finished payment again.
    pub fn move_elsewhere(&self, order: &EntityId, kind: OperationKind, most: i64) {
        let mut ledger = self.lock();
        let paid = |one: &Payment| {
            let of_order = parse_reference(&one.reference).is_some_and(|(of, ..)| of == *order);
            of_order && one.status == AuthorizationStatus::Authorized && room(one, kind) > 0
        };
        let Some(index) = ledger.payments.iter().position(paid) else { return };
        let payment = &mut ledger.payments[index];
        let amount = most.min(room(payment, kind));
        match kind {
            OperationKind::Capture => payment.captured += amount,
            OperationKind::Refund => payment.refunded += amount,
            OperationKind::Void => return,
        }
        self.world.tell("operator", |line| write!(line, "{kind:?} {amount} of {order} elsewhere"));
        self.record(&mut ledger, index, kind, (BY_HAND, 0), amount);
    }

    fn record(
        &self,
        ledger: &mut Ledger,
        index: usize,
        kind: OperationKind,
        (reference, withheld): (&str, u32),
        moved: i64,
    ) -> Receipt {
        let payment = &mut ledger.payments[index];
        let amount = Money::new(moved, payment.amount.currency);
        let operation = PaymentOperation {
            id: format!("{}-{}", payment.id, payment.operations.len() + 1),
            kind,
            reference: reference.to_owned(),
            amount,
        };
        payment.operations.push(operation.clone());
        let receipt =
            Receipt { operation: operation.id.clone(), payment: payment.id.clone(), amount };
        let told = match kind {
            OperationKind::Capture => NoticeKind::Captured,
            OperationKind::Void => NoticeKind::Voided,
            OperationKind::Refund => NoticeKind::Refunded,
        };
        self.announce(ledger, index, told, (Some(operation), withheld));
        receipt
    }

    fn undo(&self, ledger: &mut Ledger, reference: &str) -> Reversal {
        let found = ledger.payments.iter().position(|payment| payment.reference == reference);
        let Some(index) = found else {
            ledger.blocked.insert(reference.to_owned());
            return Reversal::Blocked;
        };
        let payment = ledger.payments[index].clone();
        match payment.status {
            AuthorizationStatus::Pending => self.decide(ledger, index, false),
            AuthorizationStatus::Declined => {}
            AuthorizationStatus::Authorized => {
                let reversal = ("reversal", self.net.withheld);
                let left = payment.captured - payment.refunded;
                if left > 0 {
                    ledger.payments[index].refunded += left;
                    self.record(ledger, index, OperationKind::Refund, reversal, left);
                }
                let open = payment.amount.amount - payment.captured;
                if !payment.voided && open > 0 {
                    ledger.payments[index].voided = true;
                    self.record(ledger, index, OperationKind::Void, reversal, open);
                }
            }
        }
        Reversal::Reversed { payment: ledger.payments[index].clone() }
    }
}

/// The amount that is captured or refunded by hand at most. A minor unit stays authorized, because a
/// payment may be of one more than was requested: to capture that is a person's mistake, and `verify`
/// reports it.
const fn room(payment: &Payment, kind: OperationKind) -> i64 {
    match kind {
        OperationKind::Capture if !payment.voided => payment.amount.amount - payment.captured - 1,
        OperationKind::Refund => payment.captured - payment.refunded,
        _ => 0,
    }
}

/// The webhook request of a notice.
pub fn webhook_request(notice: &str) -> WebhookRequest<'_> {
    WebhookRequest {
        method: "POST",
        path: "/v1/webhooks/bank",
        query: "",
        headers: vec![(SIGNATURE_HEADER, SIGNATURE.as_bytes())],
        body: notice.as_bytes(),
    }
}

fn new_payment(index: usize, request: &Authorize) -> Payment {
    let mut amount = request.amount;
    if request.token == "tok_mismatch" {
        match index % 2 {
            0 => amount.amount += 1,
            _ => amount.currency = Currency::JPY,
        }
    }
    Payment {
        id: format!("pay_{}", index + 1),
        reference: request.reference.clone(),
        status: AuthorizationStatus::Pending,
        amount,
        captured: 0,
        refunded: 0,
        voided: false,
        decline_code: None,
        operations: Vec::new(),
    }
}

fn rejected(code: &str) -> Error {
    Error::Rejected { code: code.to_owned(), message: "no".to_owned() }
}

#[async_trait]
impl Provider for Bank {
    fn account(&self) -> ProviderAccount {
        ProviderAccount { provider: NAME, account: AccountId::default() }
    }

    async fn authorize(&self, request: &Authorize) -> Result<Authorization, Error> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).asked(
            &self.world,
            &request.reference,
            request.amount.amount,
        );
        let what = ("authorize", request.reference.clone());
        self.call(what, Some(request), |ledger| self.grant(ledger, request)).await
    }

    async fn capture(&self, request: &Operation) -> Result<Receipt, Error> {
        let what = ("capture", format!("{} {}", request.reference, request.amount));
        self.call(what, None, |ledger| self.operate(ledger, OperationKind::Capture, request)).await
    }

    async fn void(&self, request: &Operation) -> Result<Receipt, Error> {
        let what = ("void", request.reference.clone());
        self.call(what, None, |ledger| self.operate(ledger, OperationKind::Void, request)).await
    }

    async fn refund(&self, request: &Operation) -> Result<Receipt, Error> {
        let what = ("refund", format!("{} {}", request.reference, request.amount));
        self.call(what, None, |ledger| self.operate(ledger, OperationKind::Refund, request)).await
    }

    async fn reverse(&self, reference: &str) -> Result<Reversal, Error> {
        if self.process.is_some() {
            let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
            watch.reversed(&self.world, reference);
        }
        let what = ("reverse", reference.to_owned());
        self.call(what, None, |ledger| Ok(self.undo(ledger, reference))).await
    }

    async fn find(&self, reference: &str) -> Result<Option<Payment>, Error> {
        let found = |ledger: &mut Ledger| {
            let mut all = ledger.payments.iter();
            Ok(all.find(|payment| payment.reference == reference).cloned())
        };
        self.call(("find", reference.to_owned()), None, found).await
    }

    async fn list(&self, after: Option<&str>, limit: u32) -> Result<PaymentPage, Error> {
        let listed = |ledger: &mut Ledger| {
            let from = after.map_or(Some(0), |after| {
                ledger.payments.iter().position(|payment| payment.id == after).map(|at| at + 1)
            });
            let from = from.ok_or_else(|| rejected("unknown_cursor"))?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let payments: Vec<_> = ledger.payments.iter().skip(from).take(limit).cloned().collect();
            let more = ledger.payments.len() > from + payments.len();
            let last = payments.last().map(|payment| payment.id.clone());
            Ok(PaymentPage { payments, next: last.filter(|_| more) })
        };
        self.call(("list", after.unwrap_or_default().to_owned()), None, listed).await
    }

    async fn subscribe(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    fn read_webhook(
        &self,
        request: &WebhookRequest<'_>,
        _: Timestamp,
    ) -> Result<PaymentNotice, WebhookError> {
        match request.header(SIGNATURE_HEADER) {
            Some(SIGNATURE) => self.reread_webhook(request.body),
            _ => Err(WebhookError::Forged),
        }
    }

    fn reread_webhook(&self, body: &[u8]) -> Result<PaymentNotice, WebhookError> {
        let id = String::from_utf8_lossy(body);
        self.notice(&id).ok_or_else(|| WebhookError::Malformed("no such notice".to_owned()))
    }
}
