//! Tests of the statuses of captures, refunds and fulfillments.

use super::*;

fn after(place: Step, steps: &[Step]) -> Order {
    let ordered = then(vec![place], &[reserved(1), authorized(1), confirm()]);
    tell(&then(ordered, steps))
}

#[test]
fn a_refund_whose_step_was_skipped_is_skipped_until_it_succeeds() {
    let status = |steps: &[Step]| {
        let order = tell(&then(paid(), steps));
        order.refund_status(&order.refunds()[0])
    };
    let asked = refund(&[], 0, 49);
    assert_eq!(status(std::slice::from_ref(&asked)), MovementStatus::Requested);
    assert_eq!(status(&[asked.clone(), refunded(1)]), MovementStatus::Done);
    let skipped = [asked, give_up("refund:1"), skip()];
    assert_eq!(status(&skipped), MovementStatus::Skipped);
    let both = [&skipped[..], &[refunded(1)]].concat();
    assert_eq!(status(&both), MovementStatus::Done);
}

#[test]
fn a_capture_whose_step_was_skipped_is_skipped() {
    let status = |steps: &[Step]| {
        let order = after(place_with(CapturePolicy::ByHand), steps);
        order.capture_status(&order.captures()[0])
    };
    let asked = capture(Some(49));
    assert_eq!(status(std::slice::from_ref(&asked)), MovementStatus::Requested);
    assert_eq!(status(&[asked.clone(), captured(1, 49)]), MovementStatus::Done);
    assert_eq!(status(&[asked, give_up("capture:1"), skip()]), MovementStatus::Skipped);
}

#[test]
fn a_fulfillment_whose_step_was_skipped_is_skipped() {
    let status = |steps: &[Step]| {
        let order = tell(&then(paid(), steps));
        order.shipment_status(&order.fulfillments()[0])
    };
    assert_eq!(status(&[fulfill(&[])]), MovementStatus::Requested);
    assert_eq!(status(&[fulfill(&[]), shipped(1)]), MovementStatus::Done);
    assert_eq!(status(&[fulfill(&[]), give_up("ship:1"), skip()]), MovementStatus::Skipped);
}
