//! A call or an answer as it is sent, on any transport.

use tokio_util::bytes::Bytes;

/// A call, or an answer to one, as it is sent: everything that whoever listens on the network sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallMessage {
    /// The headers (`seal`).
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl CallMessage {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_str())
    }
}
