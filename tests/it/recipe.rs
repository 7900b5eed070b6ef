//! The recipes of docs/adding-a-noun.md and docs/adding-a-row.md: what they show is compiled here,
//! from `tests/recipe/`, and tried on every floor, as if it were somebody else's crate.

#[path = "../recipe/delivery_zone/src/mod.rs"]
pub mod delivery_zone;
#[path = "../recipe/gift_card/src/mod.rs"]
pub mod gift_card;

/// The table of delivery zones, in SQLite and in PostgreSQL.
pub const DELIVERY_ZONES: [&str; 2] = [
    include_str!("../recipe/delivery_zone/migrations/sqlite/NNNN_delivery_zone.sql"),
    include_str!("../recipe/delivery_zone/migrations/postgres/NNNN_delivery_zone.sql"),
];
/// The list of gift cards, in SQLite and in PostgreSQL.
pub const GIFT_CARDS: [&str; 2] = [
    include_str!("../recipe/gift_card/migrations/sqlite/NNNN_gift_card.sql"),
    include_str!("../recipe/gift_card/migrations/postgres/NNNN_gift_card.sql"),
];

mod database;
mod documents;
mod rows;
mod server;
