//! Which answer of the API leads to which operation: a cart to its checkout, a checkout to its
//! order. They stand in the document as its `links`.

use utoipa::openapi::RefOr;
use utoipa::openapi::link::Link;
use utoipa::openapi::path::Operation;

/// From an operation's answer to operations, with their parameters.
type Row = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

const CART: &[(&str, &str)] = &[("id", "$response.body#/id")];
const CART_LINE: &[(&str, &str)] =
    &[("id", "$response.body#/id"), ("line", "$response.body#/lines/0/id")];
const TO_CART: &[&str] = &["get_cart", "update_cart", "add_lines", "check_out"];
const TO_LINE: &[&str] = &["set_quantity", "remove_line"];
const TOKEN: &[(&str, &str)] = &[("id", "$response.body#/id"), ("token", "$response.body#/token")];
const ORDER: &[(&str, &str)] = &[("id", "$response.body#/id")];
const ORDERS: &[(&str, &str)] = &[("id", "$response.body#/data/0/id")];
const NEXT: &[(&str, &str)] = &[("after", "$response.body#/next_cursor")];
const SKU: &[(&str, &str)] = &[("sku", "$response.body#/sku")];
const SKUS: &[(&str, &str)] = &[("sku", "$response.body#/data/0/sku")];
const TO_SKU: &[&str] = &["get_product", "update_product", "get_stock"];
const TO_ORDER: &[&str] = &[
    "get_order",
    "list_order_events",
    "cancel_order",
    "refund_order",
    "capture_order",
    "fulfill_order",
    "retry_order",
    "skip_order_step",
];

const TABLE: &[Row] = &[
    ("create_cart", TO_CART, CART),
    ("create_cart", TO_LINE, CART_LINE),
    ("update_cart", &["add_lines", "check_out"], CART),
    ("add_lines", &["check_out"], CART),
    ("add_lines", TO_LINE, CART_LINE),
    ("set_quantity", &["check_out"], CART),
    ("check_out", &["get_my_order", "watch_my_order"], TOKEN),
    ("check_out", TO_ORDER, ORDER),
    ("list_orders", TO_ORDER, ORDERS),
    ("list_orders", &["list_orders"], NEXT),
    ("list_sagas", &["list_sagas"], NEXT),
    ("list_order_events", &["list_order_events"], &[("id", "$request.path.id"), NEXT[0]]),
    ("browse_products", &["browse_products"], NEXT),
    ("browse_products", &["show_product"], SKUS),
    ("list_products", &["list_products"], NEXT),
    ("list_products", &["get_product"], SKUS),
    ("create_product", TO_SKU, SKU),
    ("list_stock", &["list_stock"], NEXT),
    ("list_stock", &["get_stock"], SKUS),
    ("list_dead_letters", &["list_dead_letters"], NEXT),
    ("list_parked_webhooks", &["list_parked_webhooks"], NEXT),
    ("list_parked_webhooks", &["retry_parked_webhook", "discard_parked_webhook"], ORDERS),
    ("create_live_ticket", &["open_live"], &[("ticket", "$response.body#/ticket")]),
];

/// Adds the links of an operation to those of its answers that are what was asked for.
pub fn add(operation: &mut Operation, name: &str) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if !status.starts_with('2') {
            continue;
        }
        for (_, targets, parameters) in TABLE.iter().filter(|(from, ..)| *from == name) {
            for target in *targets {
                let mut link = Link::builder().operation_id(*target);
                for (parameter, expression) in *parameters {
                    link = link.parameter(*parameter, *expression);
                }
                response.links.insert((*target).to_owned(), RefOr::T(link.build()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_leads_from_an_operation_to_an_operation() {
        let there = |name: &str| crate::http::routes::TABLE.iter().any(|one| one.operation == name);
        for (from, targets, _) in TABLE {
            assert!(there(from), "{from}");
            assert!(targets.iter().all(|to| there(to)), "{targets:?}");
        }
    }
}
