//! The Rust client of kontor's HTTP API.
//!
//! A [`Client`] pools connections, retries a request while the server is overloaded or unreachable,
//! and gives every POST an idempotency key, so that nothing is done twice. Its methods are named
//! after the operation ids in `/openapi.json`; for other operations, [`Client::get`] and the like
//! take a path. [`api`] has the shapes of requests and answers, [`money`] amounts and prices; a
//! refusal is an [`Error`] with its stable code and all invalid fields.
//!
//! The client needs a tokio runtime, and stores nothing.
//!
//! ```no_run
//! use kontor_client::api::{Checkout, CreatedCart, NewCart, NewLine, PaymentMethod};
//! use kontor_client::{Client, Error};
//!
//! # async fn buy() -> Result<(), Error> {
//! let shop = Client::new("https://shop.example", None)?;
//! let cart = NewCart {
//!     currency: Some("GBP".to_owned()),
//!     email: Some("ada@example.com".to_owned()),
//!     reference: None,
//!     lines: vec![NewLine { sku: "LAMP".to_owned(), quantity: 2, unit_price: None }],
//!     shipping_address: None,
//!     delivery_option: None,
//! };
//! let CreatedCart { cart, token } = shop.create_cart(&cart).send().await?.body;
//! let checkout = Checkout {
//!     payment: Some(PaymentMethod::sandbox("tok_ok")),
//!     expected_total: Some(cart.totals.total.clone()),
//! };
//! match shop.check_out(&cart.id, &checkout).token(&token).prefer_wait(10).send().await {
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
mod operations;
mod problem;

pub use client::{Answer, Call, Client, install_tls};
pub use money::{InvalidMoney, Money, Price, UnitPrice};
pub use operations::segment;
pub use problem::{Error, FieldError, Problem};
