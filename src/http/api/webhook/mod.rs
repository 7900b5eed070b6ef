//! Webhooks, which payment providers call.

use crate::http::edge::access::Access;
use crate::routes;

mod take;

const PROVIDER: Access = Access::Signed("the provider");

routes! {
    /// The routes of webhooks.
    pub const ROUTES =
    POST "/v1/webhooks/{provider}"           PROVIDER Operate take::take_webhook;
    POST "/v1/webhooks/{provider}/{account}" PROVIDER Operate take::take_account_webhook;
}
