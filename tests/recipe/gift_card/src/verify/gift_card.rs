//! The invariants of gift cards: each is issued once, spent at most once per order, and never spent
//! beyond its balance (I3); and their rows equal the fold of their events (I6).

use kontor::actors::engine::projections::{Keyed, Projection as _};
use kontor::domain::entity::{EntityId, Noun as _};
use kontor::verify::{FoldedRow, Invariant, ListedBook, NounBook};

use crate::recipe::gift_card::actors::gift_card_rows::{GiftCardRows, gift_card_row};
use crate::recipe::gift_card::domain::gift_card::{Event, GiftCard};
use crate::recipe::gift_card::store::gift_card::Row;

/// The book of gift cards.
#[must_use]
pub fn book() -> ListedBook<Row> {
    NounBook::new("gift_cards", Invariant::I3, check).with_rows()
}

impl FoldedRow for Row {
    type State = GiftCard;
    const PROJECTION: &'static str = GiftCardRows::NAME;

    fn entity(&self) -> EntityId {
        EntityId::new(&format!("{}_{}", GiftCard::PREFIX, self.number))
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn fresh(entity: &EntityId, folded: &Keyed<'_, GiftCard>) -> Vec<Self> {
        gift_card_row(entity, folded).into_iter().collect()
    }
}

/// What is wrong with an event. The numbers have two witnesses: the event, and both balances.
fn check(before: &GiftCard, event: &Event, after: &GiftCard) -> Result<(), String> {
    match event {
        Event::Issued { .. } if before.currency().is_some() => {
            Err("it was issued a second time".to_owned())
        }
        Event::Issued { amount, .. } if after.balance() == *amount && *amount > 0 => Ok(()),
        Event::Spent { order, .. } if before.was_spent_on(*order) => {
            Err(format!("it was spent on {order} a second time"))
        }
        Event::Spent { amount, .. }
            if before.balance() - amount == after.balance()
                && (1..=before.balance()).contains(amount) =>
        {
            Ok(())
        }
        Event::Issued { amount, .. } | Event::Spent { amount, .. } => Err(format!(
            "its balance goes from {} to {} by an event of {amount}",
            before.balance(),
            after.balance()
        )),
    }
}
