//! The tokens of buyers. An id is no permission: ids stand in logs, links and lists. Whoever has the
//! token of a cart may use the cart and the order that it becomes; whoever has the token of an order
//! may read, pay and cancel the order.
//!
//! A token is `ct_` or `ot_`, and in base64url the day of its issue and a MAC (HMAC-SHA-256) of the
//! id and that day under the server's secret. So a retry gets a token although the first answer was
//! lost, and no token is stored. It is sent as `Authorization: Bearer`, never in a URL: URLs are
//! logged, and pages send them to other hosts as `Referer`.

use actix_web::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use utoipa::openapi::ComponentsBuilder;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use crate::actors::engine::host::View;
use crate::actors::node::Node;
use crate::domain::id::{CartId, Key, OrderId};
use crate::domain::order::{self, Order};
use crate::domain::time::{Span, Timestamp};
use crate::http::edge::access::{Proof, authorize};
use crate::http::edge::authentication::{Authenticator, bearer};
use crate::http::edge::call::id;
use crate::http::edge::data::data;
use crate::http::edge::error::Error;
use crate::http::edge::principal::{Principal, Scope, unauthorized};
use crate::http::edge::problem::Code;
use crate::http::edge::secret::ServerSecret;
use crate::http::edge::security_log;

const DAY_MS: i64 = 24 * 3600 * 1000;
/// The bytes of a token: the day of its issue, then the MAC.
const DAY_BYTES: usize = 2;
const BYTES: usize = DAY_BYTES + 32;

/// What a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bearer {
    Cart,
    Order,
}

impl Bearer {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Cart => "ct_",
            Self::Order => "ot_",
        }
    }

    fn mac(self, secret: &ServerSecret, key: Key, day: u16) -> [u8; 32] {
        secret.mac(&[self.prefix(), &key.to_string(), &day.to_string()])
    }

    fn token(self, secret: &ServerSecret, key: Key, now: Timestamp) -> String {
        let day = day_of(now);
        let mut bytes = [0; BYTES];
        bytes[..DAY_BYTES].copy_from_slice(&day.to_be_bytes());
        bytes[DAY_BYTES..].copy_from_slice(&self.mac(secret, key, day));
        let mut text = self.prefix().to_owned();
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        text
    }

    /// The day on which a token was issued; `None` if it is not the token of `key`. The comparison
    /// takes constant time, so that the time reveals nothing about the token.
    fn issued(self, secret: &ServerSecret, key: Key, token: &str) -> Option<u16> {
        let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(self.prefix())?).ok()?;
        let (day, mac) = bytes.split_at_checked(DAY_BYTES)?;
        let day = u16::from_be_bytes(day.try_into().ok()?);
        bool::from(self.mac(secret, key, day).ct_eq(mac)).then_some(day)
    }
}

/// The number of the day, counted from 1970.
fn day_of(time: Timestamp) -> u16 {
    u16::try_from(time.millis().div_euclid(DAY_MS)).unwrap_or(u16::MAX)
}

/// A new token of a cart.
#[must_use]
pub fn cart_token(secret: &ServerSecret, cart: CartId, now: Timestamp) -> String {
    Bearer::Cart.token(secret, cart.0, now)
}

/// A new token of an order.
#[must_use]
pub fn order_token(secret: &ServerSecret, order: OrderId, now: Timestamp) -> String {
    Bearer::Order.token(secret, order.0, now)
}

/// Whether a text is a token of a cart. A cart's token does not expire before the cart.
#[must_use]
pub fn opens_cart(secret: &ServerSecret, cart: CartId, token: &str) -> bool {
    Bearer::Cart.issued(secret, cart.0, token).is_some()
}

/// When a token of an order expires: `lifetime` after the end of the day of its issue. `None` if it is
/// no token of the order.
#[must_use]
pub fn opens_order_until(
    secret: &ServerSecret,
    OrderId(key): OrderId,
    token: &str,
    lifetime: Span,
) -> Option<Timestamp> {
    Some(end_of(Bearer::Order.issued(secret, key, token)?) + lifetime)
}

/// The end of a day.
fn end_of(day: u16) -> Timestamp {
    Timestamp::from_millis((i64::from(day) + 1) * DAY_MS)
}

/// The security scheme of a cart's token.
pub const CART_SCHEME: &str = "cart_token";
/// The security scheme of an order's token.
pub const ORDER_SCHEME: &str = "order_token";

/// Admits who has the cart's token, and API keys that may read orders.
pub static CART_READER: Proof = Proof {
    name: "the cart's token, or orders:read",
    find: |request| Box::pin(of_cart(request, Scope::OrdersRead)),
    schemes: &[CART_SCHEME, "api_key"],
    problems: CART_PROBLEMS,
};

/// Admits who has the cart's token, and API keys that may write orders.
pub static CART_WRITER: Proof = Proof {
    name: "the cart's token, or orders:write",
    find: |request| Box::pin(of_cart(request, Scope::OrdersWrite)),
    schemes: &[CART_SCHEME, "api_key"],
    problems: CART_PROBLEMS,
};

const CART_PROBLEMS: &[(&str, &str)] =
    &[("409", crate::http::docs::openapi::CONFLICTS), ("410", "`cart_expired`")];

/// Admits anybody, and API keys. The token of another cart, which a page may send with every request,
/// is no key, and of no use here.
pub static NEW_CART: Proof = Proof {
    name: "anyone, or an API key",
    find: |request| Box::pin(new_cart(request)),
    schemes: &["", "api_key"],
    problems: CART_PROBLEMS,
};

async fn new_cart(request: &HttpRequest) -> Result<Principal, Error> {
    let of_buyer =
        |text: &str| [Bearer::Cart, Bearer::Order].iter().any(|of| text.starts_with(of.prefix()));
    match bearer(request.headers())? {
        Some(text) if !of_buyer(text) => data::<Authenticator>(request)?.holder(text).await,
        _ => Ok(Principal::Anyone),
    }
}

/// Admits who has the token of the order or of its cart.
pub static ORDER: Proof = Proof {
    name: "the token of the order or its cart",
    find: |request| Box::pin(of_order(request)),
    schemes: &[ORDER_SCHEME, CART_SCHEME],
    problems: &[],
};

async fn of_cart(request: &HttpRequest, scope: Scope) -> Result<Principal, Error> {
    let cart = id(request.match_info().query("id"), "cart")?;
    // Without its token a cart is like none: whoever tries ids learns nothing.
    let missing = || {
        let detail = "there is no such cart, or this is not its token: send the `token` of the \
                      answer that created it, as `Authorization: Bearer ct_…`";
        Error::new(Code::NotFound, detail)
    };
    let text = bearer(request.headers())?.ok_or_else(missing)?;
    let of_cart = text.starts_with(Bearer::Cart.prefix());
    if of_cart && opens_cart(data::<ServerSecret>(request)?, cart, text) {
        return Ok(Principal::Anyone);
    }
    if of_cart || text.starts_with(Bearer::Order.prefix()) {
        security_log::log_wrong_token(request, "this is not the token of the cart");
        return Err(missing());
    }
    let principal = data::<Authenticator>(request)?.holder(text).await?;
    authorize(request, principal, scope)
}

async fn of_order(request: &HttpRequest) -> Result<Principal, Error> {
    let order: OrderId = id(request.match_info().query("id"), "order")?;
    let given = bearer(request.headers())?.unwrap_or("");
    let (node, secret) = (data::<Node>(request)?, data::<ServerSecret>(request)?);
    let lifetime = node.settings.order_token_lifetime();
    let until = if opens_cart(secret, CartId(order.0), given) {
        let placed = |view: View<'_, Order>| view.state.placed().map(|_| view.state.placed_at());
        let placed = node.orders.read(&order::entity_id(order), placed).await?;
        Some(end_of(day_of(placed.unwrap_or(node.clock.now()))) + lifetime)
    } else {
        opens_order_until(secret, order, given, lifetime)
    };
    match until {
        Some(until) if node.clock.now() < until => Ok(Principal::Anyone),
        Some(_) => Err(unauthorized("this token of the order has expired")),
        None => {
            let detail = "this request needs the order's token, from its checkout, or the token of \
                          its cart, as `Authorization: Bearer`";
            Err(unauthorized(detail))
        }
    }
}

/// Adds the security schemes of both tokens to a document.
pub fn add_schemes(document: &mut OpenApi) {
    let components = document.components.get_or_insert_with(|| ComponentsBuilder::new().build());
    for (name, about) in [
        (CART_SCHEME, "The token of one cart, from the answer that created the cart"),
        (ORDER_SCHEME, "The token of one order, from the answer to its checkout"),
    ] {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about));
        components.add_security_scheme(name, SecurityScheme::Http(bearer.build()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(20_000 * DAY_MS + 5);

    fn key(n: u128) -> Key {
        Key::new(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn a_token_opens_one_cart_or_one_order_only() {
        let (own, other) = (ServerSecret::new([7; 32]), ServerSecret::new([8; 32]));
        let (cart, order) =
            (cart_token(&own, CartId(key(1)), NOW), order_token(&own, OrderId(key(1)), NOW));
        assert!(cart.starts_with("ct_") && order.starts_with("ot_") && cart.len() == 49);
        let opens = |secret, n, token: &str| {
            let until = opens_order_until(secret, OrderId(key(n)), token, Span::from_secs(9));
            (opens_cart(secret, CartId(key(n)), token), until.is_some())
        };
        assert_eq!(opens(&own, 1, &cart), (true, false));
        assert_eq!(opens(&own, 1, &order), (false, true));
        for token in [&cart, &order] {
            assert_eq!(opens(&own, 2, token), (false, false));
            assert_eq!(opens(&other, 1, token), (false, false));
            assert_eq!(opens(&own, 1, &token.to_uppercase()), (false, false));
        }
        // The prefix is part of what is authenticated.
        let swapped = order.replace("ot_", "ct_");
        assert_eq!(opens(&own, 1, &swapped), (false, false));
    }

    #[test]
    fn an_orders_token_ends_its_lifetime_after_the_day_of_its_issue() {
        let own = ServerSecret::new([7; 32]);
        let token = order_token(&own, OrderId(key(1)), NOW);
        let until = opens_order_until(&own, OrderId(key(1)), &token, Span::from_secs(60));
        assert_eq!(until, Some(Timestamp::from_millis(20_001 * DAY_MS + 60_000)));
        // Its day cannot be changed.
        let mut bytes = URL_SAFE_NO_PAD.decode(&token[3..]).unwrap();
        bytes[1] += 1;
        let later = format!("ot_{}", URL_SAFE_NO_PAD.encode(bytes));
        assert_eq!(opens_order_until(&own, OrderId(key(1)), &later, Span::from_secs(60)), None);
    }
}
