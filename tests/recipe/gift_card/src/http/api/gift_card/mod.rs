//! Gift cards over HTTP: issue, spend and read them.

use kontor::http::edge::access::Access;
use kontor::http::edge::principal::Scope;
use kontor::routes;

pub mod gift_cards;
mod rejection;

const READ: Access = Access::Key(Scope::OrdersRead);
const WRITE: Access = Access::Key(Scope::OrdersWrite);

routes! {
    /// The routes of gift cards.
    pub const ROUTES =
    GET  "/v1/admin/gift-cards"                 READ  Operate gift_cards::list_gift_cards;
    POST "/v1/admin/gift-cards"                 WRITE Operate gift_cards::issue_gift_card;
    GET  "/v1/admin/gift-cards/{number}"        READ  Operate gift_cards::get_gift_card;
    POST "/v1/admin/gift-cards/{number}/spends" WRITE Operate gift_cards::spend_gift_card;
}
