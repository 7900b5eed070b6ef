//! What a buyer may do with an order that is not paid, and is shown of every order.

use super::*;

#[test]
fn a_buyer_gives_up_an_order_that_is_not_paid() {
    let declined = vec![place(), reserved(1), declined(1)];
    let free = "cancelling cancelled/declined/unfulfilled 0-0 due 0 [release]";
    check(then(declined.clone(), &[abandon()]), free);
    check(then(declined.clone(), &[abandon(), abandon()]), free);
    let given_up = then(declined.clone(), &[abandon()]);
    let why = "the order is cancelled and takes no further payment";
    refused(given_up.clone(), pay(), why);
    check(then(given_up, &[released()]), "cancelled cancelled/declined/unfulfilled 0-0 due 0 []");
    check(
        vec![place(), reserved(1), abandon()],
        "cancelling cancelled/requested/unfulfilled 0-0 due 0 [reverse:1]",
    );
    check(
        vec![place(), reserved(1), abandon(), authorized(1)],
        "cancelling cancelled/authorized/unfulfilled 0-0 due 0 [void:1]",
    );
    for paid in [vec![place(), reserved(1), authorized(1)], paid()] {
        refused(paid, abandon(), "the order is paid: only the shop can cancel it");
    }
}

#[test]
fn a_late_report_of_a_declined_attempt_changes_nothing() {
    let again = vec![place(), reserved(1), declined(1), pay(), reserved(2)];
    for late in [declined(1), authorized(1), unknown(1), pending(1)] {
        check(then(again.clone(), &[late]), &show(&tell(&again)));
    }
}

#[test]
fn a_buyer_is_shown_what_a_buyer_can_act_on() {
    let odd = vec![place(), reserved(1), authorized_for(1, 2_000)];
    let declined_now = vec![place(), reserved(1), declined(1)];
    let given_up = vec![place(), reserved(1), unknown(1), report(1, ProviderReport::Unheard)];
    for (steps, status, payment) in [
        (vec![place()], "pending", "none"),
        (vec![place(), reserved(1)], "pending", "pending"),
        (vec![place(), reserved(1), unknown(1)], "pending", "pending"),
        (given_up.clone(), "pending", "pending"),
        (then(given_up.clone(), &[reversed(1)]), "awaiting_payment", "declined"),
        (then(given_up, &[reversed(1), abandon()]), "cancelled", "cancelled"),
        (declined_now.clone(), "awaiting_payment", "declined"),
        (then(declined_now, &[pay()]), "pending", "pending"),
        (odd, "pending", "authorized"),
        (happy(), "confirmed", "authorized"),
        (then(happy(), &[give_up("capture:1")]), "confirmed", "authorized"),
        (paid(), "confirmed", "paid"),
        (then(paid(), &[fulfill(&[(1, 1)])]), "partially_fulfilled", "paid"),
        (then(paid(), &[fulfill(&[])]), "fulfilled", "paid"),
        (then(paid(), &[cancel(), refunded(1), released()]), "cancelled", "refunded"),
    ] {
        let order = tell(&steps);
        let shown = (<&str>::from(order.buyer_status()), <&str>::from(order.buyer_payment()));
        assert_eq!(shown, (status, payment), "{steps:?}");
    }
}
