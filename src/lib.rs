//! kontor: a headless commerce and order platform.

pub mod actors;
pub mod domain;
pub mod store;
