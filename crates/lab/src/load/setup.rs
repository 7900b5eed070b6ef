//! The preparation of a run: products, stock, and pages and carts to read.
//!
//! Products and stock are imported through the admin API, which is idempotent: the next run finds
//! them. Deliberately not here: the flows (`buyer`).

use futures_util::StreamExt as _;
use futures_util::stream;
use kontor_client::Client;
use kontor_client::api::{Import, ImportRow, Imported, NewCart, NewLine, Product};
use kontor_client::{Money, Price, UnitPrice};
use rand::RngExt as _;
use rand::rngs::SmallRng;
use serde::Deserialize;

use super::Error;
use super::progress::ProgressOutput;
use crate::import::BATCH_ROWS;

/// Imports in progress at once.
const IMPORTS_AT_ONCE: usize = 2;
/// Carts that are created at once.
const CARTS_AT_ONCE: usize = 16;
/// The number of product pages and carts that are read.
const PAGES: usize = 20;
const CARTS: usize = 100;
/// The most units that stock can have, so that no run sells out.
pub const PLENTY: i64 = 1_000_000_000;

/// The products of a run, and the pages and carts that clients read.
#[derive(Clone, Debug, Default)]
pub struct Goods {
    /// The number of products, from `LOAD-000000` on.
    pub skus: u32,
    /// A delivery option.
    pub delivery: String,
    /// `&after=…` of pages of products.
    pub pages: Vec<String>,
    /// Carts to read: their ids and tokens.
    pub carts: Vec<(String, String)>,
}

impl Goods {
    /// A random SKU.
    pub fn sku(&self, random: &mut SmallRng) -> String {
        sku(random.random_range(0..self.skus.max(1)))
    }

    /// Two different random SKUs.
    pub fn pair(&self, random: &mut SmallRng) -> (String, String) {
        let skus = self.skus.max(2);
        let first = random.random_range(0..skus);
        let second = (first + random.random_range(1..skus)) % skus;
        (sku(first), sku(second))
    }
}

fn sku(number: u32) -> String {
    format!("LOAD-{number:06}")
}

#[derive(Deserialize)]
struct Options {
    data: Vec<Way>,
}

#[derive(Deserialize)]
struct Way {
    id: String,
    prices: Vec<Money>,
    free: bool,
}

/// A delivery option with a price in pounds.
///
/// # Errors
/// [`Error`]: the server fails, or has no such option.
pub async fn delivery(client: &Client) -> Result<String, Error> {
    let options = client.get::<Options>("/v1/store/delivery-options").send().await?.body;
    let offered =
        |option: &Way| option.free || option.prices.iter().any(|price| price.currency == "GBP");
    let option = options.data.into_iter().find(offered);
    option.map(|option| option.id).ok_or(Error::NoDelivery)
}

/// Creates the first `skus` products and sets `units` of each on hand.
///
/// # Errors
/// [`Error`]: the server fails, or refuses a product.
pub async fn stock_up(
    client: &Client,
    skus: u32,
    units: i64,
    progress: ProgressOutput,
) -> Result<Goods, Error> {
    let numbers: Vec<u32> = (0..skus).collect();
    let batches = numbers.chunks(BATCH_ROWS).map(|batch| {
        let rows: Vec<ImportRow> = batch
            .iter()
            .map(|number| row(sku(*number), 100 + i64::from(*number % 900), units))
            .collect();
        import(client, rows)
    });
    let mut all = stream::iter(batches.collect::<Vec<_>>()).buffer_unordered(IMPORTS_AT_ONCE);
    let (mut new, mut there) = (0, 0);
    while let Some(done) = all.next().await {
        let done = done?;
        new += done.created + done.updated;
        there += done.unchanged;
        progress.say(&format!("products: {} of {skus}, {there} existed", new + there));
    }
    Ok(Goods { skus, delivery: delivery(client).await?, ..Goods::default() })
}

/// Creates one product.
///
/// # Errors
/// [`Error`]: the server fails, or refuses the product.
pub async fn single(client: &Client, sku: &str, units: i64) -> Result<(), Error> {
    import(client, vec![row(sku.to_owned(), 1_000, units)]).await.map(|_| ())
}

fn row(sku: String, price: i64, units: i64) -> ImportRow {
    let product = Product {
        name: Some(format!("Load product {sku}")),
        sku,
        category: Some(Some("load".to_owned())),
        prices: vec![Price::new(UnitPrice::from_raw(price * UnitPrice::SCALE), "GBP")],
        tax_rate: Some("0.2".to_owned()),
        ..Product::default()
    };
    ImportRow { product, on_hand: Some(units), ..ImportRow::default() }
}

async fn import(client: &Client, rows: Vec<ImportRow>) -> Result<Imported, Error> {
    let body = Import { dry_run: false, rows: &rows };
    let done = client.import_products(&body).send().await?.body;
    match done.errors.first() {
        None => Ok(done),
        Some(error) => {
            let sku = rows.get(error.row).map_or_else(String::new, |row| row.product.sku.clone());
            let (field, message) = (error.field.clone(), error.message.clone());
            Err(Error::Product { sku, field, message })
        }
    }
}

/// Finds product pages, and creates carts to read.
///
/// # Errors
/// [`Error`]: the server fails.
pub async fn reading_matter(
    client: &Client,
    goods: &mut Goods,
    run: &str,
    progress: ProgressOutput,
) -> Result<(), Error> {
    goods.pages.push(String::new());
    let mut after: Option<String> = None;
    while goods.pages.len() < PAGES {
        let mut call = client.browse_products().query("limit", "20");
        if let Some(after) = &after {
            call = call.query("after", after);
        }
        let page = call.send().await?.body;
        after = page.next_cursor;
        let Some(after) = &after else { break };
        goods.pages.push(format!("&after={after}"));
    }
    let count = u32::try_from(CARTS).unwrap_or(0);
    let wanted = (0..count).map(|number| {
        let line =
            |number| NewLine { sku: sku(number % goods.skus), quantity: 1, unit_price: None };
        let cart = NewCart {
            currency: Some("GBP".to_owned()),
            email: None,
            reference: Some(run.to_owned()),
            lines: vec![line(number), line(number + 1)],
            shipping_address: None,
            delivery_option: None,
        };
        async move { client.create_cart(&cart).send().await }
    });
    let mut made = stream::iter(wanted.collect::<Vec<_>>()).buffer_unordered(CARTS_AT_ONCE);
    let mut carts = Vec::with_capacity(CARTS);
    while let Some(cart) = made.next().await {
        let made = cart?.body;
        carts.push((made.cart.id, made.token));
    }
    drop(made);
    goods.carts = carts;
    progress.say(&format!("to read: {} pages, {} carts", goods.pages.len(), goods.carts.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn the_two_lines_of_a_cart_differ_and_all_skus_are_drawn() {
        let mut random = SmallRng::seed_from_u64(3);
        let goods = Goods { skus: 3, ..Goods::default() };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let (first, second) = goods.pair(&mut random);
            assert_ne!(first, second);
            seen.extend([first, second]);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [sku(0), sku(1), sku(2)]);
    }
}
