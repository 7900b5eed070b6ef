//! A gift card, on every floor: the files that `docs/adding-a-noun.md` shows, as they would stand
//! in `src/`. They are tried in `tests/it/recipe/`, and in the simulator by `tests/recipe/simulated.rs`,
//! which alone has the noun's story: the simulator is not in the library that `tests/it` is linked to.

/// Floor 2.
pub mod actors {
    pub mod gift_card_rows;
}
/// Floor 0.
pub mod domain {
    pub mod gift_card;
}
/// Floor 3.
pub mod http {
    /// The routes.
    pub mod api {
        pub mod gift_card;
    }
    /// The live feed.
    pub mod live {
        pub mod topic_gift_cards;
    }
}
/// Floor 1.
pub mod store {
    pub mod gift_card;
}
/// The proof.
pub mod verify {
    pub mod gift_card;
}
