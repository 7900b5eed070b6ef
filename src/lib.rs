//! kontor: a headless commerce and order platform.

pub mod actors;
pub mod bus;
pub mod domain;
pub mod http;
pub mod providers;
pub mod sandbox_psp;
pub mod store;
pub mod verify;
