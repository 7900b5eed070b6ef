//! Sessions that may not do everything: what the page shows them, and what it lets them press.

use serde_json::json;

use super::chrome::Page;
use crate::site::Site;

/// The texts of what can be pressed to change something on a page.
const PRESSABLE: &str = "[...document.querySelectorAll('#page :is(.actions, .toolbar, .rows) button')]\
     .filter((one) => one.checkVisibility() && one.ariaDisabled !== 'true')\
     .map((one) => one.textContent).filter((text) => text && text !== 'All').join()";

/// Goes to a page, and waits until it is read.
async fn visit(page: &Page, place: &str) {
    page.eval(&format!("location.hash = {}", json!(place))).await;
    page.until(
        "document.title !== '' && document.querySelector('#page > *').innerText !== '' && \
         ![...document.querySelectorAll('.bones')].some((one) => one.checkVisibility())",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_asks_for_nothing_that_it_may_not_read() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let pages = ["", "orders", "stock", "stock/LAMP", "locations", "attention", "cluster"];
    let others = ["system", "settings", &format!("orders/{order}"), &format!("packing/{order}")];
    for scope in ["orders:read", "stock:read", "products:read", "settings:write", "ops"] {
        let page = site.browser_with(scope, "#/").await;
        for place in pages.iter().chain(&others) {
            visit(&page, &format!("#/{place}")).await;
            assert_eq!(page.troubles("/v1/session"), [""; 0], "{scope} at {place}");
        }
        assert!(page.barriers().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_may_not_change_cannot_be_pressed_and_says_which_scope_it_lacks() {
    let site = Site::with(|config| config.payments.stuck_after = 2).await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let path = format!("/orders/{order}/fulfillments");
    let body = json!({"lines": [{"line": "1", "quantity": 1}]});
    site.admin(reqwest::Method::POST, &path, Some(body)).await.expect(200);

    let page = site.browser_with("orders:read", "#/attention").await;
    page.sees(".empty", "Not everything can be seen").await;
    page.sees(".empty", "it lacks the scope ops").await;
    let page_text = page.eval("document.querySelector('#page').innerText").await;
    assert!(!page_text.as_str().unwrap().contains("Nothing needs attention"), "{page_text}");
    visit(&page, "#/").await;
    page.sees(".figure.needs small", "not all can be seen").await;
    page.sees(".needs", "Not everything can be seen").await;
    site.stuck("key-2").await;
    visit(&page, "#/attention").await;
    page.sees(".attention-rows .button", "Cancel").await;
    let orders = "Your session may not change orders: it lacks the scope orders:write.";
    page.sees(".why-not", orders).await;
    assert_eq!(page.eval(PRESSABLE).await, "");
    visit(&page, &format!("#/orders/{order}")).await;
    page.sees(".order-sum .actions", "Ship…").await;
    page.sees(".why-not", orders).await;
    assert_eq!(page.eval(PRESSABLE).await, "");
    page.click(".order-sum .actions button").await;
    assert_eq!(page.eval("document.querySelector('dialog')").await, json!(null));
    visit(&page, "#/orders").await;
    page.sees(".row-link", "#1").await;
    page.eval("document.querySelectorAll('tbody .c-box input')[1].click()").await;
    let ship = "Ship: your session may not ship orders: it lacks the scope orders:write.";
    page.sees(".why-not", ship).await;
    visit(&page, "#/stock").await;
    page.sees(".empty", "Your session may not read stock: it lacks the scope stock:read.").await;

    let page = site.browser_with("stock:read", "#/stock/LAMP").await;
    page.sees(".levels .actions", "Count").await;
    page.sees(".why-not", "Your session may not change stock: it lacks the scope stock:write.")
        .await;
    let levels =
        "[...document.querySelectorAll('.levels button')].every((one) => one.ariaDisabled)";
    assert_eq!(page.eval(levels).await, true);
    visit(&page, "#/locations").await;
    page.sees(".locations-table", "main").await;
    page.sees(".why-not", "may not change locations: it lacks the scope stock:write").await;
    assert_eq!(page.eval(PRESSABLE).await, "");

    let page = site.browser_with("ops", "#/settings").await;
    page.sees(".settings-rows", "Checkout").await;
    page.sees(".why-not", "may not change settings: it lacks the scope settings:write").await;
    assert_eq!(page.eval(PRESSABLE).await, "");
    assert_eq!(page.all_barriers().await, [json!(null); 0]);
}
