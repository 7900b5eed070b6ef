//! The topic of gift cards: what is left of each.

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Value, json};

use kontor::actors::engine::changes::Change;
use kontor::actors::engine::projections::Projection as _;
use kontor::http::edge::error::Error;
use kontor::http::edge::principal::Scope;
use kontor::http::live::{ListTopic, Merged, Wrong};
use kontor::store::Store;
use kontor::store::list_page::page_at;

use crate::recipe::gift_card::actors::gift_card_rows::GiftCardRows;
use crate::recipe::gift_card::http::api::gift_card::gift_cards::{GiftCardShape, gift_card_of};
use crate::recipe::gift_card::store::gift_card::Row;

/// The approximate size of a change in bytes.
const CHANGE_BYTES: usize = 200;

/// The topic of gift cards.
#[derive(Clone, Copy, Debug)]
pub struct GiftCardsTopic;

/// A change of a gift card.
#[derive(Debug, Serialize)]
pub struct GiftCardChange<'a> {
    /// Its number.
    number: &'a str,
    /// The version that it had before; 0 if it is new.
    after: i64,
    /// The version that it has now.
    version: i64,
    /// Its new row.
    row: GiftCardShape,
}

#[async_trait]
impl ListTopic for GiftCardsTopic {
    type List = GiftCardRows;
    /// There is none.
    type Filter = ();
    type Row = GiftCardShape;
    type Change<'a> = GiftCardChange<'a>;

    fn name(&self) -> &'static str {
        "gift_cards"
    }

    fn scope(&self) -> Scope {
        Scope::OrdersRead
    }

    fn filter(&self, input: Value) -> Result<(), Wrong> {
        if input == json!({}) { Ok(()) } else { Err(Wrong::unknown_filter()) }
    }

    fn matches_after(&self, (): &(), _: &Change<GiftCardRows>) -> bool {
        true
    }

    fn matches_before(&self, (): &(), _: &Change<GiftCardRows>) -> bool {
        true
    }

    fn bytes(&self, _: &Change<GiftCardRows>, known: bool) -> usize {
        if known { 0 } else { CHANGE_BYTES }
    }

    fn change<'a>(&self, (): &(), merged: &Merged<'a, GiftCardRows>) -> Option<GiftCardChange<'a>> {
        let (first, last) = (merged.first, merged.last);
        let row = gift_card_of(&last.shown);
        let number = &last.shown.number;
        Some(GiftCardChange { number, after: first.after, version: last.version, row })
    }

    async fn snapshot(
        &self,
        store: &Store,
        (): &(),
        limit: u32,
    ) -> Result<(Vec<GiftCardShape>, Vec<(u16, i64)>), Error> {
        let (rows, cursors) = page_at::<Row>(store, GiftCardRows::NAME, limit).await?;
        Ok((rows.iter().map(gift_card_of).collect(), cursors))
    }
}
