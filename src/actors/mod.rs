//! Floor 2: when, and who next. The entity host, the sagas' flows, timers and projections.
//!
//! No decision about money or stock is made here: that is the domain's. No SQL and no HTTP
//! either.

pub mod clock;
pub mod host;
