//! The pages in a real browser, on a real server. The admin page: signing in, orders that come alive,
//! the history of one, a stuck saga, the keyboard, and whether everybody can use it; its desk and the
//! documentation are beside this.

mod chrome;
mod corrections;
mod daily;
mod desk;
mod docs;
mod layout;
mod lists;
mod rights;

use chrome::Page;
use kontor::store::session::LINK_LASTS;
use reqwest::Method;
use serde_json::json;

use crate::site::Site;

/// Before a session is opened, the page asks whether there is one: 401 is the answer to that.
const ASKED: &str = "/v1/session";

impl Site {
    async fn sign_in_link(&self, scope: &str) -> String {
        let app = self.app.as_ref().unwrap();
        let scopes = [scope.to_owned()];
        let made = app.store.create_link("Ada", &scopes, app.node.clock.now(), LINK_LASTS).await;
        format!("{}/admin#sign-in={}", self.url(), made.unwrap().reveal())
    }

    /// A browser that is signed in, at a page of the admin.
    async fn browser(&self, at: &str) -> Page {
        self.browser_with("admin", at).await
    }

    /// The same, by a link with another scope.
    async fn browser_with(&self, scope: &str, at: &str) -> Page {
        let page = Page::open().await;
        page.go(&self.sign_in_link(scope).await).await;
        page.sees("#connection", "Live").await;
        page.eval(&format!("location.hash = {}", json!(at))).await;
        page
    }

    /// An order that was paid, by its cart.
    async fn sold(&self, key: &str) -> String {
        let cart = self.cart(&[("LAMP", 2)]).await;
        self.checkout(&cart, key, "tok_ok", 30).await.expect(201);
        self.until(&cart, |order| order["payment_status"] == "captured").await;
        cart
    }

    /// An order that waits for somebody: the provider set aside another amount than was asked for.
    async fn stuck(&self, key: &str) -> String {
        let cart = self.cart(&[("LAMP", 1)]).await;
        self.checkout(&cart, key, "tok_mismatch", 30).await.expect(202);
        self.until(&cart, |order| order["status"] == "stuck").await;
        cart
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn link_signs_in_and_orders_update_without_reload() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let page = site.browser("#/orders").await;
    assert_eq!(page.eval("location.href.includes('sign-in')").await, false);
    page.sees(".list-state", "No orders yet").await;
    page.eval("window.kept = true").await;
    let cart = site.cart(&[("LAMP", 2)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    page.sees("tr[data-row] .c-order", "#1").await;
    page.sees("tr[data-row] .c-status", "confirmed").await;
    page.sees("tr[data-row] .c-payment", "captured").await;
    page.sees("tr[data-row] .c-total", "20.00").await;
    // One that is declined stays open, is paid at the second try, and its row says both.
    let other = site.cart(&[("LAMP", 1)]).await;
    site.checkout(&other, "key-2", "tok_declined", 30).await.expect(402);
    page.sees("tr[data-row] .c-payment", "declined").await;
    site.checkout(&other, "key-3", "tok_ok", 30).await.expect(201);
    page.until("document.querySelectorAll('tr[data-row] .c-payment .ok').length === 2").await;
    assert_eq!(page.eval("window.kept").await, true);
    assert_eq!(page.troubles(ASKED), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_leads_from_the_list_to_an_order_through_its_history_and_back() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let cart = site.sold("key-1").await;
    site.sold("key-2").await;
    let page = site.browser("#/orders").await;
    page.sees("tr[data-row] .c-order", "#2").await;
    page.press("/").await;
    page.until("document.activeElement.id === 'orders-search'").await;
    page.write("nobody@").await;
    page.sees(".list-state", "Nothing found").await;
    // Esc clears a search, and stays in it; then it leaves it to the list.
    page.press("Escape").await;
    page.until("document.querySelectorAll('tr[data-row]').length === 2").await;
    page.until("document.activeElement.id === 'orders-search' && !document.activeElement.value")
        .await;
    page.press("Escape").await;
    page.until("document.activeElement.id === 'main'").await;
    page.press("j").await;
    page.press("j").await;
    let row = "document.activeElement.matches('.row-link') && document.activeElement.textContent";
    page.until(&format!("({row}) === '#1'")).await;
    page.press("/").await;
    page.until("document.activeElement.id === 'orders-search'").await;
    page.press("Escape").await;
    page.until(&format!("({row}) === '#1'")).await;
    page.press("k").await;
    page.until(&format!("({row}) === '#2'")).await;
    page.press("/").await;
    page.write("#1").await;
    page.until("document.querySelectorAll('tr[data-row]').length === 1").await;
    page.press("Enter").await;
    page.until("document.activeElement.matches('.row-link')").await;
    page.press("Enter").await;
    let order = cart.replace("cart_", "ord_");
    page.until(&format!("location.hash === '#/orders/{order}'")).await;
    page.until("document.querySelectorAll('.timeline .event').length === 5").await;
    page.sees(".timeline .diff", "payment status").await;
    page.sees(".order-sum .badge", "captured").await;
    page.press("ArrowLeft").await;
    page.press("ArrowLeft").await;
    page.sees(".moment", "Earlier state").await;
    page.sees(".moment", "event 3 of 5").await;
    page.sees(".order-sum .badge", "authorized").await;
    page.until("location.hash.endsWith('seq=3')").await;
    page.until("document.querySelector('#history').value === '3'").await;
    page.until("document.querySelectorAll('.order-head .actions button').length === 0").await;
    page.press("Escape").await;
    page.sees(".moment", "Current state").await;
    // The list is as it was left, with what was searched for.
    page.press("Escape").await;
    page.until("location.hash === '#/orders?q=%231'").await;
    page.until("document.activeElement.matches('.row-link')").await;
    page.until("document.querySelectorAll('tr[data-row]').length === 1").await;
    page.button("Clear").await;
    page.until("document.querySelectorAll('tr[data-row]').length === 2").await;
    page.press("Escape").await;
    page.press("j").await;
    page.press("j").await;
    page.until("document.querySelectorAll('tr[data-row]')[1].contains(document.activeElement)")
        .await;
    page.press("?").await;
    page.sees("dialog[open]", "Keyboard").await;
    page.press("Escape").await;
    page.until("!document.querySelector('dialog')").await;
    assert_eq!(page.troubles(ASKED), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_order_is_seen_everywhere_and_retried_with_a_reason() {
    let site = Site::with(|config| config.payments.stuck_after = 2).await;
    site.sell("LAMP", 1_000, 99).await;
    let cart = site.sold("key-1").await;
    let order = cart.replace("cart_", "ord_");
    let page = site.browser("#/attention").await;
    page.sees(".calm", "Nothing needs attention").await;
    // The provider fails at every call: a refund gets stuck.
    site.faults(json!({"error_500": 1.0})).await;
    let refund = json!({"amount": {"amount": 500, "currency": "GBP"}, "reason": "a scratch"});
    site.admin(Method::POST, &format!("/orders/{order}/refunds"), Some(refund)).await.expect(200);
    page.sees("#tally", "1").await;
    page.sees(".attention-rows .why", "500 Internal Server Error").await;
    site.faults(json!({})).await;
    page.click(".attention-rows button.primary").await;
    page.sees("dialog[open] h2", "Retry").await;
    page.click("dialog button.primary").await;
    page.sees("dialog .field-error", "say why").await;
    assert_eq!(page.eval("document.activeElement.name").await, "reason");
    page.write("the provider was asked by phone").await;
    page.click("dialog button.primary").await;
    page.until("!document.querySelector('dialog')").await;
    page.until("document.querySelector('#tally').hidden").await;
    page.eval(&format!("location.hash = '#/orders/{order}'")).await;
    page.sees(".timeline q", "asked by phone").await;
    page.sees(".timeline .who", "Ada").await;
    page.sees(".order-sum .badge", "partially refunded").await;
    assert_eq!(page.troubles(ASKED), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_is_changed_with_a_reason_and_its_history_read() {
    let site = Site::open().await;
    let page = site.browser("#/settings").await;
    page.sees(".settings-rows .name", "Limit for browsing").await;
    page.sees(".settings-rows", "rates.browse").await;
    page.press("j").await;
    page.until("document.activeElement.id === 'checkout-change'").await;
    page.press("Enter").await;
    page.sees("dialog[open] h2", "Switch off: Checkout").await;
    page.click("dialog button.danger").await;
    page.sees("dialog .field-error", "say why").await;
    page.write("the warehouse burns").await;
    page.click("dialog button.danger").await;
    page.until("!document.querySelector('dialog')").await;
    page.sees(".settings-rows .last", "the warehouse burns").await;
    page.sees(".settings-rows .badge.wait", "off").await;
    page.until("document.activeElement.id === 'checkout-change'").await;
    assert!(!site.app.as_ref().unwrap().node.runtime.current().checkout);

    page.click("#rates-browse-change").await;
    page.until("document.activeElement.name === 'value'").await;
    page.eval("document.activeElement.select()").await;
    page.write("99999999999").await;
    page.eval("document.querySelector('dialog textarea').focus()").await;
    page.write("a robot").await;
    page.click("dialog button.primary").await;
    page.sees("dialog .field-error", "from 0 to 10,000,000").await;
    page.eval("document.querySelector('dialog input').select()").await;
    page.write("600").await;
    page.click("dialog button.primary").await;
    page.until("!document.querySelector('dialog')").await;
    page.sees(".settings-rows", "600 a minute").await;
    page.click("#rates-browse-history").await;
    page.sees("dialog[open] .event", "a robot").await;
    page.sees("dialog[open] .event-title", "no limit → 600 a minute").await;
    assert!(page.barriers().await.is_empty());
    page.press("Escape").await;
    page.until("!document.querySelector('dialog')").await;
    // What the server objects to is in the console, too.
    assert_eq!(page.troubles("/v1/"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_in_all_themes_and_sizes() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let sold = site.sold("key-1").await.replace("cart_", "ord_");
    let stuck = site.stuck("key-2").await.replace("cart_", "ord_");
    let page = site.browser("#/").await;
    let places = [
        ("#/".to_owned(), ".latest a"),
        ("#/orders".to_owned(), ".row-link"),
        (format!("#/orders/{sold}"), ".timeline .diff dl"),
        (format!("#/orders/{sold}?seq=3"), ".history.past"),
        (format!("#/orders/{stuck}"), ".callout.bad"),
        ("#/stock".to_owned(), ".row-link"),
        ("#/stock/LAMP".to_owned(), ".stock-history li"),
        ("#/locations".to_owned(), ".locations-table"),
        ("#/attention".to_owned(), ".attention-rows"),
        ("#/system".to_owned(), ".node"),
        ("#/settings".to_owned(), ".settings-rows"),
        ("#/cluster".to_owned(), ".shards-table"),
        (format!("#/packing/{sold}"), ".sheet .square"),
        ("#/nowhere".to_owned(), ".empty"),
    ];
    for (theme, width, height) in [("light", 1440, 900), ("dark", 1440, 900), ("dark", 390, 844)] {
        page.size(width, height).await;
        page.theme(theme).await;
        for (place, shown) in &places {
            page.eval(&format!("location.hash = {}", json!(place))).await;
            page.until(&format!("document.querySelector('{shown}')?.checkVisibility() === true"))
                .await;
            let over = "document.documentElement.scrollWidth > innerWidth";
            assert_eq!(page.eval(over).await, false, "{place} is too wide at {width}");
            let barriers = page.all_barriers().await;
            assert!(barriers.is_empty(), "{place}, {theme} at {width}: {barriers:#?}");
        }
    }
    assert_eq!(page.troubles(ASKED), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_replaces_a_session_only_when_that_was_confirmed() {
    let site = Site::open().await;
    let page = site.browser("#/").await;
    let links = [site.sign_in_link("orders:read").await, site.sign_in_link("orders:read").await];
    let hash = |link: &str| json!(format!("#{}", link.split_once('#').unwrap().1));
    let scopes = "document.querySelector('#who').title";
    page.sees("#who", "Ada").await;
    assert_eq!(page.eval(scopes).await, "Scopes: admin");
    // In the page that is open, and where a new one is opened beside it.
    for (at, link) in links.iter().enumerate() {
        match at {
            0 => drop(page.eval(&format!("location.hash = {}", hash(link))).await),
            _ => {
                page.go("about:blank").await;
                page.go(link).await;
            }
        }
        page.sees("dialog[open] .dialog-intro", "You are signed in as Ada").await;
        assert!(page.barriers().await.is_empty());
        page.press("Escape").await;
        page.until("!document.querySelector('dialog')").await;
        page.sees("#connection", "Live").await;
        assert_eq!(page.eval(scopes).await, "Scopes: admin");
        assert_eq!(page.eval("location.href.includes('sign-in')").await, false);
    }
    page.eval(&format!("location.hash = {}", hash(&links[0]))).await;
    page.sees("dialog[open] h2", "Sign in as somebody else?").await;
    page.click("dialog[open] .dialog-end .primary").await;
    page.until("document.querySelector('#who').title === 'Scopes: orders:read'").await;
    page.until("!document.querySelector('dialog')").await;
    page.sees("#connection", "Live").await;
    assert_eq!(page.troubles(ASKED), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn markup_in_names_is_shown_as_it_is_written() {
    let site = Site::open().await;
    let name = "<img src=x onerror=\"document.title='x'\"><b>A</b>";
    site.sell("LAMP", 1_000, 99).await;
    let product = json!({"name": name, "prices": [{"amount": 1_000, "currency": "GBP"}]});
    site.admin(Method::PATCH, "/products/LAMP", Some(product)).await.expect(200);
    let cart = site.cart(&[("LAMP", 2)]).await;
    let address = json!({"name": name, "line1": name, "city": name, "postal_code": "N1 1AA",
        "country": "GB"});
    let buyer = json!({"shipping_address": address});
    site.store(Method::PATCH, &format!("/carts/{cart}"), Some(buyer)).await.expect(200);
    let email = json!({"email": "<b>a</b>@example.com"});
    site.store(Method::PATCH, &format!("/carts/{cart}"), Some(email)).await.expect(422);
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let order = cart.replace("cart_", "ord_");
    let page = site.browser("#/").await;
    for place in [
        "#/orders",
        &format!("#/orders/{order}"),
        "#/stock",
        "#/stock/LAMP",
        &format!("#/packing/{order}"),
    ] {
        page.eval(&format!("location.hash = {}", json!(place))).await;
        page.sees("#page .page", "<img src=x onerror=").await;
        let made = page.eval("document.querySelectorAll('#page img[src=x], #page b b').length");
        assert_eq!(made.await, 0, "{place}");
        assert_ne!(page.eval("document.title").await, "x", "{place}");
    }
    assert_eq!(page.troubles(ASKED), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn page_explains_sign_in_and_reconnects() {
    let mut site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let page = Page::open().await;
    page.go(&format!("{}/admin#sign-in=never-made", site.url())).await;
    page.sees(".card .form-error", "used already").await;
    page.sees(".card .command", "kontor sign-in").await;
    assert_eq!(page.barriers().await, [json!(null); 0]);
    page.eval("document.querySelector('#api-key').focus()").await;
    page.write("sk_nobody").await;
    page.press("Enter").await;
    page.sees(".card .form-error", "is unknown").await;
    page.eval("document.querySelector('#api-key').select()").await;
    page.write(&site.key).await;
    page.press("Enter").await;
    page.sees("#connection", "Live").await;
    page.eval("location.hash = '#/orders'").await;
    page.sees(".list-state", "No orders yet").await;
    // The server goes away and comes back where it was; an order is placed before the page knows.
    site.config.http.listen = site.url().trim_start_matches("http://").parse().unwrap();
    site.app.take().unwrap().stop().await;
    page.sees("#banner", "The connection is lost").await;
    site.app = Some(kontor::app::App::start(&site.config).await.unwrap());
    site.sold("key-1").await;
    page.until("document.querySelector('#banner').hidden").await;
    page.sees("tr[data-row] .c-order", "#1").await;
    page.click("#tools .out").await;
    page.sees(".card h1", "Sign in").await;
    page.go(&format!("{}/admin#/orders", site.url())).await;
    page.sees(".card h1", "Sign in").await;
    site.verify().await;
}
