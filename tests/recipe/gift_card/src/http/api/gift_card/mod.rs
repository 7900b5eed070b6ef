//! Gift cards over HTTP: issue, spend and read them.

use kontor::http::edge::access::Access;
use kontor::http::edge::principal::Scope;
use kontor::http::edge::route::RouteList;
use kontor::routes;

pub mod gift_cards;
mod rejection;

const READ: Access = Access::Key(Scope::OrdersRead);
const WRITE: Access = Access::Key(Scope::OrdersWrite);

routes! {
    /// The routes alone.
    const TABLE =
    GET  "/v1/admin/gift-cards"                 READ  Operate gift_cards::list_gift_cards;
    POST "/v1/admin/gift-cards"                 WRITE Operate gift_cards::issue_gift_card;
    GET  "/v1/admin/gift-cards/{number}"        READ  Operate gift_cards::get_gift_card;
    POST "/v1/admin/gift-cards/{number}/spends" WRITE Operate gift_cards::spend_gift_card;
}

/// The routes of gift cards. What has a version is answered with an `ETag`, and changed with `If-Match`:
/// the API's document says so of these schemas.
pub const ROUTES: RouteList = RouteList { versioned: &["GiftCardShape"], ..TABLE };
