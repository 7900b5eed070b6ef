//! Every command in every reachable kind of state of an order.

use super::*;

/// Sequences of steps, each of which leads to another kind of state.
fn places() -> Vec<Vec<Step>> {
    let odd = vec![place(), reserved(1), authorized_for(1, 2_000)];
    vec![
        vec![],
        vec![place()],
        vec![place_free(), reserved(1)],
        vec![place(), reserved(1)],
        vec![place(), reserved(1), unknown(1)],
        vec![place(), reserved(1), pending(1)],
        vec![place(), reserved(1), declined(1)],
        vec![place(), reserved(1), declined(1), pay(), reserved(2)],
        vec![place(), reserved(1), authorized(1)],
        vec![place(), reserved(1), authorized(1), hold_lapsed(1)],
        odd.clone(),
        then(odd, &[cancel()]),
        happy(),
        then(happy(), &[give_up("capture:1")]),
        then(happy(), &[voided(1)]),
        paid(),
        then(paid(), &[alert()]),
        then(paid(), &[fulfill(&[(1, 1)])]),
        then(paid(), &[refund(&[(1, 1)], 0, 49)]),
        then(paid(), &[refund(&[(1, 1)], 0, 49), give_up("refund:1"), skip()]),
        then(happy(), &[cancel()]),
        then(paid(), &[cancel()]),
        then(paid(), &[cancel(), refunded(1)]),
        then(paid(), &[cancel(), refunded(1), released()]),
        vec![place(), reserved(1), cancel()],
        vec![place(), reserved(1), cancel(), give_up("reverse:1"), skip(), released()],
    ]
}

/// Commands of every kind, including many that no correct caller would send.
pub(super) fn commands() -> Vec<Step> {
    vec![
        place(),
        pay(),
        abandon(),
        reserved(1),
        reserved(2),
        out_of_stock(1),
        out_of_stock(2),
        authorized(1),
        authorized(2),
        authorized_for(1, 0),
        declined(1),
        unknown(1),
        pending(1),
        reversed(1),
        voided(1),
        voided(2),
        report(u32::MAX, ProviderReport::Reversed),
        hold_lapsed(1),
        hold_lapsed(2),
        confirm(),
        captured(1, TOTAL),
        captured(1, 49),
        captured(2, 49),
        captured(1, i64::MAX),
        captured(1, -1),
        captured(1, 0),
        refunded(1),
        refunded(2),
        captured_elsewhere(1, 49),
        captured_elsewhere(2, TOTAL),
        refunded_elsewhere(3, 49),
        refunded_elsewhere(4, TOTAL),
        restocked(1),
        shipped(1),
        released(),
        give_up("release"),
        give_up("capture:1"),
        cancel(),
        refund(&[(1, 1)], 1, 1),
        refund(&[], i64::MAX, i64::MAX),
        capture(None),
        capture(Some(i64::MAX)),
        capture(Some(i64::MIN)),
        fulfill(&[]),
        fulfill(&[(1, 1)]),
        fulfill(&[(1, i64::MIN)]),
        correct_tracking(1, Some("RR1GB")),
        correct_tracking(1, None),
        retry(),
        skip(),
        alert(),
        Step::Timer(0),
        Step::Timer(HOUR),
    ]
}

#[test]
fn any_command_in_any_state_keeps_the_invariants() {
    let commands = commands();
    for before in places() {
        let order = tell(&before);
        for one in &commands {
            for other in &commands {
                let mut order = order.clone();
                let _ = take(&mut order, one);
                let _ = take(&mut order, one);
                let _ = take(&mut order, other);
            }
        }
    }
}
