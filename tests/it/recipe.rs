//! The recipes of docs/adding-a-noun.md and docs/adding-a-row.md: what they show is compiled here,
//! from `tests/recipe/`, and tried on every floor, as if it were somebody else's crate.

#[path = "../recipe/delivery_zone/src/mod.rs"]
pub mod delivery_zone;
#[path = "../recipe/gift_card/src/mod.rs"]
pub mod gift_card;

mod database;
mod documents;
mod rows;
mod server;
