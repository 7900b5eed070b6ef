//! Tests of the stock of one SKU: it never sells a unit twice, recognizes repeated commands, and
//! removes old claims.

mod model;

use super::*;
use crate::domain::entity::Noun;

const SEC: i64 = 1_000;
const DAY: i64 = 24 * 3600 * SEC;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn place(name: &str) -> Location {
    name.parse().unwrap()
}

fn order(number: u32) -> OrderId {
    let uuid =
        uuid::Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 + u128::from(number));
    OrderId(crate::domain::id::Key::new(uuid))
}

fn set(name: &str, on_hand: i64) -> Command {
    Command::Set { location: place(name), on_hand, change_from: None, reason: None }
}

fn adjust(name: &str, delta: i64) -> Command {
    Command::Adjust { location: place(name), delta, reason: "counted".into() }
}

fn receive(name: &str, quantity: i64, from_incoming: bool) -> Command {
    Command::Receive { location: place(name), quantity, from_incoming, reason: None }
}

fn expect(name: &str, quantity: i64) -> Command {
    Command::Expect { location: place(name), quantity, reason: None }
}

fn transfer(from: &str, to: &str, quantity: i64) -> Command {
    Command::Transfer { from: place(from), to: place(to), quantity, reason: None }
}

fn reserve(number: u32, generation: u32, quantity: i64, hold_until: i64) -> Command {
    Command::Reserve(Reserve {
        order: order(number),
        generation,
        quantity,
        hold_until: at(hold_until),
        priority: [place("main")].into(),
        closed: [].into(),
    })
}

#[test]
fn nothing_is_reserved_at_a_closed_location() {
    let mut stock = Stock::default();
    for (location, quantity) in [("main", 2), ("back", 5)] {
        let receive = Command::Receive {
            location: place(location),
            quantity,
            from_incoming: false,
            reason: None,
        };
        for event in stock.decide(&receive, at(0)).unwrap() {
            stock.evolve(&event, at(0));
        }
    }
    let closed: std::sync::Arc<[Location]> = [place("back")].into();
    let ask = |quantity| {
        let Command::Reserve(reserve) = reserve(1, 1, quantity, 900) else { panic!() };
        Command::Reserve(Reserve { closed: closed.clone(), ..reserve })
    };
    let short = Rejection::OutOfStock { requested: 3, available: 2, held: 0 };
    assert_eq!(stock.decide(&ask(3), at(0)), Err(short));
    let events = stock.decide(&ask(2), at(0)).unwrap();
    let [Event::Reserved { parts, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(parts, &[LocationUnits { location: place("main"), quantity: 2 }]);
    assert_eq!((stock.sellable(at(0)), stock.sellable_outside(&closed, at(0))), (7, 2));
    stock.evolve(&events[0], at(0));
    let later = at(901 * 1_000);
    assert_eq!(stock.sellable_outside(&closed, later), 2, "the hold has expired");
    assert_eq!(stock.shown(later).sellable_outside(&closed, later), 2, "as another node sees it");
}

fn commit(number: u32) -> Command {
    Command::Commit { order: order(number) }
}

fn yields(number: u32, generation: u32) -> Command {
    Command::Yield { order: order(number), generation }
}

fn release(number: u32) -> Command {
    Command::Release { order: order(number) }
}

fn ship(number: u32, id: &str, quantity: i64) -> Command {
    Command::Ship { order: order(number), id: id.into(), quantity }
}

fn take_back(number: u32, id: &str, unshipped: i64, shipped: i64, restock: bool) -> Command {
    Command::TakeBack { order: order(number), id: id.into(), unshipped, shipped, restock }
}

/// Runs a command, and returns the kinds of its events, or the rejection.
fn take(stock: &mut Stock, millis: i64, command: &Command) -> Result<Vec<&'static str>, Rejection> {
    let events = stock.decide(command, at(millis))?;
    apply(stock, millis, &events);
    Ok(events.iter().map(entity::Event::kind).collect())
}

fn apply(stock: &mut Stock, millis: i64, events: &[Event]) {
    for event in events {
        let text = serde_json::to_string(event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), *event);
        stock.evolve(event, at(millis));
        assert_eq!(stock.fault(), None, "after {event:?}");
    }
}

/// Runs commands at their times, in ms, and compares the kinds of the events, or the rejection, of
/// each. `end` is the final level: on hand, reserved, allocated, incoming, sold.
#[track_caller]
fn check(steps: &[(i64, Command, &str)], end: [i64; 5]) -> Stock {
    let mut stock = Stock::default();
    for (millis, command, outcome) in steps {
        let got = take(&mut stock, *millis, command)
            .map_or_else(|error| error.to_string(), |events| events.join(" "));
        assert_eq!(got, *outcome, "{command:?} at {millis}");
    }
    let Level { on_hand, reserved, allocated, incoming, sold, .. } = stock.total();
    assert_eq!([on_hand, reserved, allocated, incoming, sold], end);
    let text = serde_json::to_string(&stock).unwrap();
    assert_eq!(serde_json::from_str::<Stock>(&text).unwrap(), stock, "a snapshot is a copy");
    stock
}

#[test]
fn stock_is_reserved_allocated_and_shipped() {
    check(
        &[
            (0, set("main", 5), "adjusted"),
            (0, set("main", 5), ""),
            (0, reserve(1, 1, 3, 900), "reserved"),
            (1, reserve(1, 1, 3, 901), ""),
            (2, reserve(2, 1, 3, 900), "3 units were requested and 2 are available"),
            (3, commit(1), "committed"),
            (3, commit(1), ""),
            (3, reserve(1, 2, 3, 900), ""),
            (4, ship(1, "1", 4), "1 units are not allocated to the order"),
            (4, ship(1, "1", 3), "shipped"),
            (4, ship(1, "1", 3), ""),
            (5, reserve(1, 1, 3, 900), ""),
            (5, commit(1), ""),
            (6, take_back(1, "1", 0, 2, true), "restocked"),
            (6, take_back(1, "1", 0, 2, true), ""),
        ],
        [4, 0, 0, 0, 1],
    );
}

#[test]
fn hold_expires_at_its_time() {
    let steps = [
        (0, set("main", 1), "adjusted"),
        (0, reserve(1, 1, 1, 900), "reserved"),
        (899, reserve(2, 1, 1, 2_000), "1 units were requested and 0 are available"),
        (899, set("main", 0), "1 units are on hand, of which 1 are reserved or allocated"),
        (900, commit(1), "the hold has expired"),
        (900, reserve(2, 1, 1, 2_000), "lapsed reserved"),
        (901, reserve(1, 2, 1, 2_000), "1 units were requested and 0 are available"),
        (902, commit(2), "committed"),
        (5_000, commit(2), ""),
    ];
    check(&steps, [1, 0, 1, 0, 0]);
    let stock = check(&steps[..2], [1, 1, 0, 0, 0]);
    assert_eq!((stock.sellable(at(899)), stock.sellable(at(900))), (0, 1));
    assert_eq!(stock.timer(), Some(at(900)));
    assert_eq!(stock.on_timer(at(899)), []);
    assert_eq!(stock.on_timer(at(900)), [Event::Lapsed { order: order(1) }]);
    for late in [set("main", 0), adjust("main", -1), transfer("main", "shop", 1)] {
        let mut stock = stock.clone();
        assert_eq!(take(&mut stock, 900, &late).map(|events| events.len()), Ok(2), "{late:?}");
    }
}

#[test]
fn later_reservation_keeps_or_changes_the_hold() {
    check(
        &[
            (0, set("main", 5), "adjusted"),
            (0, reserve(1, 1, 3, 900), "reserved"),
            (1, reserve(1, 2, 3, 800), "extended"),
            (1, reserve(1, 1, 3, 950), ""),
            (850, reserve(1, 3, 5, 900), "lapsed reserved"),
            (850, reserve(1, 4, 6, 900), "6 units were requested and 5 are available"),
            (851, commit(1), "committed"),
        ],
        [5, 0, 5, 0, 0],
    );
}

#[test]
fn released_order_cannot_reserve_again() {
    check(
        &[
            (0, set("main", 5), "adjusted"),
            (0, release(1), "released"),
            (0, reserve(1, 1, 1, 900), "the stock of the order was already released"),
            (0, commit(1), "the hold has expired"),
            (0, reserve(2, 1, 1, 900), "reserved"),
            (0, release(2), "released"),
            (0, release(2), ""),
            (0, reserve(3, 1, 1, 900), "reserved"),
            (0, commit(3), "committed"),
            (0, release(3), "released"),
            (0, commit(3), "the hold has expired"),
            (0, reserve(3, 2, 1, 900), "the stock of the order was already released"),
        ],
        [5, 0, 0, 0, 0],
    );
}

#[test]
fn repeated_return_has_no_effect() {
    let sale = [
        (0, set("main", 5), "adjusted"),
        (0, reserve(1, 1, 2, 900), "reserved"),
        (0, commit(1), "committed"),
        (0, ship(1, "1", 1), "shipped"),
        (0, ship(1, "2", 1), "shipped"),
        (DAY - 1, take_back(1, "1", 0, 1, true), "restocked"),
        (DAY, release(2), "released"),
        (DAY, take_back(1, "1", 0, 1, true), ""),
        (30 * DAY, release(3), "released"),
        (30 * DAY, take_back(1, "1", 0, 1, true), ""),
        (30 * DAY, take_back(1, "2", 0, 1, true), "restocked"),
    ];
    check(&sale, [5, 0, 0, 0, 0]);
}

#[test]
fn settled_orders_are_forgotten_after_a_day() {
    let mut steps = vec![
        (0, set("main", 5), "adjusted"),
        (0, reserve(1, 1, 2, 900), "reserved"),
        (900, reserve(2, 1, 1, 2_000), "lapsed reserved"),
        (DAY - 1, release(1), "released"),
        (DAY + 900, release(2), "released"),
        (DAY + 900, reserve(1, 2, 1, 2 * DAY), "the stock of the order was already released"),
    ];
    check(&steps, [5, 0, 0, 0, 0]);
    steps.push((3 * DAY, release(4), "released"));
    let stock = check(&steps, [5, 0, 0, 0, 0]);
    assert_eq!(stock.weight(), 2, "one claim and one level: {stock:?}");
    assert_eq!(stock.settled.len(), 1);
}

#[test]
fn refunds_of_unshipped_units() {
    let sale = [
        (0, set("main", 5), "adjusted"),
        (0, reserve(1, 1, 3, 900), "reserved"),
        (0, commit(1), "committed"),
    ];
    let with = |command, outcome| [sale.to_vec(), vec![(1, command, outcome)]].concat();
    check(&with(take_back(1, "1", 2, 0, true), "restocked"), [5, 0, 1, 0, 0]);
    check(&with(take_back(1, "1", 2, 0, false), "written_off"), [3, 0, 1, 0, 0]);
    check(
        &with(take_back(1, "1", 4, 0, true), "1 units are not allocated to the order"),
        [5, 0, 3, 0, 0],
    );
    let mut both = with(ship(1, "1", 1), "shipped");
    both.push((1, take_back(1, "1", 1, 1, true), "restocked"));
    check(&both, [4 + 1, 0, 1, 0, 0]);
}

#[test]
fn locations_are_asked_in_order() {
    let steps = [
        (0, set("a", 2), "adjusted"),
        (0, set("main", 2), "adjusted"),
        (0, set("z", 4), "adjusted"),
    ];
    let cases: [(i64, &[(&str, i64)]); 4] = [
        (2, &[("main", 2)]),
        (4, &[("z", 4)]),
        (5, &[("main", 2), ("a", 2), ("z", 1)]),
        (8, &[("main", 2), ("a", 2), ("z", 4)]),
    ];
    for (quantity, expected) in cases {
        let mut stock = check(&steps, [8, 0, 0, 0, 0]);
        assert_eq!(take(&mut stock, 0, &reserve(1, 1, quantity, 9)), Ok(vec!["reserved"]));
        let parts = &stock.holds().next().unwrap().1.parts;
        let got: Vec<_> =
            parts.iter().map(|part| (part.location.as_str(), part.quantity)).collect();
        assert_eq!(got, expected);
    }
}

#[test]
fn stock_is_received_and_transferred() {
    check(
        &[
            (0, receive("main", 4, true), "no units are announced"),
            (0, expect("main", 10), "expected"),
            (0, receive("main", 4, true), "received"),
            (0, expect("main", -7), "must be from -6 to 999999994"),
            (0, expect("main", -6), "expected"),
            (0, transfer("main", "shop", 3), "transferred"),
            (0, transfer("main", "main", 1), ""),
            (
                0,
                transfer("main", "shop", 2),
                "1 units are on hand, of which 0 are reserved or allocated",
            ),
            (0, adjust("shop", -3), "adjusted"),
            (0, adjust("shop", -1), "0 units are on hand, of which 0 are reserved or allocated"),
            (
                0,
                Command::Set {
                    location: place("main"),
                    on_hand: 9,
                    change_from: Some(2),
                    reason: None,
                },
                "1 units are on hand",
            ),
        ],
        [1, 0, 0, 0, 0],
    );
}

#[test]
fn numbers_at_the_edge_are_refused() {
    let no = "must lead to a number of units from 0 to 1000000000";
    let mut steps = vec![(0, set("main", QUANTITY_MAX), "adjusted")];
    steps.push((0, set("shop", QUANTITY_MAX), "adjusted"));
    for bad in [i64::MIN, i64::MAX, QUANTITY_MAX + 1] {
        steps.push((0, adjust("main", bad), no));
        steps.push((0, set("main", bad), no));
        steps.push((0, receive("main", bad, false), no));
        steps.push((0, expect("main", bad), "must be from 0 to 1000000000"));
        steps.push((0, transfer("main", "shop", bad), no));
        steps.push((0, ship(1, "1", bad), no));
        steps.push((0, take_back(1, "1", bad, 0, true), no));
        steps.push((0, take_back(1, "1", 0, bad, true), no));
    }
    for none in [0, -1, i64::MIN] {
        steps.push((0, reserve(1, 1, none, 9), no));
    }
    steps.push((0, transfer("main", "shop", 1), "must be from 1 to 0"));
    steps.push((0, receive("main", 1, false), "must be from 1 to 0"));
    steps.push((0, adjust("main", 1), "must be from -1000000000 to 0"));
    steps.push((
        0,
        reserve(1, 1, i64::MAX, 9),
        "9223372036854775807 units were requested and 2000000000 are available",
    ));
    steps.push((0, reserve(1, 1, 2 * QUANTITY_MAX, 9), "reserved"));
    steps.push((9, adjust("main", -QUANTITY_MAX), "lapsed adjusted"));
    check(&steps, [QUANTITY_MAX, 0, 0, 0, 0]);
}

#[test]
fn many_expired_holds_free_their_units() {
    let mut stock = Stock::default();
    take(&mut stock, 0, &set("main", 700)).unwrap();
    for number in 0..700 {
        take(&mut stock, 0, &reserve(number, 1, 1, 900)).unwrap();
    }
    assert_eq!(stock.on_timer(at(900)).len(), 500);
    assert_eq!(stock.sellable(at(900)), 700);
    let few = stock.decide(&reserve(800, 1, 1, 2_000), at(900)).unwrap();
    assert_eq!(few.len(), 501);
    assert_eq!(take(&mut stock, 900, &reserve(800, 1, 700, 2_000)).map(|all| all.len()), Ok(701));
}

#[test]
fn excerpt_has_all_levels_and_bounded_claims() {
    let mut stock = Stock::default();
    let mut take = |command: Command, now: i64| {
        for event in stock.decide(&command, at(now)).unwrap() {
            stock.evolve(&event, at(now));
        }
    };
    let many = u32::try_from(CLAIMS_SHOWN_MAX).unwrap() + 10;
    take(set("main", 10_000), 0);
    take(reserve(0, 1, 5, SEC), 0);
    for number in 1..=2 * many {
        take(reserve(number, 1, 1, DAY), 0);
        if number > many {
            take(commit(number), 0);
        }
    }
    let now = at(2 * SEC);
    let told = Stock::excerpt(Asker::Anyone)(&stock, now);
    assert_eq!(told.total(), stock.total());
    let live = |(_, hold): &(OrderId, &Hold)| hold.hold_until > now;
    assert_eq!(told.holds().filter(live).count(), CLAIMS_SHOWN_MAX);
    assert_eq!(told.allocations().count(), CLAIMS_SHOWN_MAX);
    assert_eq!(told.claim(order(0)), stock.claim(order(0)), "its expired hold");
    assert_eq!(told.sellable(now), stock.sellable(now), "an expired hold is not counted");
    assert_eq!(told.claim(order(1)), stock.claim(order(1)));
    let last = order(2 * many);
    let about = Stock::excerpt(Asker::About(entity::EntityId::new(&last.to_string())))(&stock, now);
    assert_eq!(about.claim(last), stock.claim(last));
    assert_eq!((about.allocations().count(), about.levels().len()), (1, 0));
}

#[test]
fn a_hold_that_yields_stays_until_another_order_needs_its_units() {
    let mut stock = Stock::default();
    let sellable = |stock: &Stock| stock.sellable(at(0));
    for command in [set("main", 10), reserve(1, 1, 4, SEC), reserve(2, 1, 4, SEC)] {
        take(&mut stock, 0, &command).unwrap();
    }
    let short = Rejection::OutOfStock { requested: 6, available: 2, held: 8 };
    assert_eq!(stock.decide(&reserve(3, 1, 6, SEC), at(0)), Err(short));
    take(&mut stock, 0, &yields(1, 1)).unwrap();
    assert_eq!(sellable(&stock), 6);
    assert_eq!(take(&mut stock, 0, &yields(1, 1)), Ok(vec![]), "once is enough");
    assert_eq!(take(&mut stock, 0, &yields(2, 2)), Ok(vec![]), "its attempt 2 has no hold yet");

    // What is free is taken first.
    take(&mut stock, 0, &reserve(3, 1, 2, SEC)).unwrap();
    assert!(stock.claim(order(1)).is_some_and(|claim| claim.hold.is_some()));
    // Its order's next attempt takes the hold over: it does not yield any more.
    take(&mut stock, 0, &reserve(1, 2, 4, SEC)).unwrap();
    assert_eq!(sellable(&stock), 0);
    take(&mut stock, 0, &yields(1, 2)).unwrap();
    let events = take(&mut stock, 0, &reserve(4, 1, 1, SEC)).unwrap();
    assert_eq!(events, ["lapsed", "reserved"]);
    assert!(stock.claim(order(1)).is_none_or(|claim| claim.hold.is_none()));
    assert_eq!(sellable(&stock), 3);
    assert_eq!(take(&mut stock, 0, &commit(1)), Err(Rejection::HoldLapsed));
    assert!(take(&mut stock, 0, &reserve(1, 3, 3, SEC)).is_ok(), "it may reserve again");
}
