//! kontor: a headless commerce and order platform.

pub mod domain;
pub mod providers;
