//! Floor 1: other companies' protocols, behind one trait for each kind of company.
//!
//! [`payment`] says what kontor asks of a payment provider; [`sandbox`] speaks the protocol of
//! `kontor sandbox-psp`. What to do with an answer, and when to ask again, is decided above.

pub mod payment;
pub mod sandbox;

use std::sync::Once;

/// Makes ring the process's one TLS crypto provider; every later call does nothing.
///
/// An HTTP client cannot be built before it.
pub fn install_crypto() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS crypto provider was installed already");
        }
    });
}
