//! Carts, and their checkout.

use crate::http::api::token;
use crate::http::docs::schemas::beside;
use crate::http::edge::access::Access;
use crate::http::edge::problem::Code;
use crate::http::edge::route::{OperationLink, RouteList};
use crate::routes;

pub mod carts;
pub mod checkout;
pub mod declined;
mod guest;
mod keyed_id;
mod next_steps;
pub mod problem;
mod rejection;
pub mod requirement;
pub mod schema;
pub mod shape;

/// Anybody, or an API key.
const NEW: Access = Access::Proof(&token::NEW_CART);
/// Whoever has the cart's token.
const READ: Access = Access::Proof(&token::CART_READER);
const CART: Access = Access::Proof(&token::CART_WRITER);
/// Whoever has the token of the order or its cart.
const ORDER: Access = super::order::BUYER;
const PUBLIC: Access = Access::Public;

routes! {
    /// The list of routes, which `ROUTES` completes.
    const TABLE =
    POST   "/v1/store/carts"                   NEW    Cart     carts::create_cart;
    GET    "/v1/store/carts/{id}"              READ   Cart     carts::get_cart;
    PATCH  "/v1/store/carts/{id}"              CART   Cart     carts::update_cart;
    POST   "/v1/store/carts/{id}/lines"        CART   Cart     carts::add_lines;
    PATCH  "/v1/store/carts/{id}/lines/{line}" CART   Cart     carts::set_quantity;
    DELETE "/v1/store/carts/{id}/lines/{line}" CART   Cart     carts::remove_line;
    POST   "/v1/store/carts/{id}/checkout"     CART   Checkout checkout::check_out;
    POST   "/v1/store/orders/{id}/payments"    ORDER  Checkout declined::pay_my_order;
    POST   "/v1/store/orders/{id}/cancel"      ORDER  Checkout declined::cancel_my_order;
    POST   "/v1/store/orders/{id}/cart"        ORDER  Checkout declined::replace_my_cart;
    GET    "/v1/store/delivery-options"        PUBLIC Cart     carts::list_delivery_options;
}

/// The routes of carts.
pub const ROUTES: RouteList = RouteList {
    document: || {
        let schemas = [schema::all(), requirement::all(), problem::all()];
        beside((TABLE.document)(), schemas.concat())
    },
    links: LINKS,
    problems: PROBLEMS,
    versioned: &["Cart", "CreatedCart"],
    ..TABLE
};

/// The codes with members of their own that operations answer.
const PROBLEMS: &[(&str, &[Code])] = &[
    ("get_cart", &[Code::CartSpent]),
    ("update_cart", &[Code::CartSpent]),
    ("add_lines", &[Code::CartSpent]),
    ("set_quantity", &[Code::CartSpent]),
    ("remove_line", &[Code::CartSpent]),
    (
        "check_out",
        &[
            Code::PaymentDeclined,
            Code::OutOfStock,
            Code::CartChanged,
            Code::CartIncomplete,
            Code::CartSpent,
            Code::OrderCancelled,
            Code::CheckoutInProgress,
            Code::WrongState,
            Code::ChallengeRequired,
            Code::TooManyHeld,
        ],
    ),
    (
        "pay_my_order",
        &[
            Code::PaymentDeclined,
            Code::OutOfStock,
            Code::OrderCancelled,
            Code::CheckoutInProgress,
            Code::WrongState,
            Code::ChallengeRequired,
            Code::TooManyHeld,
        ],
    ),
    ("cancel_my_order", &[Code::WrongState]),
    ("replace_my_cart", &[Code::WrongState, Code::CartSpent]),
];

const ID: &[(&str, &str)] = &[("id", "$response.body#/id")];
const LINE: &[(&str, &str)] =
    &[("id", "$response.body#/id"), ("line", "$response.body#/lines/0/id")];
const TO_CART: &[&str] = &["get_cart", "update_cart", "add_lines", "check_out"];
const TO_LINE: &[&str] = &["set_quantity", "remove_line"];

const TO_MY_ORDER: &[&str] =
    &["get_my_order", "watch_my_order", "pay_my_order", "cancel_my_order", "replace_my_cart"];

const LINKS: &[OperationLink] = &[
    OperationLink { from: "create_cart", to: TO_CART, with: ID },
    OperationLink { from: "create_cart", to: TO_LINE, with: LINE },
    OperationLink { from: "update_cart", to: &["add_lines", "check_out"], with: ID },
    OperationLink { from: "add_lines", to: &["check_out"], with: ID },
    OperationLink { from: "add_lines", to: TO_LINE, with: LINE },
    OperationLink { from: "set_quantity", to: &["check_out"], with: ID },
    OperationLink { from: "check_out", to: TO_MY_ORDER, with: ID },
    OperationLink { from: "check_out", to: super::order::TO_ORDER, with: ID },
];
