//! The most used operations of the API, by their ids in `/openapi.json`.
//!
//! Each method returns a [`Call`], which can be changed before it is sent. Deliberately not here:
//! the other operations, for which [`Client::get`], [`Client::post`] and the like take a path.

use std::fmt::Write as _;

use serde_json::json;

use crate::api::{
    Cart, CartUpdate, Checkout, CreatedCart, Import, Imported, Listed, NewCart, NewLine, Order,
    Page, Refund, StockItem,
};
use crate::client::{Call, Client};

/// Operations of buyers. Those of a cart that exists need the cart's token ([`Call::token`]), or a
/// client with an API key that has the scope `orders:write`.
impl Client {
    /// Lists products for sale, page by page: `.query("limit", ..)` sets the size of the page, and
    /// `.query("after", ..)` its cursor.
    pub fn browse_products(&self) -> Call<'_, Page<Listed>> {
        self.get("/v1/store/products")
    }

    /// Creates a cart.
    pub fn create_cart(&self, cart: &NewCart) -> Call<'_, CreatedCart> {
        self.post("/v1/store/carts").json(cart)
    }

    /// Reads a cart.
    pub fn get_cart(&self, cart: &str) -> Call<'_, Cart> {
        self.get(&format!("/v1/store/carts/{}", segment(cart)))
    }

    /// Sets the buyer's email address, shipping address and delivery option.
    pub fn update_cart(&self, cart: &str, update: &CartUpdate) -> Call<'_, Cart> {
        self.patch(&format!("/v1/store/carts/{}", segment(cart))).json(update)
    }

    /// Adds a line to a cart.
    pub fn add_lines(&self, cart: &str, line: &NewLine) -> Call<'_, Cart> {
        self.post(&format!("/v1/store/carts/{}/lines", segment(cart))).json(line)
    }

    /// Sets the units of a cart's line.
    pub fn set_quantity(&self, cart: &str, line: &str, quantity: i64) -> Call<'_, Cart> {
        let path = format!("/v1/store/carts/{}/lines/{}", segment(cart), segment(line));
        self.patch(&path).json(&json!({ "quantity": quantity }))
    }

    /// Removes a line from a cart.
    pub fn remove_line(&self, cart: &str, line: &str) -> Call<'_, Cart> {
        self.delete(&format!("/v1/store/carts/{}/lines/{}", segment(cart), segment(line)))
    }

    /// Turns a cart into an order. With [`Call::prefer_wait`], the answer comes when the outcome of
    /// the order is known. Refusals have the codes `out_of_stock`, `payment_declined` and
    /// `cart_changed`, among others.
    pub fn check_out(&self, cart: &str, checkout: &Checkout) -> Call<'_, Order> {
        self.post(&format!("/v1/store/carts/{}/checkout", segment(cart))).json(checkout)
    }
}

/// Operations of staff and programs: the client needs an API key with the right scopes.
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

    /// Cancels an order that has not been shipped.
    pub fn cancel_order(&self, order: &str, reason: &str) -> Call<'_, Order> {
        self.post(&format!("/v1/admin/orders/{}/cancel", segment(order)))
            .json(&json!({ "reason": reason }))
    }

    /// Refunds units of an order.
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

/// Encodes an id or a SKU as one segment of a path.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_percent_encoded_as_one_path_segment() {
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
