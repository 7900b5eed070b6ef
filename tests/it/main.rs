//! The integration tests, as one binary.

mod journal;
mod lane;
mod sandbox_psp;
mod store;
