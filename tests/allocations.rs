//! How often memory is asked for in the pieces of a checkout that run on one thread: what an
//! order, a cart and the stock decide, fold in and encode, and what it takes to read them again.
//!
//! The counts are exact, and those of a build without optimization: the optimizer may leave
//! allocations out. Whoever changes one on purpose changes it here and says why; a new toolchain
//! may change them too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(debug_assertions)]

use std::sync::Arc;

use allocation_counter::measure;
use kontor::domain::cart::{self, Cart, Details, NewLine};
use kontor::domain::entity::Noun;
use kontor::domain::id::{Key, OrderId, Sku};
use kontor::domain::money::{Currency, TaxRate, UnitPrice};
use kontor::domain::order::{self, CapturePolicy, Order, PaymentMethod, Placed, ProviderReport};
use kontor::domain::pricing::{Delivery, QuotedLine, Rules, Totals};
use kontor::domain::sealed::{Sealed, SealedAddress};
use kontor::domain::stock::{self, Stock};
use kontor::domain::time::{Span, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Decides commands, folds in what they lead to, and encodes it, as a host does.
fn live<N: Noun>(state: &mut N, commands: &[N::Command]) -> Vec<String> {
    let mut texts = Vec::with_capacity(commands.len());
    for command in commands {
        for event in state.decide(command, NOW).unwrap() {
            texts.push(serde_json::to_string(&event).unwrap());
            state.evolve(&event, NOW);
        }
        let _ = (state.effects(), state.timer());
    }
    texts
}

/// Reads events and folds them in, as a host does that wakes an entity.
fn replay<N: Noun>(texts: &[String]) -> N {
    let mut state = N::default();
    for text in texts {
        let event: N::Event = serde_json::from_str(text).unwrap();
        state.evolve(&event, NOW);
    }
    state
}

/// How often memory is asked for by both.
fn counts<N: Noun>(mut state: N, commands: &[N::Command]) -> (u64, u64) {
    let mut texts = Vec::new();
    let lived = measure(|| texts = live(&mut state, commands));
    let replayed = measure(|| drop(replay::<N>(&texts)));
    (lived.count_total, replayed.count_total)
}

fn id(number: u128) -> OrderId {
    OrderId(Key::new(uuid::Uuid::from_u128(0x018b_cfe5_6800_7000_8000_0000_0000_0000 + number)))
}

fn skus() -> [Sku; 2] {
    ["LAMP", "MUG"].map(|sku| sku.parse().unwrap())
}

fn sealed<T>(letters: &str) -> Sealed<T> {
    format!("01k8x4m5n6p7q8r9s0t1.{letters}").parse().unwrap()
}

fn address() -> SealedAddress {
    SealedAddress { country: "GB".into(), name: sealed("Ada"), address: sealed("London") }
}

fn placed() -> Placed {
    let rules = Rules::default();
    let line = |(id, sku): (u32, Sku)| {
        let name = format!("Product {sku}");
        let price = UnitPrice::from_minor(500).unwrap();
        QuotedLine::new(id, (sku, name), 2, (price, TaxRate::parse("0.2").unwrap()), &rules)
            .unwrap()
    };
    let lines: Vec<QuotedLine> = (1..).zip(skus()).map(line).collect();
    let option = rules.delivery_option("standard").unwrap();
    let delivery = Delivery::of(option, Currency::GBP, &rules).unwrap();
    let totals = Totals::of(&lines, Some(&delivery), true).unwrap();
    Placed {
        order: id(1),
        currency: Currency::GBP,
        email: sealed("ada"),
        reference: None,
        lines,
        shipping_address: address(),
        billing_address: None,
        delivery,
        totals,
        rounding: rules.rounding,
        capture: CapturePolicy::AtOnce,
        deadline_at: NOW + Span::from_secs(1_800),
        hold: Span::from_secs(900),
    }
}

#[test]
fn the_saga_of_an_order() {
    let placed = Arc::new(placed());
    let amount = placed.totals.total;
    let method = PaymentMethod { provider: "sandbox".into(), token: sealed("ok") };
    let report = ProviderReport::Authorized { payment: "pay_1".into(), amount };
    let commands = [
        order::Command::Place { placed, method: Some(method) },
        order::Command::Reserved { generation: 1 },
        order::Command::Report { attempt: 1, report },
        order::Command::Confirm { number: 1 },
        order::Command::Captured { capture: Some(1), amount, operation: "op_1".into() },
    ];
    assert_eq!(counts(Order::default(), &commands), (62, 43));
}

#[test]
fn a_cart_of_two_lines() {
    let line = |sku: Sku| NewLine { sku, quantity: 2, agreed_price: None, agreed_until: None };
    let [first, second] = skus().map(line);
    let details = Details {
        email: Some(Some(sealed("ada"))),
        shipping_address: Some(Some(address())),
        delivery_option: Some(Some("standard".into())),
        ..Details::default()
    };
    let create = cart::Command::Create {
        currency: Currency::GBP,
        details: Box::new(details),
        lines: vec![first],
        lines_max: cart::LINES_MAX,
        key: None,
    };
    let commands = [
        create,
        cart::Command::AddLines { lines: vec![second], lines_max: cart::LINES_MAX },
        cart::Command::Spend { order: id(1) },
    ];
    assert_eq!(counts(Cart::default(), &commands), (16, 19));
}

#[test]
fn the_stock_of_a_sku_with_a_thousand_claims() {
    let main: stock::Location = "main".parse().unwrap();
    let receive = stock::Command::Receive {
        location: main.clone(),
        quantity: 10_000,
        from_incoming: false,
        reason: None,
    };
    let reserve = |number| {
        stock::Command::Reserve(stock::Reserve {
            order: id(number),
            generation: 1,
            quantity: 1,
            hold_until: NOW + Span::from_secs(900),
            priority: [main.clone()].into(),
            closed: [].into(),
        })
    };
    let mut stock = Stock::default();
    live(&mut stock, &[receive]);
    live(&mut stock, &(1..=1_000).map(reserve).collect::<Vec<_>>());
    let one = [reserve(1_001), stock::Command::Commit { order: id(1_001) }];
    let lived = measure(|| drop(live(&mut stock, &one)));
    assert_eq!(lived.count_total, 8);
}
