//! The token of an order: the permission to read, pay and cancel it, for its buyer. Its cart has the
//! token from the beginning, so that it is not lost with the answer to the checkout.

use actix_web::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

use crate::domain::id::OrderId;
use crate::http::edge::access::Proof;
use crate::http::edge::authentication::bearer;
use crate::http::edge::call::id;
use crate::http::edge::data::data;
use crate::http::edge::error::Error;
use crate::http::edge::principal::{Principal, unauthorized};
use crate::http::edge::query::Query;
use crate::http::edge::secret::ServerSecret;

/// The name of the security scheme with an order's token in `Authorization`.
pub const SCHEME: &str = "order_token";
/// The name of the security scheme with an order's token in the query, for clients that cannot send
/// the header.
pub const SCHEME_QUERY: &str = "order_token_query";

/// Admits callers with the order's token, in `Authorization` or in the query.
pub static TOKEN: Proof = Proof {
    name: "the order's token",
    find: |request| Box::pin(std::future::ready(check(request))),
    schemes: &[SCHEME, SCHEME_QUERY],
    problems: &[],
};

fn check(request: &HttpRequest) -> Result<Principal, Error> {
    let order = id(request.match_info().query("id"), "order")?;
    let query = Query::of(request, &["token"])?;
    let given = match bearer(request.headers())? {
        Some(text) => text,
        None => query.text("token").unwrap_or(""),
    };
    if order_token_matches(data::<ServerSecret>(request)?, order, given) {
        Ok(Principal::Anyone)
    } else {
        let detail = "this request needs the order's token, from its cart or its checkout";
        Err(unauthorized(detail))
    }
}

/// The token of an order, derived from the server's secret.
#[must_use]
pub fn order_token(secret: &ServerSecret, order: OrderId) -> String {
    URL_SAFE_NO_PAD.encode(secret.mac(&["order", &order.to_string()]))
}

/// Whether a text is the token of an order. The comparison takes constant time, so that the time
/// reveals nothing about the token.
#[must_use]
pub fn order_token_matches(secret: &ServerSecret, order: OrderId, given: &str) -> bool {
    order_token(secret, order).as_bytes().ct_eq(given.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::Key;

    #[test]
    fn a_token_opens_one_order_only() {
        let order = |n| OrderId(Key::new(uuid::Uuid::from_u128(n)));
        let (own, other) = (ServerSecret::new([7; 32]), ServerSecret::new([8; 32]));
        let token = order_token(&own, order(1));
        assert_eq!(token.len(), 43);
        assert!(order_token_matches(&own, order(1), &token));
        assert!(!order_token_matches(&own, order(2), &token));
        assert!(!order_token_matches(&other, order(1), &token));
    }
}
