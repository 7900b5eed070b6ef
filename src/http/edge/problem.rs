//! The table of codes of problems, with their statuses and what to do about each.
//!
//! Which failure becomes which code is said in `error` and beside the nouns; the body of a problem
//! is in `problem_body`, and the pages on codes in `docs`.

use actix_web::http::StatusCode;
use serde::Serialize;
use strum::VariantArray as _;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! codes {
    ($($name:ident $status:literal $title:literal, $remedy:literal;)*) => {
        /// What went wrong, as a caller's program tells it. Stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::EnumString, strum::VariantArray)]
        #[strum(serialize_all = "snake_case")]
        #[expect(missing_docs, reason = "the titles say what each means")]
        pub enum Code { $($name),* }

        impl Code {
            /// The HTTP status that it is answered with.
            #[must_use]
            pub fn status(self) -> StatusCode {
                let status: u16 = match self { $(Self::$name => $status),* };
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// One sentence on what it means.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// What to do about it.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }
        }
    };
}

codes! {
    InvalidRequest 422 "The request is not valid", "Put the fields right that `errors` names; all of them are there at once.";
    MalformedJson 400 "The body is not JSON", "Send one JSON value in UTF-8, at most 32 levels deep.";
    BadRequest 400 "The request cannot be understood", "Check the path, the headers and the length of the request.";
    UnknownFilter 400 "The query has a parameter that this list does not know", "Leave it out, or look its name up in /docs: an unknown filter is never ignored.";
    InvalidCursor 400 "The cursor is not one of this list", "Send `next_cursor` back unchanged, to the same list, or start without `after`.";
    Unauthorized 401 "Who calls is not known", "Send `Authorization: Bearer` with a key or token that is valid and not revoked.";
    Forbidden 403 "The key may not do this", "Use a key with the scope that `detail` names: kontor key create --scope.";
    ForbiddenOrigin 403 "A page of another host made this request", "Send it from a page of this host, with its `Origin`, or with an API key instead of a cookie.";
    NotFound 404 "There is no such thing", "Check the path and the id.";
    MethodNotAllowed 405 "The method is not allowed here", "Use one of those in the `Allow` header.";
    RequestTimeout 408 "The body came too slowly", "Send it again over a better line, or in smaller parts.";
    PayloadTooLarge 413 "The body is too large", "Send at most as many bytes as `detail` says; split imports.";
    UnsupportedMediaType 415 "The body is not declared as JSON", "Send `Content-Type: application/json`, without a `Content-Encoding`.";
    UnknownSku 422 "There is no such SKU", "Create the product first, or correct the SKU.";
    ProductInactive 422 "The product is not sold at present", "Take it out of the request, or make the product active.";
    CurrencyMismatch 422 "There is no price in this currency", "Use a currency that the product has a price in; a cart has one currency.";
    UnknownDeliveryOption 422 "There is no such way of delivery in this currency", "Choose one of GET /v1/store/delivery-options.";
    UnknownProvider 422 "There is no such payment provider", "Name a provider that this store is set up with.";
    ProviderOff 409 "The payment provider is switched off", "Pay with another provider, or later: the cart is still open.";
    ImportsClosed 503 "Products are not imported now", "An operator has switched imports off: send it again later.";
    CheckoutClosed 503 "No orders are taken now", "An operator has switched checkout off: the cart is kept, send it again later.";
    CartSpent 409 "The cart has become an order", "Go on with the order whose id stands in `order`.";
    CartChanged 409 "The total is another than was expected", "Show the buyer the total in `total`, and send it as `expected_total`.";
    CheckoutInProgress 409 "The order is being paid for", "Wait for the outcome: read the order, or send the same request with the same key.";
    OutOfStock 409 "There is not enough stock", "With `order` null the cart is still open: change the quantities that `lines` names.";
    OrderCancelled 409 "The order was given up", "Make a new cart.";
    CartExpired 410 "The cart has expired", "Make a new cart.";
    CartIncomplete 422 "Something is missing before the cart can be ordered", "Give what `requirements` names.";
    IdempotencyKeyMissing 422 "This request needs an idempotency key", "Send `Idempotency-Key` with a new random value, and the same one with each retry.";
    IdempotencyKeyReused 422 "The idempotency key was used for another request", "Draw a new key for a new request; send a retry unchanged.";
    IdempotencyInFlight 409 "The first request with this key is still being worked on", "Send it again in a moment: it gets the outcome of the first.";
    PaymentDeclined 402 "The payment was declined", "Pay with another means: the same checkout with a new token, under a new key.";
    WrongState 409 "The state of it does not allow this now", "Read it again: `detail` says what is in the way.";
    StockCommitted 409 "These units are reserved or allocated", "Set no less than what is promised, or cancel orders first.";
    StockChanged 409 "The stock is not what was expected", "Read it again, and repeat with the present number.";
    AlreadyExists 409 "It is there already", "Use PUT or PATCH to change it.";
    RefundTooLarge 422 "More than can be given back", "Give back at most what `detail` says.";
    CaptureTooLarge 422 "More than can be captured", "Capture at most what `detail` says.";
    NothingToFulfill 422 "Nothing is left to fulfill", "Read the order: all its goods have gone out or were refunded.";
    UnknownLine 422 "There is no such line, or it has fewer units", "Use the line ids and quantities that the order or cart shows.";
    VersionMismatch 412 "It was changed meanwhile", "Read it again, and repeat with the new `ETag` in `If-Match`.";
    Quarantined 423 "Its history cannot be read; an operator has to look", "Tell the operator of this store the `request_id`.";
    TooManyRequests 429 "Too much is under way", "Wait as long as `Retry-After` says, then send it again with the same key.";
    RateLimited 429 "Too many requests came from this client", "Wait as long as `Retry-After` says; `RateLimit` says what is left.";
    TooManyTries 429 "Too many tries to sign in were wrong", "Wait as long as `Retry-After` says, then sign in with a new link: kontor sign-in.";
    TryAgain 503 "It could not be done just now", "Send the same request, with the same key, after as long as `Retry-After` says.";
    Overloaded 503 "There is more to do than can be done", "Nothing was done: send the same request, with the same key, after as long as `Retry-After` says, and later with each try.";
    StorageFull 503 "The store has no room left", "Tell the operator of this store; nothing was done.";
    ShuttingDown 503 "This server is stopping", "Send the same request again: another server, or the next start, takes it.";
    Internal 500 "Something went wrong on our side", "Tell the operator of this store the `request_id`.";
}

impl Code {
    /// The code as it stands in a problem.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// After how many seconds to try again, where that helps.
    #[must_use]
    pub const fn retry_after_secs(self) -> Option<u32> {
        match self {
            Self::TooManyRequests | Self::RateLimited | Self::TryAgain | Self::Overloaded => {
                Some(1)
            }
            Self::ShuttingDown => Some(2),
            Self::StorageFull | Self::ImportsClosed | Self::CheckoutClosed => Some(30),
            Self::TooManyTries => Some(30),
            _ => None,
        }
    }
}

/// What the API's document says of a [`Code`].
#[derive(Debug)]
pub struct ErrorCode;

impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        let about =
            "What went wrong, as a program tells it. Stable; /docs/errors/{code} explains each.";
        let text = ObjectBuilder::new().schema_type(Type::String).description(Some(about));
        text.enum_values(Some(Code::VARIANTS.iter().map(|code| code.as_str()))).into()
    }
}

impl ToSchema for ErrorCode {}

/// A field that is not right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where, for example `lines[0].quantity`.
    pub field: String,
    /// What it must be.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_an_error_with_a_remedy_and_stands_in_the_docs() {
        let docs = include_str!("../../../docs/api.md");
        for code in Code::VARIANTS {
            assert!(code.status().as_u16() >= 400, "{code:?}");
            assert!(
                code.remedy().ends_with('.') || code.remedy().ends_with("--scope."),
                "{code:?}"
            );
            assert!(
                docs.contains(&format!("`{}`", code.as_str())),
                "{code:?} is not in docs/api.md"
            );
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
    }
}
