//! Buys one invoice: cart and checkout, repeated with fewer units when there is too little stock.
//!
//! Deliberately not here: the effect of the outcome on rows and refunds (`run`).

use std::time::{Duration, Instant};

use kontor_client::api::{
    self, Address, Cart, Checkout, NewCart, NewLine, PaymentMethod, Shortage,
};
use kontor_client::{Client, Problem};
use kontor_client::{Money, Price};
use serde_json::Value;

use super::plan::{InvoiceStep, PlannedLine, PlannedOrder};
use crate::online_retail::{country_code, postal_code, value};

/// The currency of the file.
pub const CURRENCY: &str = "GBP";
/// The most carts for one invoice.
const CARTS_MAX: usize = 20;
/// The most checkouts of one cart.
const CHECKOUTS_MAX: usize = 60;
/// The most retries of a declined payment.
const DECLINES_MAX: usize = 3;
/// The longest time that an order may stay undecided.
const DECISION_MAX: Duration = Duration::from_secs(120);

/// Why an invoice was not bought.
#[derive(Debug)]
pub enum PurchaseFailure {
    /// The run cannot continue.
    End(kontor_client::Error),
    /// This invoice cannot be bought, for this reason.
    Fault(String),
}

impl From<kontor_client::Error> for PurchaseFailure {
    fn from(error: kontor_client::Error) -> Self {
        if error.ends_the_run() { Self::End(error) } else { Self::Fault(error.to_string()) }
    }
}

/// An order that was bought and confirmed.
#[derive(Clone, Debug)]
pub struct BoughtOrder {
    /// Its id at the server.
    pub id: String,
    /// The server's line for each line of the plan, if any of it was sold.
    pub lines: Vec<Option<String>>,
    /// Units sold of each line of the plan.
    pub sold: Vec<i64>,
    /// The server's total, in pence.
    pub total: i64,
    /// The delivery's part of it, in pence.
    pub delivery: i64,
    /// Whether all of it has been captured.
    pub captured: bool,
}

/// The outcome of an invoice.
#[derive(Debug, Default)]
pub struct Bought {
    /// The order, unless nothing was left to buy.
    pub placed: Option<BoughtOrder>,
    /// Earlier orders of this invoice that were cancelled for lack of stock.
    pub cancelled: Vec<String>,
    /// Totals of the server that differ from those computed here.
    pub mismatches: Vec<String>,
    /// How long each checkout took.
    pub latencies: Vec<Duration>,
}

/// One invoice in progress.
pub struct InvoiceBuyer<'a> {
    client: &'a Client,
    step: &'a InvoiceStep,
    order: &'a PlannedOrder,
    key: String,
    want: Vec<i64>,
    bought: Bought,
}

enum Tried {
    Confirmed(Box<api::Order>, i64),
    NewCart,
    Nothing,
}

impl<'a> InvoiceBuyer<'a> {
    /// Prepares to buy an invoice; the idempotency key of every request begins with `key`.
    #[must_use]
    pub fn new(
        client: &'a Client,
        step: &'a InvoiceStep,
        order: &'a PlannedOrder,
        key: String,
    ) -> Self {
        let want = order.lines.iter().map(|line| line.quantity).collect();
        Self { client, step, order, key, want, bought: Bought::default() }
    }

    /// Buys as many of the invoice's units as are available.
    ///
    /// # Errors
    /// [`PurchaseFailure`].
    pub async fn buy(mut self) -> Result<Bought, PurchaseFailure> {
        for number in 1..=CARTS_MAX {
            let Some(cart) = self.make_cart(number).await? else { continue };
            match self.use_cart(cart, number).await? {
                Tried::Confirmed(order, delivery) => {
                    let placed = self.placed(&order, delivery)?;
                    self.bought.placed = Some(placed);
                    return Ok(self.bought);
                }
                Tried::Nothing => return Ok(self.bought),
                Tried::NewCart => {}
            }
            if self.want.iter().all(|units| *units == 0) {
                return Ok(self.bought);
            }
        }
        Err(PurchaseFailure::Fault(format!("given up after {CARTS_MAX} carts")))
    }

    async fn make_cart(&mut self, number: usize) -> Result<Option<Cart>, PurchaseFailure> {
        let lines = self.order.lines.iter().zip(&self.want).filter(|(_, units)| **units > 0);
        let lines = lines.map(|(line, units)| NewLine {
            sku: line.code.to_string(),
            quantity: *units,
            unit_price: Some(Price::new(line.price, CURRENCY)),
        });
        let body = NewCart {
            currency: Some(CURRENCY.to_owned()),
            email: Some(email(self.step)),
            reference: Some(self.step.invoice.to_string()),
            lines: lines.collect(),
            shipping_address: Some(address(self.step)?),
            delivery_option: Some("standard".to_owned()),
        };
        let key = format!("{}-cart-{number}", self.key);
        match self.client.create_cart(&body).idempotency_key(&key).send().await {
            // The client's API key may use every cart, so that lines can have agreed prices.
            Ok(answer) => Ok(Some(answer.body.cart)),
            Err(error) if error.code() == "out_of_stock" => {
                self.reduce(error.problem());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn use_cart(&mut self, mut cart: Cart, number: usize) -> Result<Tried, PurchaseFailure> {
        let mut declines = 0;
        for attempt in 1..=CHECKOUTS_MAX {
            let key = match (number, attempt) {
                (1, 1) => self.key.clone(),
                _ => format!("{}-{number}-{attempt}", self.key),
            };
            let problem = match self.check_out(&cart, &key).await {
                Ok(order) => return self.decided(order, delivery(&cart)).await,
                Err(kontor_client::Error::Problem(problem)) => problem,
                Err(error) => return Err(error.into()),
            };
            let spent_on = problem.document.get("order").and_then(Value::as_str);
            match (problem.code.as_str(), spent_on) {
                ("out_of_stock", Some(order)) => {
                    self.bought.cancelled.push(order.to_owned());
                    self.reduce(Some(&problem));
                    return Ok(Tried::NewCart);
                }
                ("out_of_stock", None) => {
                    if !self.reduce(Some(&problem)) {
                        pause(attempt).await;
                    }
                    if self.want.iter().all(|units| *units == 0) {
                        return Ok(Tried::Nothing);
                    }
                    cart = self.change_cart(cart).await?;
                }
                ("cart_spent", Some(order)) => return self.adopt(order, delivery(&cart)).await,
                ("payment_declined", _) if declines < DECLINES_MAX => declines += 1,
                ("cart_changed", _) => {
                    let mismatch = format!("{}: {problem}", self.step.invoice);
                    self.bought.mismatches.push(mismatch);
                    return Err(self.fault(&problem));
                }
                _ => return Err(kontor_client::Error::Problem(problem).into()),
            }
        }
        Err(PurchaseFailure::Fault(format!("given up after {CHECKOUTS_MAX} checkouts")))
    }

    fn fault(&self, problem: &Problem) -> PurchaseFailure {
        PurchaseFailure::Fault(format!("we expected {} pence: {problem}", self.items()))
    }

    async fn check_out(
        &mut self,
        cart: &Cart,
        key: &str,
    ) -> Result<api::Order, kontor_client::Error> {
        let expected = self.items() + delivery(cart);
        let body = Checkout {
            payment: Some(PaymentMethod::sandbox("tok_ok")),
            expected_total: Some(Money::minor(expected, CURRENCY)),
        };
        let started = Instant::now();
        let call = self.client.check_out(&cart.id, &body).idempotency_key(key).prefer_wait(30);
        let answer = call.send().await;
        self.bought.latencies.push(started.elapsed());
        answer.map(|answer| answer.body)
    }

    /// Waits until an order is confirmed or cancelled.
    async fn decided(
        &mut self,
        mut order: api::Order,
        delivery: i64,
    ) -> Result<Tried, PurchaseFailure> {
        let deadline = Instant::now() + DECISION_MAX;
        for attempt in 1.. {
            match order.status.as_str() {
                "cancelled" => {
                    self.bought.cancelled.push(order.id);
                    return Ok(Tried::NewCart);
                }
                "pending" | "awaiting_payment" if Instant::now() < deadline => {
                    pause(attempt).await;
                    order = self.client.get_order(&order.id).send().await?.body;
                }
                "confirmed" | "partially_fulfilled" | "fulfilled" | "completed" | "refunded" => {
                    break;
                }
                status => {
                    let text = format!("order {} stays {status}", order.id);
                    return Err(PurchaseFailure::Fault(text));
                }
            }
        }
        Ok(Tried::Confirmed(Box::new(order), delivery))
    }

    /// Continues with the order that an earlier, interrupted run has placed from this cart.
    async fn adopt(&mut self, order: &str, delivery: i64) -> Result<Tried, PurchaseFailure> {
        let order = self.client.get_order(order).send().await?.body;
        self.decided(order, delivery).await
    }

    /// Reduces the wanted units to the available ones that a refusal names; returns whether any
    /// were reduced.
    fn reduce(&mut self, problem: Option<&Problem>) -> bool {
        let lines = problem.and_then(|problem| problem.document.get("lines"));
        let shortages: Vec<Shortage> =
            lines.and_then(|lines| serde_json::from_value(lines.clone()).ok()).unwrap_or_default();
        reduce(&self.order.lines, &mut self.want, &shortages)
    }

    /// Changes an open cart to the wanted units.
    async fn change_cart(&self, mut cart: Cart) -> Result<Cart, PurchaseFailure> {
        for (line, want) in self.order.lines.iter().zip(&self.want) {
            let Some(there) = find(&cart.lines, line) else { continue };
            if there.quantity == *want {
                continue;
            }
            let call = match *want {
                0 => self.client.remove_line(&cart.id, &there.id),
                want => self.client.set_quantity(&cart.id, &there.id, want),
            };
            match call.send().await {
                Ok(answer) => cart = answer.body,
                Err(error) if error.code() == "cart_spent" => return Ok(cart),
                // An earlier, interrupted run has removed it already.
                Err(error) if error.code() == "not_found" => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(cart)
    }

    /// The value of the wanted units, in pence: each line is rounded separately.
    fn items(&self) -> i64 {
        let lines = self.order.lines.iter().zip(&self.want);
        lines.map(|(line, units)| value(line.price, *units)).sum()
    }

    fn placed(
        &mut self,
        order: &api::Order,
        delivery: i64,
    ) -> Result<BoughtOrder, PurchaseFailure> {
        let found: Vec<_> = self.order.lines.iter().map(|line| find(&order.lines, line)).collect();
        self.want = found.iter().map(|line| line.map_or(0, |line| line.quantity)).collect();
        let total = order.total.amount;
        let expected = self.items() + delivery;
        if total != expected || found.iter().flatten().count() != order.lines.len() {
            let text = format!(
                "{}: order {} has {} lines and comes to {}, we expected {expected}",
                self.step.invoice,
                order.id,
                order.lines.len(),
                total
            );
            self.bought.mismatches.push(text);
        }
        let captured = order.captured.as_ref().map(|captured| captured.amount) == Some(total);
        Ok(BoughtOrder {
            id: order.id.clone(),
            lines: found.iter().map(|line| line.map(|line| line.id.clone())).collect(),
            sold: self.want.clone(),
            total,
            delivery,
            captured,
        })
    }
}

fn find<'a>(lines: &'a [api::Line], wanted: &PlannedLine) -> Option<&'a api::Line> {
    lines
        .iter()
        .find(|line| *line.sku == *wanted.code && line.unit_price.read() == Some(wanted.price))
}

/// Reduces the wanted units of each short code to the available ones, last lines first; returns
/// whether any were reduced.
pub fn reduce(lines: &[PlannedLine], want: &mut [i64], shortages: &[Shortage]) -> bool {
    let mut changed = false;
    for short in shortages {
        let of_code = |line: &PlannedLine| *line.code == *short.sku;
        let wanted: i64 =
            lines.iter().zip(&*want).filter(|(line, _)| of_code(line)).map(|(_, n)| n).sum();
        let mut excess = wanted - short.available.max(0);
        for (line, units) in lines.iter().zip(&mut *want).rev() {
            if excess <= 0 || !of_code(line) {
                continue;
            }
            let cut = excess.min(*units);
            *units -= cut;
            excess -= cut;
            changed |= cut > 0;
        }
    }
    changed
}

fn delivery(cart: &Cart) -> i64 {
    cart.delivery.as_ref().map_or(0, |delivery| delivery.price.amount)
}

fn email(step: &InvoiceStep) -> String {
    match &step.customer {
        Some(customer) => format!("customer-{customer}@example.com"),
        None => format!("guest-{}@example.com", step.invoice),
    }
}

fn address(step: &InvoiceStep) -> Result<Address, PurchaseFailure> {
    let country = country_code(&step.country).ok_or_else(|| {
        PurchaseFailure::Fault(format!("{:?} is no country we know", step.country))
    })?;
    let name = match &step.customer {
        Some(customer) => format!("Customer {customer}"),
        None => format!("Guest {}", step.invoice),
    };
    Ok(Address {
        name,
        line1: "1 Market Street".to_owned(),
        city: step.country.to_string(),
        postal_code: postal_code(&step.country).map(str::to_owned),
        country: country.to_owned(),
    })
}

/// A growing pause between polls.
pub async fn pause(attempt: usize) {
    let millis = u64::try_from(attempt).unwrap_or(u64::MAX).saturating_mul(25).min(1_000);
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(code: &str, price: &str, quantity: i64) -> PlannedLine {
        PlannedLine { code: code.into(), price: price.parse().unwrap(), quantity, rows: Vec::new() }
    }

    #[test]
    fn the_last_lines_of_a_short_code_are_cut_first() {
        let lines = [line("a", "100", 5), line("b", "1", 9), line("a", "90", 3)];
        let short = |sku: &str, available| Shortage { sku: sku.into(), available };
        let mut want = [5, 9, 3];
        assert!(reduce(&lines, &mut want, &[short("a", 4)]));
        assert_eq!(want, [4, 9, 0]);
        assert!(!reduce(&lines, &mut want, &[short("a", 4), short("c", 0)]));
        assert!(reduce(&lines, &mut want, &[short("a", 0), short("b", -2)]));
        assert_eq!(want, [0, 0, 0]);
    }
}
