//! Floor 1: everything SQL. The journal is the truth; the rest are rows of their own or
//! projections of it. No decision is made here.

pub mod journal;
pub mod product;
