//! The integration tests, as one binary.

mod journal;
mod lane;
mod store;
