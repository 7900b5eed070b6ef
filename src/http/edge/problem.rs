//! The table of error codes, with their statuses and remedies.
//!
//! `error` and the nouns choose the code of a failure; the body of a problem is in `problem_body`,
//! the pages about codes are in `docs`.

use actix_web::http::StatusCode;
use serde::Serialize;
use strum::VariantArray as _;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! codes {
    ($($name:ident $status:literal $title:literal, $remedy:literal;)*) => {
        /// A stable error code, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::EnumString, strum::VariantArray)]
        #[strum(serialize_all = "snake_case")]
        #[expect(missing_docs, reason = "the titles say what each means")]
        pub enum Code { $($name),* }

        impl Code {
            /// Its HTTP status.
            #[must_use]
            pub fn status(self) -> StatusCode {
                let status: u16 = match self { $(Self::$name => $status),* };
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// The meaning of the code, in a few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// What the client can do about it, in one or two sentences.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),* }
            }
        }
    };
}

codes! {
    InvalidRequest 422 "The request is not valid", "Correct the fields in `errors`, which lists all invalid fields.";
    MalformedJson 400 "The body is not valid JSON", "Send one JSON value in UTF-8, at most 32 levels deep.";
    BadRequest 400 "The request is malformed", "Check the path, the headers and the length of the request.";
    UnknownFilter 400 "There is no such parameter or filter", "Remove it, or look up its name in /docs: unknown ones are not ignored.";
    InvalidCursor 400 "The cursor or token does not belong here", "Send `next_cursor` or `token` back unchanged, to the same list in the same order, or start without `after`.";
    Unauthorized 401 "The caller is not authenticated", "Send `Authorization: Bearer` with a key or token that is valid and not revoked.";
    Forbidden 403 "The caller lacks the required scope", "Use a key with the scope named in `detail`: kontor key create --scope.";
    ForbiddenOrigin 403 "Pages of this origin may not send the request", "Send it from a page of this host, use an API key instead of a cookie, or add the origin to the setting that `detail` names.";
    ChallengeRequired 403 "The buyer must solve a challenge", "Nothing is held, and the cart is still open or the order can still be paid: let the buyer solve `challenge`, and repeat the request with the outcome in the header `Challenge-Response`.";
    CheckoutDenied 403 "The checkout is refused", "Nothing is held, and the cart is still open or the order can still be paid: tell the buyer to contact the shop.";
    NotFound 404 "Not found", "Check the path and the id in it.";
    MethodNotAllowed 405 "The method is not allowed here", "Use one of the methods in the `Allow` header.";
    RequestTimeout 408 "The body arrived too slowly", "Send the request again over a faster connection, or in smaller parts.";
    PayloadTooLarge 413 "The body is too large", "Send at most the number of bytes given in `detail`; split imports.";
    UnsupportedMediaType 415 "The body is not declared as JSON", "Send `Content-Type: application/json`, without a `Content-Encoding`; a request without a body needs neither.";
    UnknownSku 422 "There is no such SKU", "Create the product first, or correct the SKU.";
    ProductInactive 422 "The product is not for sale", "Remove it from the request; the shop can make the product active again.";
    CurrencyMismatch 422 "The currency does not fit", "Use the currency that `errors` names: a cart and its order have one currency, in which each product needs a price.";
    UnknownDeliveryOption 422 "There is no such delivery option in this currency", "Choose one of GET /v1/store/delivery-options.";
    UnknownProvider 422 "There is no such payment provider", "Use a payment provider that is configured for this shop.";
    ProviderOff 409 "The payment provider is switched off", "Nothing was ordered or paid: pay with another provider, or later.";
    ImportsClosed 503 "Product imports are switched off", "An operator has switched imports off. Send the import again later.";
    CheckoutClosed 503 "Checkout is switched off", "An operator has switched checkout off. Nothing was ordered or paid: send the request again later.";
    CartSpent 409 "The cart has become an order", "Continue with the order whose id is in `order`.";
    CartChanged 409 "The total differs from the expected total", "Show the buyer the total in `total`, and send it as `expected_total`.";
    CheckoutInProgress 409 "A payment of the order is in progress", "Wait for the outcome: read the order with its token or its cart's, or send the same request with the same key.";
    OutOfStock 409 "There is not enough stock", "If `order` is null, the cart is still open: change the quantities of the items in `lines`.";
    OrderCancelled 409 "The order was cancelled", "Create a new cart.";
    CartExpired 410 "The cart has expired", "Create a new cart.";
    CartIncomplete 422 "The cart is not complete", "Provide what `requirements` lists.";
    IdempotencyKeyMissing 422 "This request needs an idempotency key", "Send `Idempotency-Key` with a new random value, and the same value with each retry.";
    IdempotencyKeyReused 422 "The idempotency key was used for another request", "Use a new key for a new request; send a retry unchanged.";
    IdempotencyInFlight 409 "The first request with this key is still in progress", "Send the request again after a second to get the outcome of the first one.";
    PaymentDeclined 402 "The payment was declined", "Pay in another way until `payment_deadline_at`, with a new payment token, under a new key. `links` has the paths to pay again, to cancel the order, and to go on with a new cart, with the token of the order or its cart.";
    WrongState 409 "Not allowed in the current state", "Read the resource again; `detail` gives the reason.";
    StockCommitted 409 "Too few units are free at the location", "Free units are on hand, and neither reserved nor allocated: change at most the number that `errors` names, or cancel orders first.";
    StockChanged 409 "The stock has changed", "Read the stock again, and repeat with the current number in `change_from`.";
    AlreadyExists 409 "The resource already exists", "Use PUT or PATCH to change the existing one.";
    RefundTooLarge 422 "The amount is more than can be refunded", "Refund at most the amount that `errors` or `detail` names, in minor units.";
    CaptureTooLarge 422 "The amount is more than can be captured", "Capture at most the amount that `errors` or `detail` names, in minor units.";
    NothingToFulfill 422 "Nothing is left to fulfill", "Read the order: all its goods were shipped or refunded.";
    UnknownLine 422 "The order has no such line", "Use line ids from the order.";
    TooManyUnits 422 "Too few units of a line are left", "Use at most the quantity that `errors` names; the order shows what was shipped and refunded.";
    VersionMismatch 412 "The resource has changed since it was read", "Read the resource again, and repeat with its new `ETag` in `If-Match`.";
    Quarantined 423 "The entity is in quarantine: its history cannot be read, or it keeps failing", "Tell the operator of this shop the `request_id`.";
    TooManyRequests 429 "Too many requests are in progress", "Wait for the time in `Retry-After`, then send the request again with the same key.";
    RateLimited 429 "The rate limit of this client is exceeded", "Wait for the time in `Retry-After`; `RateLimit` has the remaining quota.";
    TooManyHeld 409 "Too many units are in orders that are not paid", "Nothing is held, and the cart is still open or the order can still be paid: pay or cancel the other orders, wait for the time in `Retry-After` if it is there, or order at most `most` units.";
    TooManyTries 429 "Too many failed sign-ins", "Wait for the time in `Retry-After`, then sign in with a new link: kontor sign-in.";
    TryAgain 503 "Temporarily not possible", "Send the same request, with the same key, after the time in `Retry-After`.";
    Overloaded 503 "The server is overloaded", "Nothing was done: send the same request, with the same key, after the time in `Retry-After`, and wait longer after each attempt.";
    StorageFull 503 "The disk of the store is full", "Nothing was done. Tell the operator of this shop.";
    ShuttingDown 503 "This server is stopping", "Send the same request again: another server, or this one after its restart, will answer it.";
    Internal 500 "Internal error", "Tell the operator of this shop the `request_id`.";
}

impl Code {
    /// The code's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The number of seconds to wait before a retry; `None` if waiting does not help.
    #[must_use]
    pub const fn retry_after_secs(self) -> Option<u32> {
        match self {
            Self::TooManyRequests
            | Self::RateLimited
            | Self::TryAgain
            | Self::Overloaded
            | Self::IdempotencyInFlight => Some(1),
            Self::ShuttingDown => Some(2),
            Self::StorageFull | Self::ImportsClosed | Self::CheckoutClosed => Some(30),
            Self::TooManyTries => Some(30),
            _ => None,
        }
    }
}

/// The members that the problems of a code have in addition.
pub trait Members: Serialize + ToSchema {
    /// The code.
    const CODE: Code;
}

/// The OpenAPI schema of a [`Code`].
#[derive(Debug)]
pub struct ErrorCode;

impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        let about = "The kind of error, for programs. Stable; /docs/errors/{code} explains each.";
        let text = ObjectBuilder::new().schema_type(Type::String).description(Some(about));
        text.enum_values(Some(Code::VARIANTS.iter().map(|code| code.as_str()))).into()
    }
}

impl ToSchema for ErrorCode {}

/// The most faults that a problem names.
pub const FAULTS_MAX: usize = 50;

/// An invalid field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The path of the field, for example `lines[0].quantity`.
    pub field: String,
    /// The rule that the field breaks.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_a_remedy_and_is_documented() {
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
