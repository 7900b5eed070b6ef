//! Tests of the commands that a cart accepts and rejects, and of the merging of lines.

mod model;

use super::*;
use crate::domain::entity::Noun;
use crate::domain::id::Key;
use crate::domain::sealed;

const DAY: i64 = 24 * 3_600_000;

fn new(sku: &str, quantity: i64) -> NewLine {
    NewLine { sku: sku.parse().unwrap(), quantity, agreed_price: None, agreed_until: None }
}

fn agreed(sku: &str, quantity: i64, price: &str) -> NewLine {
    NewLine { agreed_price: Some(price.parse().unwrap()), ..new(sku, quantity) }
}

fn create(lines: Vec<NewLine>) -> Command {
    Command::Create {
        currency: Currency::GBP,
        details: Box::default(),
        lines,
        lines_max: LINES_MAX,
        key: None,
    }
}

fn add(lines: Vec<NewLine>) -> Command {
    Command::AddLines { lines, lines_max: LINES_MAX }
}

fn amount(line: u32, quantity: i64) -> Command {
    Command::SetQuantity { line, quantity, agrees_prices: false }
}

fn remove(line: u32) -> Command {
    Command::RemoveLine { line }
}

fn email(email: Option<&str>) -> Command {
    let email = Some(email.map(sealed::any));
    Command::Update { details: Box::new(Details { email, ..Details::default() }), key: None }
}

fn order(number: u128) -> OrderId {
    OrderId(Key::new(uuid::Uuid::from_u128(number)))
}

fn spend(number: u128) -> Command {
    Command::Spend { order: order(number) }
}

fn take(cart: &mut Cart, day: i64, command: &Command) -> Result<usize, Rejection> {
    let at = Timestamp::from_millis(day * DAY);
    let events = cart.decide(command, at)?;
    for event in &events {
        let text = serde_json::to_string(event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), *event);
        cart.evolve(event, at);
        let copy = serde_json::to_string(cart).unwrap();
        assert_eq!(serde_json::from_str::<Cart>(&copy).unwrap(), *cart);
    }
    Ok(events.len())
}

/// Runs commands, each on its day, and compares the final lines, or the rejection of the last
/// command, with `end`. Returns the cart.
#[track_caller]
fn check(steps: &[(i64, Command)], end: &str) -> Cart {
    let mut cart = Cart::default();
    let mut last = Ok(0);
    for (day, command) in steps {
        assert!(last.is_ok(), "{last:?} before {command:?}");
        last = take(&mut cart, *day, command);
    }
    let lines = cart.lines().iter().map(|line| {
        let price = line.agreed_price.map_or_else(String::new, |price| format!("@{price}"));
        format!("{}:{}x{}{price}", line.id, line.quantity, line.sku)
    });
    let shown = lines.collect::<Vec<_>>().join(" ");
    assert_eq!(last.map_or_else(|error| error.to_string(), |_| shown), end);
    cart
}

#[test]
fn equal_skus_are_merged_and_line_ids_are_never_reused() {
    let first = vec![new("A", 1), new("B", 2), new("A", 3), agreed("A", 1, "5.5")];
    let steps = [
        (0, create(first)),
        (0, add(vec![new("A", 1), agreed("A", 1, "5.5"), new("C", 1)])),
        (0, remove(4)),
        (0, add(vec![new("D", 1)])),
        (0, amount(2, 9)),
        (0, amount(2, 9)),
        (0, add(vec![])),
    ];
    check(&steps[..1], "1:4xA 2:2xB 3:1xA@5.5");
    check(&steps[..2], "1:5xA 2:2xB 3:2xA@5.5 4:1xC");
    check(&steps, "1:5xA 2:9xB 3:2xA@5.5 5:1xD");
}

#[test]
fn numbers_at_the_edge_are_refused() {
    let no = "must leave a line with 1 to 1000000 units";
    for bad in [i64::MIN, -1, 0, QUANTITY_MAX + 1, i64::MAX] {
        check(&[(0, create(vec![new("A", bad)]))], no);
        check(&[(0, create(vec![new("A", 1)])), (0, add(vec![new("A", bad)]))], no);
        check(&[(0, create(vec![new("A", 1)])), (0, amount(1, bad))], no);
        check(&[(0, create(vec![new("A", 1), new("A", bad)]))], no);
    }
    let full = "must leave each line with at most 1000000 units";
    check(&[(0, create(vec![new("A", QUANTITY_MAX), new("A", 1)]))], full);
    let many = |from: usize, to: usize| (from..to).map(|n| new(&format!("S{n}"), 1)).collect();
    let full = (0, create(many(0, LINES_MAX)));
    let too_many = "must leave the cart with at most 2000 lines";
    check(&[(0, create(many(0, LINES_MAX + 1)))], too_many);
    check(&[full.clone(), (0, add(vec![new("more", 1)]))], too_many);
    let mut cart = Cart::default();
    take(&mut cart, 0, &full.1).unwrap();
    assert_eq!(take(&mut cart, 0, &add(vec![new("S7", 1)])), Ok(1));
}

#[test]
fn units_of_an_agreed_price_are_changed_by_who_may_agree_prices() {
    let mut cart = Cart::default();
    take(&mut cart, 0, &create(vec![agreed("A", 10, "5"), new("B", 1)])).unwrap();
    let kept = Rejection::AgreedQuantity { quantity: 10 };
    assert_eq!(take(&mut cart, 0, &amount(1, 11)), Err(kept.clone()));
    assert_eq!(take(&mut cart, 0, &amount(1, 9)), Err(kept));
    assert_eq!(take(&mut cart, 0, &amount(1, 10)), Ok(0));
    let changed = Command::SetQuantity { line: 1, quantity: 11, agrees_prices: true };
    assert_eq!(take(&mut cart, 0, &changed), Ok(1));
    take(&mut cart, 0, &add(vec![new("A", 2)])).unwrap();
    let units: Vec<_> = cart.lines().iter().map(|line| line.quantity).collect();
    assert_eq!(units, [11, 1, 2], "more units have the price of the list");
}

#[test]
fn a_caller_has_its_own_limit_of_lines() {
    let lines = |count: usize| (0..count).map(|n| new(&format!("S{n}"), 1)).collect::<Vec<_>>();
    let few = |lines| Command::AddLines { lines, lines_max: 3 };
    let mut cart = Cart::default();
    take(&mut cart, 0, &create(lines(2))).unwrap();
    assert_eq!(take(&mut cart, 0, &few(lines(3))), Ok(1));
    let too_many = Rejection::TooManyLines { lines_max: 3 };
    assert_eq!(take(&mut cart, 0, &few(lines(4))), Err(too_many));
    take(&mut cart, 0, &add(lines(9))).unwrap();
    assert_eq!(take(&mut cart, 0, &few(lines(2))), Ok(1), "lines that are there take more units");
}

#[test]
fn an_agreed_price_holds_until_its_time() {
    let until = Timestamp::from_millis(5);
    let line = NewLine { agreed_until: Some(until), ..agreed("A", 1, "5") };
    let mut cart = Cart::default();
    take(&mut cart, 0, &create(vec![line])).unwrap();
    let price = |millis| cart.lines()[0].agreed_price_at(Timestamp::from_millis(millis));
    assert_eq!((price(4), price(5)), (Some("5".parse().unwrap()), None));
}

#[test]
fn a_cart_is_made_spent_and_expired_once() {
    let made = (0, create(vec![new("A", 1)]));
    check(&[(0, email(None))], "there is no such cart");
    check(&[(0, spend(1))], "there is no such cart");
    check(&[made.clone(), made.clone()], "a cart with this id exists");
    check(&[made.clone(), (0, remove(2))], "the cart has no line 2");
    check(&[made.clone(), (30, remove(1))], "the cart was not changed for 30 days and has expired");
    check(&[made.clone(), (29, email(None)), (58, amount(1, 2))], "1:2xA");
    check(&[made.clone(), (31, spend(1)), (31, spend(1))], "1:1xA");
    let spent = [made, (0, spend(1)), (0, spend(2))];
    let cart = check(&spent, "the cart has become an order");
    assert_eq!(cart.spent_on(), Some(order(1)));
}

#[test]
fn absent_details_are_unchanged() {
    let mut cart = Cart::default();
    take(&mut cart, 0, &create(vec![])).unwrap();
    take(&mut cart, 0, &email(Some("a@example.com"))).unwrap();
    let reference = Details { reference: Some(Some(sealed::any("PO7"))), ..Details::default() };
    take(&mut cart, 0, &Command::Update { details: Box::new(reference), key: None }).unwrap();
    assert_eq!(
        (cart.email(), cart.reference()),
        (Some(&sealed::any("a@example.com")), Some(&sealed::any("PO7")))
    );
    take(&mut cart, 0, &email(None)).unwrap();
    assert_eq!((cart.email(), cart.reference()), (None, Some(&sealed::any("PO7"))));
    assert_eq!(take(&mut cart, 0, &Command::Update { details: Box::default(), key: None }), Ok(0));
}
