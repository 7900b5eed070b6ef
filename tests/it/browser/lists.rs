//! Lists that change by themselves: no row moves while somebody is at them, and a pill says what waits.

use reqwest::Method;
use serde_json::json;

use super::chrome::Page;
use crate::site::Site;

/// Waits until these are the texts that a selector finds, in this order.
async fn texts(page: &Page, selector: &str, wanted: &str) {
    page.until(&format!(
        "[...document.querySelectorAll({})].filter((one) => one.checkVisibility())\
         .map((one) => one.textContent).join() === {}",
        json!(selector),
        json!(wanted)
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_of_the_orders_moves_under_a_mouse() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let first = site.sold("key-1").await.replace("cart_", "ord_");
    site.sold("key-2").await;
    let page = site.browser("#/orders?sort=fulfillment").await;
    texts(&page, ".row-link", "#2,#1").await;
    page.hover("tr[data-row] .c-who").await;
    // It is shipped: sorted by fulfillment, it comes first, once nobody is at the list.
    let path = format!("/orders/{first}/fulfillments");
    let body = json!({"lines": [{"line": "1", "quantity": 1}]});
    site.admin(Method::POST, &path, Some(body)).await.expect(200);
    page.sees("tr[data-row]:last-child .c-goods", "partially shipped").await;
    page.sees(".pill", "Updated").await;
    texts(&page, ".row-link", "#2,#1").await;
    site.sold("key-3").await;
    page.sees(".pill", "1 new order").await;
    texts(&page, ".row-link", "#2,#1").await;
    page.hover("#orders-search").await;
    texts(&page, ".row-link", "#1,#3,#2").await;
    page.until("document.querySelector('.pill').hidden").await;
    // So it is with the focus in a row.
    page.eval("document.querySelector('.row-link').focus()").await;
    site.sold("key-4").await;
    page.sees(".pill", "1 new order").await;
    texts(&page, ".row-link", "#1,#3,#2").await;
    assert!(page.barriers().await.is_empty());
    page.click(".pill").await;
    texts(&page, ".row-link", "#1,#4,#3,#2").await;
    page.until("document.activeElement.id === 'main'").await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_moves_under_a_mouse_on_the_other_pages() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    site.sold("key-1").await;
    let page = site.browser("#/").await;
    texts(&page, ".latest:not([hidden]) a", "#1").await;
    page.hover(".latest a").await;
    site.sold("key-2").await;
    page.sees(".pill", "1 new order").await;
    texts(&page, ".latest:not([hidden]) a", "#1").await;
    page.hover("h2").await;
    texts(&page, ".latest:not([hidden]) a", "#2,#1").await;

    page.eval("location.hash = '#/stock/LAMP'").await;
    let events = "document.querySelectorAll('.stock-history li').length";
    page.until(&format!("{events} === 5")).await;
    page.hover(".stock-history li").await;
    site.sold("key-3").await;
    page.sees(".panel:has(.stock-history) .pill", "2 new").await;
    // The list above does not grow either: that would move the rows below it.
    page.sees(".panel:has(.tall) .pill", "Updated").await;
    page.until(&format!("{events} === 5")).await;
    page.until("document.querySelectorAll('.rows.tall li').length === 2").await;
    page.press("n").await;
    page.until(&format!("{events} === 7")).await;
    page.hover(".rows.tall li").await;
    site.sold("key-4").await;
    page.sees(".panel:has(.tall) .pill", "Updated").await;
    page.until("document.querySelectorAll('.rows.tall li').length === 3").await;
    page.hover("h2").await;
    page.until("document.querySelectorAll('.rows.tall li').length === 4").await;

    let one = site.stuck("key-5").await;
    page.eval("location.hash = '#/attention'").await;
    let rows = "document.querySelectorAll('.attention-rows li').length";
    page.until(&format!("{rows} === 1")).await;
    page.sees(".attention-rows .why", "the provider authorized").await;
    page.hover(".attention-rows .why").await;
    site.stuck("key-6").await;
    page.sees("#tally", "2").await;
    page.sees(".pill", "Updated").await;
    page.until(&format!("{rows} === 1")).await;
    assert!(page.barriers().await.is_empty());
    page.hover("nav a").await;
    page.until(&format!("{rows} === 2")).await;
    // What somebody does there is seen at once.
    page.hover(".attention-rows .why").await;
    let cancel = format!(
        "[...document.querySelectorAll('.attention-rows li')].find((one) => \
         one.querySelector('a').title === '{}').querySelector('.danger').click()",
        one.replace("cart_", "ord_")
    );
    page.eval(&cancel).await;
    page.sees("dialog[open] h2", "Cancel order").await;
    page.write("another amount").await;
    page.press_control("Enter").await;
    page.until(&format!("{rows} === 1")).await;
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_row_of_the_stock_is_shown_where_it_belongs_if_it_matches() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    site.sell("SOFA", 1_000, 3).await;
    let page = site.browser("#/stock").await;
    texts(&page, ".stock-table .row-link", "LAMP,SOFA").await;
    site.sell("MUG", 500, 9).await;
    texts(&page, ".stock-table .row-link", "LAMP,MUG,SOFA").await;
    page.sees(".stock-table .c-name", "Product MUG").await;
    // Only what matches is shown: what is looked for, and what is searched for.
    page.button("At most 5 sellable").await;
    texts(&page, ".stock-table .row-link", "SOFA").await;
    page.press("/").await;
    page.write("product m").await;
    page.sees(".list-state", "Nothing found").await;
    site.sell("NAIL", 5, 2).await;
    site.sell("MAT", 500, 2).await;
    site.set_stock("MUG", 4).await;
    texts(&page, ".stock-table .row-link", "MAT,MUG").await;
    // No row moves while somebody is at them.
    page.hover("tr[data-row] .c-name").await;
    site.sell("MAP", 500, 1).await;
    page.sees(".pill", "1 new row").await;
    texts(&page, ".stock-table .row-link", "MAT,MUG").await;
    page.hover("nav a").await;
    texts(&page, ".stock-table .row-link", "MAP,MAT,MUG").await;
    page.hover("tr[data-row] .c-name").await;
    site.sell("MOP", 500, 1).await;
    page.sees(".pill", "1 new row").await;
    page.click(".pill").await;
    texts(&page, ".stock-table .row-link", "MAP,MAT,MOP,MUG").await;
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_of_a_part_of_the_orders_say_so() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 999).await;
    for number in 0..51 {
        let cart = site.cart(&[("LAMP", 1)]).await;
        site.checkout(&cart, &format!("key-{number}"), "tok_ok", 30).await.expect(201);
    }
    let page = site.browser("#/orders").await;
    page.size(1440, 400).await;
    page.sees(".desk", "Of the newest 50 orders shown, not of all: £500.00 ordered").await;
    page.eval("location.hash = '#/orders?status=confirmed'").await;
    page.sees(".desk", "Of the newest 50 orders shown, not of all that match: £500.00").await;
    page.button("Show more").await;
    page.sees(".desk", "All 51 orders that match: £510.00 ordered").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_units_of_a_location_are_received_on_the_page_of_their_sku() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let place = json!({"name": "Shop in Leeds", "for_sale": false});
    site.admin(Method::PUT, "/locations/leeds", Some(place)).await.expect(201);
    let page = site.browser("#/stock/LAMP").await;
    page.button("Receive elsewhere").await;
    page.sees("dialog[open] select", "Shop in Leeds (leeds)").await;
    page.fill("quantity", "4").await;
    page.press_control("Enter").await;
    page.sees(".levels tr:has([title=leeds]) .c-on_hand", "4").await;
    // What is not sold from says so beside its units.
    page.sees(".levels [title=leeds] .badge", "not for sale").await;
    page.button("Receive elsewhere").await;
    page.sees("#said.shown", "The SKU has a level at each location: receive there").await;
    page.eval("location.hash = '#/stock'").await;
    page.sees("tr[data-row]", "Shop in Leeds, not for sale").await;
    assert!(page.barriers().await.is_empty());
    site.verify().await;
}
