//! A provider whose answers are checked before they are stored: its texts have a limit, whatever it
//! sends. Whether an answer is about the right money is checked where the request is known.

use std::sync::Arc;

use async_trait::async_trait;

use super::payment::{
    Authorization, Authorize, Error, Operation, Payment, PaymentNotice, PaymentOperation,
    PaymentPage, Provider, ProviderAccount, Receipt, Reversal, WebhookError, WebhookRequest,
};
use crate::domain::order::BuyerAction;
use crate::domain::time::Timestamp;

/// The maximum length of an id, a reference or a cursor of a provider, in bytes.
const ID_MAX: usize = 255;
/// The maximum length of a code or message of a provider, in characters.
const WORDS_MAX: usize = 200;
/// The maximum length of each text of a buyer's action, in bytes.
const ACTION_MAX: usize = 4_096;

/// A provider with checked answers.
pub struct CheckedProvider(pub Arc<dyn Provider>);

/// Words of a provider, cut to their limit and without control characters.
fn words(text: String) -> String {
    if text.len() <= WORDS_MAX && !text.contains(char::is_control) {
        return text;
    }
    text.chars().filter(|letter| !letter.is_control()).take(WORDS_MAX).collect()
}

fn failed(error: Error) -> Error {
    match error {
        Error::Unavailable => Error::Unavailable,
        Error::Unknown(why) => Error::Unknown(words(why)),
        Error::Rejected { code, message } => {
            Error::Rejected { code: words(code), message: words(message) }
        }
    }
}

/// Refuses an answer with an id that is too long: it could not be used to ask again.
fn ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
    let fits = |id: &str| id.len() <= ID_MAX && !id.contains(char::is_control);
    match ids.into_iter().all(fits) {
        true => Ok(()),
        false => Err(Error::Unknown(format!("an id in the answer has more than {ID_MAX} bytes"))),
    }
}

fn payment(mut payment: Payment) -> Result<Payment, Error> {
    ids([&*payment.id, &*payment.reference])?;
    let of = |one: &PaymentOperation| ids([&*one.id, &*one.reference]);
    payment.operations.iter().try_for_each(of)?;
    payment.decline_code = payment.decline_code.map(words);
    Ok(payment)
}

fn authorization(answer: Authorization) -> Result<Authorization, Error> {
    match &answer {
        Authorization::Authorized { payment, .. } | Authorization::Pending { payment } => {
            ids([payment.as_str()])?;
        }
        Authorization::Declined { payment, .. } => ids(payment.as_deref())?,
        Authorization::ActionRequired { payment, action, .. } => {
            ids([payment.as_str()])?;
            let shown = match action {
                BuyerAction::Redirect { url } => url.len(),
                BuyerAction::QrCode { payload } => payload.len(),
                BuyerAction::Slip { barcode, url } => barcode.len().max(url.len()),
            };
            if shown > ACTION_MAX {
                return Err(Error::Unknown("the action for the buyer is too long".into()));
            }
        }
    }
    Ok(match answer {
        Authorization::Declined { payment, code } => {
            Authorization::Declined { payment, code: words(code) }
        }
        other => other,
    })
}

fn receipt(receipt: Receipt) -> Result<Receipt, Error> {
    ids([&*receipt.operation, &*receipt.payment]).map(|()| receipt)
}

fn notice(notice: PaymentNotice) -> Result<PaymentNotice, WebhookError> {
    let malformed = |error: Error| WebhookError::Malformed(error.to_string());
    ids([notice.id.as_str()]).map_err(malformed)?;
    let of = |one: &PaymentOperation| ids([&*one.id, &*one.reference]);
    notice.operation.iter().try_for_each(of).map_err(malformed)?;
    Ok(PaymentNotice { payment: payment(notice.payment).map_err(malformed)?, ..notice })
}

#[async_trait]
impl Provider for CheckedProvider {
    fn account(&self) -> ProviderAccount {
        self.0.account()
    }

    async fn authorize(&self, request: &Authorize) -> Result<Authorization, Error> {
        authorization(self.0.authorize(request).await.map_err(failed)?)
    }

    async fn capture(&self, request: &Operation) -> Result<Receipt, Error> {
        receipt(self.0.capture(request).await.map_err(failed)?)
    }

    async fn void(&self, request: &Operation) -> Result<Receipt, Error> {
        receipt(self.0.void(request).await.map_err(failed)?)
    }

    async fn refund(&self, request: &Operation) -> Result<Receipt, Error> {
        receipt(self.0.refund(request).await.map_err(failed)?)
    }

    async fn reverse(&self, reference: &str) -> Result<Reversal, Error> {
        Ok(match self.0.reverse(reference).await.map_err(failed)? {
            Reversal::Reversed { payment: reversed } => {
                Reversal::Reversed { payment: payment(reversed)? }
            }
            Reversal::Blocked => Reversal::Blocked,
        })
    }

    async fn find(&self, reference: &str) -> Result<Option<Payment>, Error> {
        self.0.find(reference).await.map_err(failed)?.map(payment).transpose()
    }

    async fn list(&self, after: Option<&str>, limit: u32) -> Result<PaymentPage, Error> {
        let page = self.0.list(after, limit).await.map_err(failed)?;
        ids(page.next.as_deref())?;
        let payments = page.payments.into_iter().map(payment).collect::<Result<_, _>>()?;
        Ok(PaymentPage { payments, next: page.next })
    }

    async fn subscribe(&self, webhook_url: &str) -> Result<(), Error> {
        self.0.subscribe(webhook_url).await.map_err(failed)
    }

    fn read_webhook(
        &self,
        request: &WebhookRequest<'_>,
        now: Timestamp,
    ) -> Result<PaymentNotice, WebhookError> {
        notice(self.0.read_webhook(request, now)?)
    }

    fn reread_webhook(&self, body: &[u8]) -> Result<PaymentNotice, WebhookError> {
        notice(self.0.reread_webhook(body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_provider_are_cut_and_an_id_that_is_too_long_is_refused() {
        let long = "ä".repeat(4 << 20);
        let declined = Authorization::Declined { payment: None, code: long.clone() };
        let Ok(Authorization::Declined { code, .. }) = authorization(declined) else { panic!() };
        assert_eq!(code.chars().count(), WORDS_MAX);
        assert_eq!(words("a\u{1b}[2J\nb".to_owned()), "a[2Jb");
        let pending = |payment: String| authorization(Authorization::Pending { payment });
        assert!(pending("pay_1".into()).is_ok());
        for wrong in [long, "pay\n1".into()] {
            assert!(matches!(pending(wrong), Err(Error::Unknown(_))));
        }
    }
}
