//! Files for TLS connections to servers that nodes share.

use std::path::PathBuf;

use garde::Validate;
use serde::{Deserialize, Serialize};

use super::limits::holds;

/// The files for TLS connections to a server, in PEM format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificates of the authorities that are trusted; empty for those of the system.
    #[garde(skip)]
    pub ca: PathBuf,
    /// The certificate that is shown to the server; empty for none.
    #[garde(custom(both(&self.key)))]
    pub cert: PathBuf,
    /// The private key of that certificate.
    #[garde(custom(both(&self.cert)))]
    pub key: PathBuf,
}

fn both(other: &std::path::Path) -> impl Fn(&PathBuf, &()) -> garde::Result {
    let other = !other.as_os_str().is_empty();
    move |file, ()| {
        let own = !file.as_os_str().is_empty();
        holds(own || !other, || "must be set, because tls.cert and tls.key belong together")
    }
}

impl TlsFiles {
    /// The authorities' certificates, if they are not those of the system.
    #[must_use]
    pub fn ca(&self) -> Option<&PathBuf> {
        Some(&self.ca).filter(|file| !file.as_os_str().is_empty())
    }

    /// The certificate and the private key, if there are.
    #[must_use]
    pub fn own(&self) -> Option<(&PathBuf, &PathBuf)> {
        let own = (&self.cert, &self.key);
        Some(own).filter(|(cert, _)| !cert.as_os_str().is_empty())
    }
}
