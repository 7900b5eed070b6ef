//! A delivery zone: the files that `docs/adding-a-row.md` shows, as they would stand in `src/`. What
//! they are tried with is in `tests/it/recipe.rs`.

/// Floor 0.
pub mod domain {
    pub mod delivery_zone;
}
/// Floor 3.
pub mod http {
    /// The routes.
    pub mod api {
        pub mod delivery_zone;
    }
}
/// Floor 1.
pub mod store {
    pub mod delivery_zone;
}
