//! The tokens of the carts that the tests created, as a buyer's browser keeps them: by the id of the
//! cart, which no other cart has.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use reqwest::RequestBuilder;
use serde_json::Value;

static TOKENS: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);

/// Keeps the token of an answer that created a cart.
pub fn keep(answer: &Value) {
    if let (Some(id), Some(token)) = (answer["id"].as_str(), answer["token"].as_str())
        && let Some(key) = id.strip_prefix("cart_")
    {
        TOKENS.lock().unwrap().insert(key.to_owned(), token.to_owned());
    }
}

/// The token of a cart, by its id or that of its order.
pub fn token(id: &str) -> String {
    let key = id.trim_start_matches("cart_").trim_start_matches("ord_");
    TOKENS.lock().unwrap().get(key).unwrap_or_else(|| panic!("no token of {id} was kept")).clone()
}

/// A request to a path; with the cart's token, if it is the path of a cart whose token was kept.
pub fn authorized(request: RequestBuilder, path: &str) -> RequestBuilder {
    let key = path.split("/carts/cart_").nth(1).and_then(|rest| rest.split('/').next());
    let token = key.and_then(|key| TOKENS.lock().unwrap().get(key).cloned());
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}
