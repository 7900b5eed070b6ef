//! Rows of gift cards: a read model. What may be spent is decided by the card itself, never from
//! here.

use kontor::domain::money::Currency;
use kontor::domain::time::Timestamp;

kontor::table_row! {
    /// A gift card as its projection last saw it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Row in "gift_card_row", key(number) {
        /// Its number.
        pub number: String,
        /// Its currency.
        pub currency: Currency,
        /// Minor units that are left.
        pub balance: i64,
        /// The number of orders that it was spent on.
        pub orders: i64,
        /// When it last changed.
        pub updated_at: Timestamp,
        /// The seq of its last event.
        pub version: i64,
    }
}
