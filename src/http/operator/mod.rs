//! Routes for operators: nodes and shards, jobs, exports, dead letters, settings, health and metrics,
//! sessions, and the admin page.
//!
//! All routes of orders, stock and products, including those for operators, are in `api`.

use crate::http::docs::schemas::beside;
use crate::http::edge::access::Access;
use crate::http::edge::principal::Scope;
use crate::http::edge::route::{OperationLink, RouteList};
use crate::routes;

mod admin_page;
mod cluster;
mod dead_letters;
pub mod entities;
mod erasures;
pub mod health;
mod job_payload;
pub mod jobs;
pub mod metrics;
mod node_calls;
pub mod order_exports;
mod schema;
pub mod session;
mod settings;

const PUBLIC: Access = Access::Public;
const OPS: Access = Access::Key(Scope::Ops);
const ORDERS: Access = Access::Key(Scope::OrdersRead);
const SETTINGS: Access = Access::Key(Scope::SettingsWrite);
const ERASE: Access = Access::Key(Scope::PeopleErase);
const INSIDE: Access = Access::Proof(&metrics::INSIDE);
const NODE: Access = Access::Signed("another node");

routes! {
    /// The routes and their documentation; `ROUTES` adds the schema of a sign-in, and the links
    /// between operations.
    const TABLE =
    GET    "/v1/admin/sagas"                      OPS      Operate  entities::list_sagas;
    GET    "/v1/admin/dead-letters"               OPS      Operate  dead_letters::list_dead_letters;
    POST   "/v1/admin/dead-letters/replay"        OPS      Operate  dead_letters::replay_dead_letters;
    GET    "/v1/admin/dead-letters/{id}"          OPS      Operate  dead_letters::get_dead_letter;
    POST   "/v1/admin/dead-letters/{id}/replay"   OPS      Operate  dead_letters::replay_dead_letter;
    DELETE "/v1/admin/dead-letters/{id}"          OPS      Operate  dead_letters::discard_dead_letter;
    GET    "/v1/admin/webhooks"                   OPS      Operate  entities::list_parked_webhooks;
    DELETE "/v1/admin/webhooks/{id}"              OPS      Operate  entities::discard_parked_webhook;
    POST   "/v1/admin/webhooks/{id}/retry"        OPS      Operate  entities::retry_parked_webhook;
    POST   "/v1/admin/erasures"                   ERASE    Operate  erasures::erase_person;
    POST   "/v1/admin/quarantine/{entity}/retry"  OPS      Operate  entities::retry_quarantined;
    GET    "/v1/admin/cluster"                    OPS      Operate  cluster::show_cluster;
    POST   "/v1/admin/cluster/nodes/{id}/drain"   OPS      Operate  cluster::drain_node;
    POST   "/v1/admin/cluster/nodes/{id}/undrain" OPS      Operate  cluster::undrain_node;
    POST   "/v1/admin/cluster/shards/{id}/move"   OPS      Operate  cluster::move_shard;
    DELETE "/v1/admin/cluster/shards/{id}/pin"    OPS      Operate  cluster::unpin_shard;
    GET    "/v1/admin/jobs"                       OPS      Operate  jobs::list_jobs;
    POST   "/v1/admin/jobs"                       OPS      Operate  jobs::add_job;
    GET    "/v1/admin/jobs/{id}"                  OPS      Operate  jobs::get_job;
    DELETE "/v1/admin/jobs/{id}"                  OPS      Operate  jobs::discard_job;
    POST   "/v1/admin/jobs/{id}/retry"            OPS      Operate  jobs::retry_job;
    GET    "/v1/admin/order-exports"              ORDERS   Operate  order_exports::list_order_exports;
    POST   "/v1/admin/order-exports"              ORDERS   Operate  order_exports::create_order_export;
    GET    "/v1/admin/order-exports/{id}"         ORDERS   Operate  order_exports::get_order_export;
    GET    "/v1/admin/order-exports/{id}/file"    ORDERS   Operate  order_exports::download_order_export;
    DELETE "/v1/admin/order-exports/{id}"         ORDERS   Operate  order_exports::delete_order_export;
    GET    "/v1/admin/schedules"                  OPS      Operate  jobs::list_schedules;
    PUT    "/v1/admin/schedules"                  OPS      Operate  jobs::put_schedule;
    DELETE "/v1/admin/schedules/{name}"           OPS      Operate  jobs::delete_schedule;
    GET    "/v1/admin/settings"                   OPS      Operate  settings::list_settings;
    GET    "/v1/admin/settings/{name}"            OPS      Operate  settings::get_setting;
    PUT    "/v1/admin/settings/{name}"            SETTINGS Operate  settings::put_setting;
    GET    "/v1/admin/settings/{name}/history"    OPS      Operate  settings::list_setting_changes;
    POST   "/v1/session"                          PUBLIC   Operate  session::create_session;
    GET    "/v1/session"                          PUBLIC   Operate  session::get_session;
    DELETE "/v1/session"                          PUBLIC   Operate  session::delete_session;
    POST   "/v1/node/calls"                       NODE     Checkout node_calls::answer_node;
    GET    "/"                                    PUBLIC   Browse   admin_page::show_start;
    GET    "/admin"                               PUBLIC   Operate  admin_page::show_admin;
    GET    "/admin/{file:.*}"                     PUBLIC   Operate  admin_page::show_admin_file;
    GET    "/livez"                               PUBLIC   Health   health::check_live;
    GET    "/readyz"                              PUBLIC   Health   health::check_ready;
    GET    "/metrics"                             INSIDE   Health   metrics::show_metrics;
}

/// The routes of operators.
pub const ROUTES: RouteList =
    RouteList { document: || beside((TABLE.document)(), schema::all()), links: LINKS, ..TABLE };

const FIRST: &[(&str, &str)] = &[("id", "$response.body#/data/0/id")];
const NEXT: &[(&str, &str)] = &[("after", "$response.body#/next_cursor")];
const TO_WEBHOOK: &[&str] = &["retry_parked_webhook", "discard_parked_webhook"];

const LINKS: &[OperationLink] = &[
    OperationLink { from: "list_sagas", to: &["list_sagas"], with: NEXT },
    OperationLink { from: "list_dead_letters", to: &["list_dead_letters"], with: NEXT },
    OperationLink { from: "list_parked_webhooks", to: &["list_parked_webhooks"], with: NEXT },
    OperationLink { from: "list_order_exports", to: &["list_order_exports"], with: NEXT },
    OperationLink { from: "list_parked_webhooks", to: TO_WEBHOOK, with: FIRST },
];
