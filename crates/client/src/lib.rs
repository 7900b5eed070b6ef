//! The Rust client of kontor's HTTP API.
//!
//! A [`Client`] keeps connections, sends a request again while the server is busy or out of reach,
//! and gives every POST an idempotency key, so that nothing is done twice. [`api`] has the shapes of
//! requests and answers, [`money`] amounts and prices; a refusal is an [`Error`] with its stable code
//! and all its faulty fields.
//!
//! It knows kontor by its HTTP API only, needs a tokio runtime, and holds no state of its own.
//!
//! ```no_run
//! use kontor_client::api::{Cart, Checkout, NewCart, NewLine, Order, Payment};
//! use kontor_client::{Client, Error};
//!
//! # async fn buy() -> Result<(), Error> {
//! let shop = Client::new("https://shop.example", None)?;
//! let cart = NewCart {
//!     currency: "GBP".to_owned(),
//!     email: Some("ada@example.com".to_owned()),
//!     reference: None,
//!     lines: vec![NewLine { sku: "LAMP".to_owned(), quantity: 2, unit_price: None }],
//!     shipping_address: None,
//!     delivery_option: None,
//! };
//! let cart: Cart = shop.post("/v1/store/carts").json(&cart).send().await?.body;
//! let checkout = Checkout {
//!     payment: Payment::sandbox("tok_ok"),
//!     expected_total: Some(cart.totals.total.clone()),
//! };
//! let path = format!("/v1/store/carts/{}/checkout", cart.id);
//! match shop.post(&path).json(&checkout).prefer_wait(10).send::<Order>().await {
//!     Ok(order) => println!("{} is {}", order.body.id, order.body.status),
//!     Err(error) if error.code() == "out_of_stock" => println!("somebody was faster"),
//!     Err(Error::Problem(refusal)) => {
//!         for fault in &refusal.errors {
//!             eprintln!("{}: {}", fault.field, fault.message);
//!         }
//!     }
//!     Err(other) => return Err(other),
//! }
//! # Ok(())
//! # }
//! ```

pub mod api;
mod client;
pub mod money;
mod problem;

pub use client::{Answer, Call, Client};
pub use money::{InvalidMoney, Money, UnitPrice};
pub use problem::{Error, FieldError, Problem};
