//! The fields of answers that the load generator needs, borrowed from the received bytes.
//!
//! Deliberately not here: reactions to them (`buyer`).

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::check::ReportedOutcome;

/// Minor units.
#[derive(Debug, Deserialize)]
pub struct Amount {
    /// The number of minor units.
    pub amount: i64,
}

/// The totals of a cart.
#[derive(Debug, Deserialize)]
pub struct TotalsAnswer {
    /// The amount to pay.
    pub total: Amount,
}

/// A cart, as far as a load test reads it.
#[derive(Debug, Deserialize)]
pub struct CartAnswer<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its token, in the answer that creates it.
    #[serde(borrow, default)]
    pub token: Option<&'a str>,
    /// Its lines.
    pub lines: Vec<IgnoredAny>,
    /// Its totals.
    pub totals: TotalsAnswer,
}

/// An order, as far as a load test reads it.
#[derive(Debug, Deserialize)]
pub struct OrderAnswer<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its lines.
    pub lines: Vec<IgnoredAny>,
    /// The total.
    pub total: Amount,
}

/// A refusal, as far as a load test reads it.
#[derive(Debug, Deserialize)]
pub struct ProblemAnswer<'a> {
    /// The stable code.
    #[serde(borrow)]
    pub code: Cow<'a, str>,
    /// The order that it refers to.
    #[serde(borrow, default)]
    pub order: Option<Cow<'a, str>>,
}

/// The code of a refusal; `http_<status>` if it has none.
#[must_use]
pub fn code_of(status: u16, body: &[u8]) -> Cow<'_, str> {
    match serde_json::from_slice::<ProblemAnswer<'_>>(body) {
        Ok(problem) => problem.code,
        Err(_) => Cow::Owned(format!("http_{status}")),
    }
}

/// What the answer to a refused checkout says about the order; `None` if there is no order.
#[must_use]
pub fn refused_outcome(status: u16, body: &[u8]) -> Option<ReportedOutcome> {
    if status >= 500 {
        return Some(ReportedOutcome::Nothing);
    }
    let problem = serde_json::from_slice::<ProblemAnswer<'_>>(body).ok();
    let Some(problem) = problem else { return Some(ReportedOutcome::Nothing) };
    match (&*problem.code, problem.order) {
        ("payment_declined", Some(_)) => Some(ReportedOutcome::Declined),
        ("out_of_stock" | "order_cancelled", Some(_)) => Some(ReportedOutcome::Cancelled),
        ("out_of_stock", None) => None,
        ("idempotency_in_flight" | "checkout_in_progress", _) | (_, Some(_)) => {
            Some(ReportedOutcome::Nothing)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_whether_there_is_an_order() {
        let body = |code: &str, order: &str| {
            format!(r#"{{"code":"{code}","detail":"a \"b\"","order":{order}}}"#).into_bytes()
        };
        let order = r#""ord_1""#;
        assert_eq!(
            refused_outcome(402, &body("payment_declined", order)),
            Some(ReportedOutcome::Declined)
        );
        assert_eq!(
            refused_outcome(409, &body("out_of_stock", order)),
            Some(ReportedOutcome::Cancelled)
        );
        assert_eq!(refused_outcome(409, &body("out_of_stock", "null")), None);
        assert_eq!(
            refused_outcome(409, &body("order_cancelled", order)),
            Some(ReportedOutcome::Cancelled)
        );
        assert_eq!(refused_outcome(422, br#"{"code":"cart_incomplete"}"#), None);
        assert_eq!(
            refused_outcome(503, &body("try_again", "null")),
            Some(ReportedOutcome::Nothing)
        );
        assert_eq!(refused_outcome(409, b"<html>"), Some(ReportedOutcome::Nothing));
        assert_eq!(code_of(502, b"<html>"), "http_502");
        assert_eq!(code_of(409, &body("out_of_stock", "null")), "out_of_stock");
    }
}
