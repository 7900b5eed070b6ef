//! What a buyer must do before a payment attempt can be decided. How it is shown, and that it was
//! done, is not known here: only the provider knows the latter, and tells.

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;

/// What a buyer must do, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredAction {
    /// What.
    #[serde(flatten)]
    pub action: BuyerAction,
    /// When it is too late.
    pub expires_at: Timestamp,
}

/// What a buyer can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BuyerAction {
    /// To go to a page of the provider or the bank, and come back.
    Redirect {
        /// The page.
        url: String,
    },
    /// To pay what a code says.
    QrCode {
        /// What the code is made of, which can be copied as well.
        payload: String,
    },
    /// To pay a slip.
    Slip {
        /// The digits of its bar code.
        barcode: String,
        /// The slip, to be printed.
        url: String,
    },
}
