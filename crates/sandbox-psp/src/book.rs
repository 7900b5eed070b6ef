//! The book: the accounts in memory, folded from the ledger's facts, and the checks of operations.
//!
//! `apply` applies a fact in the same way when it is recorded and when it is read from the file;
//! the other functions only read. There is no file, clock or network here.

use std::collections::{HashMap, HashSet};

use actix_web::http::StatusCode;

use super::fact::{
    BookedKind, BookedOperation, BookedPayment, BookedStatus, Endpoint, Fact, PaymentView, What,
};
use super::problem::Problem;

/// The most operations on one payment.
const OPERATIONS_MAX: usize = 100;

/// All accounts.
#[derive(Debug, Default)]
pub struct AccountBook {
    accounts: HashMap<String, Account>,
}

#[derive(Debug, Default)]
struct Account {
    payments: Vec<BookedPayment>,
    by_id: HashMap<String, usize>,
    by_reference: HashMap<String, usize>,
    blocked: HashSet<String>,
    answers: HashMap<String, RecordedAnswer>,
    endpoint: Option<Endpoint>,
}

/// The recorded answer to an idempotency key: the payment with its first `operations` operations.
#[derive(Debug)]
struct RecordedAnswer {
    request: String,
    payment: usize,
    operations: usize,
}

/// An answer to a request for a payment or an operation, new or recorded.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub payment: PaymentView,
}

/// A fact that contradicts earlier facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it contradicts the facts before it: {0}")]
pub struct Inconsistent(&'static str);

impl AccountBook {
    /// Applies a fact to the book.
    pub fn apply(&mut self, fact: &Fact) -> Result<(), Inconsistent> {
        if !self.accounts.contains_key(&fact.account) {
            self.accounts.insert(fact.account.clone(), Account::default());
        }
        let account = self.accounts.get_mut(&fact.account).ok_or(Inconsistent("no account"))?;
        account.apply(fact)
    }

    /// The recorded answer to an idempotency key; refuses the key if it was used with another
    /// request.
    pub fn recorded(
        &self,
        account: &str,
        key: &str,
        request: &str,
    ) -> Result<Option<Answered>, Problem> {
        let Some(account) = self.accounts.get(account) else { return Ok(None) };
        let Some(answer) = account.answers.get(key) else { return Ok(None) };
        if answer.request != request {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_mismatch",
                "this idempotency key was used for another request",
            ));
        }
        let payment = account.payments.get(answer.payment).ok_or_else(Problem::not_found)?;
        Ok(Some(Answered::of(payment, answer.operations)))
    }

    /// Refuses a reference that is blocked or already used.
    pub fn check_reference(&self, account: &str, reference: &str) -> Result<(), Problem> {
        let Some(account) = self.accounts.get(account) else { return Ok(()) };
        if account.blocked.contains(reference) {
            return Err(Problem::conflict("reference_blocked", "this reference was cancelled"));
        }
        if account.by_reference.contains_key(reference) {
            let detail = "another payment has this reference";
            return Err(Problem::conflict("reference_used", detail));
        }
        Ok(())
    }

    /// Whether a reference is blocked.
    pub fn blocked(&self, account: &str, reference: &str) -> bool {
        self.accounts.get(account).is_some_and(|account| account.blocked.contains(reference))
    }

    pub fn by_id(&self, account: &str, id: &str) -> Option<&BookedPayment> {
        let account = self.accounts.get(account)?;
        account.payments.get(*account.by_id.get(id)?)
    }

    pub fn by_reference(&self, account: &str, reference: &str) -> Option<&BookedPayment> {
        let account = self.accounts.get(account)?;
        account.payments.get(*account.by_reference.get(reference)?)
    }

    pub fn endpoint(&self, account: &str) -> Option<&Endpoint> {
        self.accounts.get(account)?.endpoint.as_ref()
    }

    /// At most `limit` payments that were created after the one with id `after`, and whether there
    /// are more.
    pub fn page(
        &self,
        account: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<PaymentView>, bool), Problem> {
        let unknown = || Problem::invalid("invalid_cursor", "`after` is no payment's id");
        let Some(account) = self.accounts.get(account) else {
            return if after.is_some() { Err(unknown()) } else { Ok((Vec::new(), false)) };
        };
        let start = match after {
            Some(id) => account.by_id.get(id).ok_or_else(unknown)? + 1,
            None => 0,
        };
        let rest = account.payments.get(start..).unwrap_or_default();
        Ok((rest.iter().take(limit).map(BookedPayment::view).collect(), rest.len() > limit))
    }

    /// The account and the id of every pending payment.
    pub fn pending(&self) -> Vec<(String, String)> {
        let of = |(name, account): (&String, &Account)| {
            let pending = account.payments.iter().filter(|one| one.status == BookedStatus::Pending);
            pending.map(|one| (name.clone(), one.made.id.clone())).collect::<Vec<_>>()
        };
        self.accounts.iter().flat_map(of).collect()
    }
}

impl Answered {
    /// The answer to the request after which the payment had this number of operations.
    pub fn of(payment: &BookedPayment, operations: usize) -> Self {
        if operations > 0 {
            let payment = payment.view_at(BookedStatus::Authorized, operations);
            return Self { status: StatusCode::CREATED, payment };
        }
        let status = match payment.made.status {
            BookedStatus::Authorized => StatusCode::CREATED,
            BookedStatus::Pending => StatusCode::ACCEPTED,
            BookedStatus::Declined => StatusCode::PAYMENT_REQUIRED,
        };
        Self { status, payment: payment.view_at(payment.made.status, 0) }
    }
}

impl Account {
    fn apply(&mut self, fact: &Fact) -> Result<(), Inconsistent> {
        match &fact.what {
            What::Made { key, request, payment } => {
                let index = self.payments.len();
                let reference = payment.reference.clone();
                if self.by_id.insert(payment.id.clone(), index).is_some() {
                    return Err(Inconsistent("the payment exists already"));
                }
                if self.by_reference.insert(reference, index).is_some() {
                    return Err(Inconsistent("the reference is used already"));
                }
                self.payments.push(BookedPayment {
                    made: payment.clone(),
                    made_at: fact.at,
                    status: payment.status,
                    operations: Vec::new(),
                });
                self.answer(key, request, index, 0)
            }
            What::Settled { payment } => {
                self.payment_mut(payment)?.1.status = BookedStatus::Authorized;
                Ok(())
            }
            What::Operated { key, request, payment, operation } => {
                let (index, payment) = self.payment_mut(payment)?;
                payment.operations.push((fact.at, operation.clone()));
                let operations = payment.operations.len();
                self.answer(key, request, index, operations)
            }
            What::Reversed { payment, operations } => {
                let payment = self.payment_mut(payment)?.1;
                payment.status = BookedStatus::Authorized;
                payment.operations.extend(operations.iter().map(|one| (fact.at, one.clone())));
                Ok(())
            }
            What::Blocked { reference } => {
                self.blocked.insert(reference.clone());
                Ok(())
            }
            What::Endpoint(endpoint) => {
                self.endpoint = Some(endpoint.clone());
                Ok(())
            }
        }
    }

    fn payment_mut(&mut self, id: &str) -> Result<(usize, &mut BookedPayment), Inconsistent> {
        let missing = Inconsistent("the payment is not there");
        let index = *self.by_id.get(id).ok_or(missing)?;
        Ok((index, self.payments.get_mut(index).ok_or(missing)?))
    }

    fn answer(
        &mut self,
        key: &str,
        request: &str,
        payment: usize,
        operations: usize,
    ) -> Result<(), Inconsistent> {
        let answer = RecordedAnswer { request: request.to_owned(), payment, operations };
        match self.answers.insert(key.to_owned(), answer) {
            Some(_) => Err(Inconsistent("the idempotency key is used already")),
            None => Ok(()),
        }
    }
}

/// Returns the amount that an operation moves, in minor units, or refuses the operation.
pub fn allowed(
    payment: &BookedPayment,
    kind: BookedKind,
    asked: Option<i64>,
) -> Result<i64, Problem> {
    if payment.status != BookedStatus::Authorized {
        return Err(Problem::conflict("not_authorized", "the payment is not authorized"));
    }
    if payment.operations.len() >= OPERATIONS_MAX {
        let detail = "a payment has at most 100 operations";
        return Err(Problem::conflict("too_many_operations", detail));
    }
    let sums = payment.sums(payment.operations.len());
    let uncaptured = payment.made.amount - sums.captured;
    let (left, code) = match kind {
        BookedKind::Capture | BookedKind::Void if sums.voided => {
            return Err(Problem::conflict("payment_voided", "the payment was voided"));
        }
        BookedKind::Void if uncaptured == 0 => {
            return Err(Problem::conflict("nothing_to_void", "everything is captured"));
        }
        BookedKind::Void | BookedKind::Capture => (uncaptured, "capture_exceeds_authorized"),
        BookedKind::Refund => (sums.captured - sums.refunded, "refund_exceeds_captured"),
    };
    match asked {
        None => Ok(left),
        Some(amount) if amount <= left => Ok(amount),
        Some(_) => Err(Problem::conflict(code, format!("only {left} minor units are left"))),
    }
}

/// Returns the operations that reverse a payment; none if there is nothing to reverse. Each has the
/// reference of the payment.
pub fn undoing(payment: &BookedPayment, mut id: impl FnMut() -> String) -> Vec<BookedOperation> {
    if payment.status == BookedStatus::Declined {
        return Vec::new();
    }
    let sums = payment.sums(payment.operations.len());
    let uncaptured = payment.made.amount - sums.captured;
    let mut operations = Vec::new();
    let mut push = |kind, amount| {
        let reference = payment.made.reference.clone();
        operations.push(BookedOperation { id: id(), kind, reference, amount });
    };
    if uncaptured > 0 && !sums.voided {
        push(BookedKind::Void, uncaptured);
    }
    if sums.captured > sums.refunded {
        push(BookedKind::Refund, sums.captured - sums.refunded);
    }
    operations
}
