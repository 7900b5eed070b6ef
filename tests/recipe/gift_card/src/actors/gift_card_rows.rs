//! The rows of gift cards, one each: what lists and the live feed show of them. When they are
//! written, and who is told, is not known here.

use kontor::actors::engine::fold::Folded;
use kontor::actors::engine::projections::{Keyed, LiveList, Projection};
use kontor::domain::entity::{EntityId, Noun as _, Record};
use kontor::store::list_row::Batch;
use kontor::store::row::{Table, TableRow as _};

use crate::recipe::gift_card::domain::gift_card::GiftCard;
use crate::recipe::gift_card::store::gift_card::Row;

/// The projection of gift cards.
#[derive(Clone, Copy, Debug)]
pub struct GiftCardRows;

impl Projection for GiftCardRows {
    const NAME: &'static str = "gift_cards";
    const PREFIXES: &'static [&'static str] = &[GiftCard::PREFIX];
    type State = GiftCard;

    fn listed(entity: &EntityId) -> Option<(&'static Table, &str)> {
        Some((Row::table(), entity.key()))
    }

    fn rows(&self, entity: &EntityId, folded: &Keyed<'_, GiftCard>, batch: &mut Batch) {
        if let Some(row) = gift_card_row(entity, folded) {
            batch.put(row);
        }
    }
}

impl LiveList for GiftCardRows {
    type Shown = Row;
    type Facets = ();
    type Happened = ();

    fn shown(&self, entity: &EntityId, folded: &Keyed<'_, GiftCard>) -> Option<Row> {
        gift_card_row(entity, folded)
    }

    fn facets(&self, _: &GiftCard) {}

    fn happened(&self, _: &Record) {}
}

/// The row of a gift card; `None` before it is issued.
#[must_use]
pub fn gift_card_row(entity: &EntityId, folded: &Folded<GiftCard>) -> Option<Row> {
    Some(Row {
        number: entity.key().to_owned(),
        currency: folded.state.currency()?,
        balance: folded.state.balance(),
        orders: i64::try_from(folded.state.orders()).unwrap_or(i64::MAX),
        updated_at: folded.at,
        version: folded.seq,
    })
}
