//! Floor 1: protocols of external companies, behind one trait for each kind of company.
//!
//! [`payment`] defines what kontor needs of a payment provider; [`sandbox`] is the client of
//! `kontor sandbox-psp`, and [`checked`] limits what any of them answers. [`challenge`] is the client of
//! a hook that decides on suspicious checkouts. `actors` decides on retries, and how to react to
//! answers.

pub mod challenge;
pub mod checked;
pub mod payment;
pub mod sandbox;

use std::sync::Once;

/// Makes ring the process's one TLS crypto provider; every later call does nothing.
///
/// No HTTP client can be built before the first call.
pub fn install_crypto() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS crypto provider was installed already");
        }
    });
}
