//! A flash sale over HTTP: many buyers at once for a few units of one SKU. `KONTOR_BUYERS=2000`
//! makes it the large one: a quarter of so many units are there.

use std::time::Instant;

use futures_util::future::join_all;

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn flash_sale_never_oversells() {
    let buyers: i64 = std::env::var("KONTOR_BUYERS").map_or(200, |text| text.parse().unwrap());
    let units = buyers / 4;
    let site = Site::open().await;
    site.sell("DROP", 1_000, units).await;
    let carts = join_all((0..buyers).map(|_| site.cart(&[("DROP", 1)]))).await;
    let begin = Instant::now();
    let answers = join_all(carts.iter().map(|cart| site.checkout(cart, cart, "tok_ok", 30))).await;
    let took = begin.elapsed();
    let mut late = 0;
    let mut sold = 0;
    for answer in answers {
        match (answer.status, answer.code()) {
            (201, _) => sold += 1,
            (409, "out_of_stock") => late += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((sold, late), (units, buyers - units));
    let level = site.level("DROP").await;
    assert_eq!((&level["allocated"], &level["sellable"]), (&units.into(), &0.into()));
    println!("{buyers} buyers, {units} units: {sold} sold, {late} too late, in {took:?}");
    for cart in &carts {
        let order = cart.replace("cart_", "ord_");
        let order = site.admin(reqwest::Method::GET, &format!("/orders/{order}"), None).await;
        if order.status == 200 && order.body["status"] == "confirmed" {
            site.until(cart, |order| order["payment_status"] == "captured").await;
        }
    }
    site.verify().await;
}
