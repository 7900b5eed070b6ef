//! The operations of the API that shops and their staff use most, by their names in `/openapi.json`.
//!
//! Each gives a [`Call`] that can still be changed before it is sent. What deliberately is not here:
//! the rest of the API, which [`Client::get`], [`Client::post`] and their like reach by its path.

use std::fmt::Write as _;

use serde_json::json;

use crate::api::{
    Cart, CartUpdate, Checkout, Import, Imported, Listed, NewCart, NewLine, Order, Page, Refund,
    StockItem,
};
use crate::client::{Call, Client};

/// What a buyer does: no key is needed.
impl Client {
    /// Lists what is on sale, page by page: `query("limit", ..)`, `query("after", ..)`.
    pub fn browse_products(&self) -> Call<'_, Page<Listed>> {
        self.get("/v1/store/products")
    }

    /// Makes a cart.
    pub fn create_cart(&self, cart: &NewCart) -> Call<'_, Cart> {
        self.post("/v1/store/carts").json(cart)
    }

    /// Reads a cart.
    pub fn get_cart(&self, cart: &str) -> Call<'_, Cart> {
        self.get(&format!("/v1/store/carts/{}", segment(cart)))
    }

    /// Says who buys, and where it goes.
    pub fn update_cart(&self, cart: &str, update: &CartUpdate) -> Call<'_, Cart> {
        self.patch(&format!("/v1/store/carts/{}", segment(cart))).json(update)
    }

    /// Puts a line into a cart.
    pub fn add_lines(&self, cart: &str, line: &NewLine) -> Call<'_, Cart> {
        self.post(&format!("/v1/store/carts/{}/lines", segment(cart))).json(line)
    }

    /// Changes how many units a line of a cart has.
    pub fn set_quantity(&self, cart: &str, line: &str, quantity: i64) -> Call<'_, Cart> {
        let path = format!("/v1/store/carts/{}/lines/{}", segment(cart), segment(line));
        self.patch(&path).json(&json!({ "quantity": quantity }))
    }

    /// Takes a line out of a cart.
    pub fn remove_line(&self, cart: &str, line: &str) -> Call<'_, Cart> {
        self.delete(&format!("/v1/store/carts/{}/lines/{}", segment(cart), segment(line)))
    }

    /// Buys what is in a cart; with [`Call::prefer_wait`] the answer says how it ended. Refusals
    /// have the codes `out_of_stock`, `payment_declined` and `cart_changed`, among others.
    pub fn check_out(&self, cart: &str, checkout: &Checkout) -> Call<'_, Order> {
        self.post(&format!("/v1/store/carts/{}/checkout", segment(cart))).json(checkout)
    }
}

/// What staff and programs do: the client needs a key with the right scopes.
impl Client {
    /// Imports products and their stock.
    pub fn import_products(&self, import: &Import<'_>) -> Call<'_, Imported> {
        self.post("/v1/admin/imports").json(import)
    }

    /// Lists orders, newest first; filters are query parameters.
    pub fn list_orders(&self) -> Call<'_, Page<Order>> {
        self.get("/v1/admin/orders")
    }

    /// Reads an order.
    pub fn get_order(&self, order: &str) -> Call<'_, Order> {
        self.get(&format!("/v1/admin/orders/{}", segment(order)))
    }

    /// Cancels an order that has not left.
    pub fn cancel_order(&self, order: &str, reason: &str) -> Call<'_, Order> {
        self.post(&format!("/v1/admin/orders/{}/cancel", segment(order)))
            .json(&json!({ "reason": reason }))
    }

    /// Takes goods back, and gives their money back.
    pub fn refund_order(&self, order: &str, refund: &Refund) -> Call<'_, Order> {
        self.post(&format!("/v1/admin/orders/{}/refunds", segment(order))).json(refund)
    }

    /// Lists stock, page by page.
    pub fn list_stock(&self) -> Call<'_, Page<StockItem>> {
        self.get("/v1/admin/stock")
    }

    /// Reads the stock of one SKU.
    pub fn get_stock(&self, sku: &str) -> Call<'_, StockItem> {
        self.get(&format!("/v1/admin/stock/{}", segment(sku)))
    }
}

/// An id or a SKU as a segment of a path.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_a_name_stays_one_segment() {
        for (text, path) in [
            ("LAMP-1", "LAMP-1"),
            ("BANK CHARGES#1", "BANK%20CHARGES%231"),
            ("a/b?", "a%2Fb%3F"),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(segment(text), path);
        }
    }
}
