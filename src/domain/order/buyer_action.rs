//! The action that a buyer must take before a payment attempt can complete. Its presentation is
//! elsewhere; only the provider knows whether it was taken, and reports it.

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;

/// An action of the buyer, and its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredAction {
    /// The action.
    #[serde(flatten)]
    pub action: BuyerAction,
    /// The deadline.
    pub expires_at: Timestamp,
}

/// The kinds of actions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BuyerAction {
    /// Visit a page of the provider or the bank, and return.
    Redirect {
        /// The page's URL.
        url: String,
    },
    /// Pay by scanning a QR code.
    QrCode {
        /// The code's content, which can also be copied.
        payload: String,
    },
    /// Pay a printed slip.
    Slip {
        /// The digits of its bar code.
        barcode: String,
        /// The URL of the slip.
        url: String,
    },
}
