//! Flows: processes that touch more than one noun, or external systems; one file per flow, named
//! after it.
//!
//! A flow is a struct that holds the services it needs. Its methods perform its steps, each next to
//! its compensation. All flows are constructed here. `order_steps` lists the effects of an order.

pub mod checkout;
pub mod erasure;
pub mod guests;
pub mod held_units;
pub mod order_numbers;
pub mod order_steps;
pub mod order_tally;
pub mod parts;
pub mod payment;
pub mod reconciliation;
pub mod reservation;
mod settled_payments;
pub mod start_over;
pub mod stock_movements;
pub mod webhook;

use std::sync::Arc;

use self::checkout::CheckoutFlow;
use self::erasure::ErasureFlow;
use self::guests::{ChallengeTally, Guests};
use self::held_units::CountedOrders;
use self::order_numbers::{OrderNumbers, RememberedNumbers};
use self::order_steps::OrderSteps;
use self::parts::Parts;
use self::payment::PaymentSteps;
use self::reconciliation::Reconciliation;
use self::reservation::Reservation;
use self::start_over::StartOver;
use self::stock_movements::StockMovements;
use self::webhook::WebhookIntake;

/// The flows that are started by requests or by time.
pub struct Flows {
    /// Turns a cart into an order.
    pub checkout: CheckoutFlow,
    /// Gives up unpaid orders.
    pub start_over: StartOver,
    /// Erases persons.
    pub erasure: ErasureFlow,
    /// Processes providers' webhooks.
    pub webhooks: WebhookIntake,
    /// Compares the providers' lists of payments with the journal.
    pub reconciliation: Reconciliation,
}

impl Flows {
    /// All flows.
    #[must_use]
    pub fn new(parts: &Parts) -> Self {
        let reconciliation = Reconciliation {
            orders: parts.host(),
            payments: parts.payments.clone(),
            store: parts.store.clone(),
            cache: parts.cache.clone(),
            runtime: parts.runtime.clone(),
            clock: parts.clock.clone(),
        };
        let webhooks = WebhookIntake {
            orders: parts.host(),
            payments: parts.payments.clone(),
            reconciliation: reconciliation.clone(),
            store: parts.store.clone(),
            clock: parts.clock.clone(),
        };
        let checkout = CheckoutFlow {
            carts: parts.host(),
            orders: parts.host(),
            stock: parts.host(),
            locations: parts.locations.clone(),
            pricing: parts.pricing.clone(),
            payments: parts.payments.clone(),
            settings: parts.settings.clone(),
            runtime: parts.runtime.clone(),
            clock: parts.clock.clone(),
            guests: Guests {
                cache: parts.cache.clone(),
                runtime: parts.runtime.clone(),
                store: parts.store.clone(),
                hook: parts.challenge_hook.clone(),
                lifetime: parts.settings.payment_deadline(),
                counted: CountedOrders::new(parts.host()),
                tally: ChallengeTally::default(),
            },
        };
        let start_over = StartOver {
            carts: parts.host(),
            orders: parts.host(),
            store: parts.store.clone(),
            clock: parts.clock.clone(),
        };
        let erasure = ErasureFlow {
            carts: parts.host(),
            orders: parts.host(),
            store: parts.store.clone(),
            settings: parts.settings.clone(),
            clock: parts.clock.clone(),
        };
        Self { checkout, start_over, webhooks, reconciliation, erasure }
    }
}

/// The flow that performs the effects of orders.
#[must_use]
pub fn order_steps(parts: &Parts) -> OrderSteps {
    let numbers = OrderNumbers { counters: parts.host(), arrived: parts.arrived.clone() };
    OrderSteps {
        reservation: Reservation {
            stock: parts.host(),
            numbers,
            locations: parts.locations.clone(),
            clock: parts.clock.clone(),
        },
        payment: PaymentSteps {
            payments: parts.payments.clone(),
            clock: parts.clock.clone(),
            store: Arc::clone(&parts.store),
        },
        movements: StockMovements { stock: parts.host(), clock: parts.clock.clone() },
        arrived: parts.arrived.clone(),
        tally: parts.tally.clone(),
    }
}

/// The flow of counters, which cleans up the remembered order numbers.
#[must_use]
pub fn remembered_numbers(parts: &Parts) -> RememberedNumbers {
    RememberedNumbers { orders: parts.host(), arrived: parts.arrived.clone() }
}
