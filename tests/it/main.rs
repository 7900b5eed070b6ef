//! it
mod sandbox_psp;
