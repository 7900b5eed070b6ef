//! The action that a buyer must take before a payment attempt can complete. Only the provider knows
//! whether the buyer has taken the action, and reports the outcome of the attempt.

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;

/// An action of the buyer, and its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredAction {
    /// The action.
    #[serde(flatten)]
    pub action: BuyerAction,
    /// The deadline, after which the provider declines the attempt.
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
        /// The code's content, which the buyer can also copy as text.
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
