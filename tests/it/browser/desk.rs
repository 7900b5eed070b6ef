//! A day at the desk: dialogs that belong to their page, lists that stay as they were left, what is
//! said of orders that need somebody, and the errands of a shop.

use reqwest::Method;
use serde_json::json;

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn dialogs_and_messages_belong_to_their_page() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let one = site.sold("key-1").await.replace("cart_", "ord_");
    let other = site.sold("key-2").await.replace("cart_", "ord_");
    let page = site.browser("#/orders").await;
    page.sees("tr[data-row] .c-order", "#2").await;
    page.eval(&format!("location.hash = '#/orders/{one}'")).await;
    page.button("Refund…").await;
    page.sees("dialog[open] h2", "Refund order #1").await;
    page.eval("history.back()").await;
    page.until("location.hash === '#/orders' && !document.querySelector('dialog')").await;
    page.eval(&format!("location.hash = '#/orders/{one}'")).await;
    page.button("Refund…").await;
    page.eval(&format!("location.hash = '#/orders/{other}'")).await;
    page.sees(".order-title h2", "Order #2").await;
    page.until("!document.querySelector('dialog')").await;

    // What is sent by Ctrl+Enter is told on its page, and on no other one.
    page.button("Refund…").await;
    page.fill("amount", "1.00").await;
    page.fill("reason", "a scratch").await;
    page.press_control("Enter").await;
    page.sees("#said.shown", "The refund was requested").await;
    page.eval("location.hash = '#/stock'").await;
    page.sees(".page.stock .row-link", "LAMP").await;
    assert_eq!(page.eval("document.querySelector('#said').className").await, "said");
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_holds_the_list_of_orders() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    site.sold("key-1").await;
    let page = site.browser("#/orders").await;
    let rows = |count| format!("document.querySelectorAll('tbody .c-box').length === {count}");
    let tick = "(() => { document.querySelector('tbody .c-box input').click(); \
                document.activeElement.blur(); })()";
    page.until(&rows(1)).await;
    page.eval(tick).await;
    page.sees(".desk", "1 order selected").await;
    site.sold("key-2").await;
    page.until("!document.querySelector('.pill').hidden").await;
    assert_eq!(page.eval(&rows(1)).await, true);
    page.eval(tick).await;
    site.sold("key-3").await;
    page.until(&rows(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialog_says_what_changed_under_it_and_gives_the_focus_back() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let page = site.browser(&format!("#/orders/{order}")).await;
    page.button("Refund…").await;
    page.sees("dialog .sum", "of £20.00 that can be refunded").await;
    let refund = json!({"amount": {"amount": 500, "currency": "GBP"}, "reason": "by a colleague"});
    let path = format!("/orders/{order}/refunds");
    site.admin(Method::POST, &path, Some(refund)).await.expect(200);
    page.sees("dialog .news", "Changed while this dialog was open").await;
    page.sees("dialog .news li", "Refunded: £0.00 → £5.00").await;
    page.sees("dialog .sum", "of £15.00 that can be refunded").await;
    // What is sent applies to the last change.
    page.sees(".timeline .event-title", "Money refunded").await;
    let read = site.admin(Method::GET, &format!("/orders/{order}"), None).await.expect(200);
    let seen = format!("document.querySelector('.news').dataset.version === '{}'", read["version"]);
    page.until(&seen).await;
    page.fill("amount", "1.00").await;
    page.fill("reason", "a scratch").await;
    page.press_control("Enter").await;
    page.until("!document.querySelector('dialog')").await;
    page.sees(".sums", "£6.00").await;
    // The button that opened it was drawn anew in the meantime.
    page.until("document.activeElement.textContent === 'Refund…'").await;

    page.button("Cancel…").await;
    page.sees("dialog[open] h2", "Cancel order").await;
    page.press("Escape").await;
    page.until("document.activeElement.textContent === 'Cancel…'").await;

    // What has become impossible cannot be sent, and then not be asked for any more.
    page.button("Cancel…").await;
    let path = format!("/orders/{order}/fulfillments");
    site.admin(Method::POST, &path, Some(json!({}))).await.expect(200);
    page.sees("dialog .form-error", "Goods were shipped: refund what is returned").await;
    page.until("document.querySelector('dialog .danger').ariaDisabled === 'true'").await;
    assert!(page.barriers().await.is_empty());
    page.press("Escape").await;
    page.sees(".why-not", "Cancel: Goods were shipped").await;
    page.until("document.querySelector('.order-sum .danger').ariaDisabled === 'true'").await;
    let ship = "[...document.querySelectorAll('.order-sum button')]\
                   .some((one) => one.textContent === 'Ship…')";
    assert_eq!(page.eval(ship).await, false, "nothing is left to ship");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_comes_back_as_it_was_left() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    for number in 0..12 {
        site.sold(&format!("key-{number}")).await;
    }
    let page = site.browser("#/orders?status=confirmed").await;
    page.size(1280, 420).await;
    page.until("document.querySelectorAll('tr[data-row]').length === 12").await;
    let back = "location.hash === '#/orders?status=confirmed' && scrollY === 150 \
                && document.activeElement.textContent === '#5'";
    let open = "(() => { scrollTo(0, 150); const row = [...document.querySelectorAll('.row-link')]\
                .find((one) => one.textContent === '#5'); row.focus({preventScroll: true}); \
                row.click(); })()";
    page.eval(open).await;
    page.sees(".order-title h2", "Order #5").await;
    page.until("scrollY === 0").await;
    page.press("Escape").await;
    page.until(back).await;
    page.eval(open).await;
    page.sees(".order-title h2", "Order #5").await;
    page.eval("history.back()").await;
    page.until(back).await;
    page.eval(open).await;
    page.sees(".order-title h2", "Order #5").await;
    page.click("nav a[data-name=orders]").await;
    page.until(back).await;
    // An order that was changed meanwhile is shown as it is now, where it was.
    page.eval(open).await;
    page.button("Ship…").await;
    page.button("Ship").await;
    page.sees(".order-sum .badge.ok", "shipped").await;
    page.click("a.back").await;
    page.until(back).await;
    page.sees("tr.gone .c-order", "#5").await;
    page.eval("location.hash = '#/orders?q=%235'").await;
    page.until("document.querySelectorAll('tr[data-row]').length === 1 && scrollY === 0").await;
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switched_off_checkout_is_told_on_every_page() {
    let site = Site::open().await;
    let switch = async |on: bool, reason: &str| {
        let body = json!({"value": on, "reason": reason});
        site.admin(Method::PUT, "/settings/checkout", Some(body)).await.expect(200);
    };
    switch(false, "the warehouse burns").await;
    let page = site.browser("#/").await;
    page.sees("#notice", "Checkout is switched off").await;
    page.sees("#notice", " by test:").await;
    page.sees("#notice q", "the warehouse burns").await;
    page.eval("location.hash = '#/stock'").await;
    page.sees("#notice", "buyers cannot place orders").await;
    assert!(page.barriers().await.is_empty());
    // The banner names who did it.
    page.click("#notice a").await;
    page.click("#checkout-change").await;
    page.fill("reason", "it is out").await;
    page.press_control("Enter").await;
    page.until("document.querySelector('#notice').hidden").await;
    page.click("#checkout-change").await;
    page.fill("reason", "again").await;
    page.press_control("Enter").await;
    page.sees("#notice", "by Ada").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_priced_before_it_is_sent_and_errors_stand_at_their_fields() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let page = site.browser(&format!("#/orders/{order}")).await;
    page.button("Refund…").await;
    page.sees("dialog .unit-row", "£10.00 each").await;
    page.until("document.activeElement.matches('.unit-row input')").await;
    page.eval("document.activeElement.select()").await;
    page.write("5").await;
    page.fill("reason", "a scratch").await;
    page.press_control("Enter").await;
    page.sees("dialog .unit-row .field-error", "only 2 units left").await;
    page.until("document.activeElement.matches('.unit-row input[aria-invalid=true]')").await;
    page.eval("document.activeElement.select()").await;
    page.write("1").await;
    page.sees("dialog .sum", "£10.00").await;
    page.fill("amount", "30").await;
    page.sees("dialog .sum", "At most £20.00 can be refunded in all").await;
    page.press_control("Enter").await;
    page.sees("dialog .field-error", "can be at most £20.00").await;
    assert!(page.barriers().await.is_empty());
    page.fill("amount", "1.50").await;
    page.sees("dialog .sum", "£11.50").await;
    page.press_control("Enter").await;
    page.until("!document.querySelector('dialog')").await;
    page.sees(".sums", "£11.50").await;

    // A tracking number needs no carrier, and its address is a link.
    page.sees(".timeline .event-title", "Goods of the refund settled").await;
    page.button("Ship…").await;
    page.fill("number", "RM-1").await;
    page.fill("url", "https://carrier.example/RM-1").await;
    page.press_control("Enter").await;
    page.sees("a.link[href='https://carrier.example/RM-1']", "RM-1").await;
    let read = site.admin(Method::GET, &format!("/orders/{order}"), None).await.expect(200);
    let tracking = &read["fulfillments"][0]["tracking"];
    assert_eq!((&tracking["carrier"], &tracking["number"]), (&json!(null), &json!("RM-1")));
    let path = format!("/orders/{order}/fulfillments");
    let answer = site.admin(Method::POST, &path, Some(json!({"tracking": {}}))).await.expect(422);
    assert_eq!(answer["errors"][0]["field"], "tracking");
    page.eval("location.hash = '#/settings'").await;
    page.click("#rates-browse-change").await;
    page.fill("value", "-5").await;
    page.fill("reason", "a robot").await;
    page.press_control("Enter").await;
    page.sees("dialog .field-error", "a whole number from 0 to").await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_is_found_by_name_counted_and_transferred() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    site.sell("MUG", 500, 3).await;
    let page = site.browser("#/stock").await;
    page.sees("tr[data-row] .c-name", "Product LAMP").await;
    page.press("/").await;
    page.write("duct lam").await;
    page.until("document.querySelectorAll('tr[data-row]').length === 1").await;
    page.press("Enter").await;
    page.press("Enter").await;
    page.sees(".order-title h2", "Product LAMP").await;
    page.button("Count").await;
    page.fill("quantity", "7").await;
    page.sees("dialog .sum", "−3").await;
    // Somebody else corrects it meanwhile: the difference is another one.
    let body = json!({"quantity": -1, "reason": "one is broken"});
    let path = "/stock/LAMP/main/adjustments";
    site.admin(Method::POST, path, Some(body)).await.expect(200);
    page.sees("dialog .news li", "main: on hand 10 → 9").await;
    page.sees("dialog .sum", "−2").await;
    // What was counted before is not what is there now: it is sent only once it was looked at again.
    page.press_control("Enter").await;
    page.sees("dialog", "check the count, and submit again").await;
    assert_eq!(site.level("LAMP").await["levels"][0]["on_hand"], 9);
    page.press_control("Enter").await;
    page.sees("#said.shown", "corrected by −2").await;
    page.sees(".levels .c-on_hand", "7").await;
    page.until("document.activeElement.textContent === 'Count'").await;
    page.button("Count").await;
    page.fill("quantity", "7").await;
    page.press_control("Enter").await;
    page.sees("#said.shown", "The count agrees").await;
    page.button("Adjust").await;
    page.fill("quantity", "0").await;
    page.fill("reason", "nothing").await;
    page.press_control("Enter").await;
    page.sees("dialog .field-error", "must be a whole number of units").await;
    page.press("Escape").await;
    page.until("document.querySelector('.levels [aria-label^=Transfer]').ariaDisabled === 'true'")
        .await;
    let back = json!({"name": "The back room", "for_sale": false});
    site.admin(Method::PUT, "/locations/back", Some(back)).await.expect(201);
    page.until("!document.querySelector('.levels [aria-label^=Transfer]').ariaDisabled").await;
    page.button("Transfer").await;
    page.until("document.querySelector('dialog[open] [name=to]') !== null").await;
    // Locations are called by their names.
    let option = "document.querySelector('dialog [name=to] option').textContent";
    assert_eq!(page.eval(option).await, "The back room (back)");
    page.fill("quantity", "8").await;
    page.press_control("Enter").await;
    page.sees("dialog .field-error", "only 7 units can be moved").await;
    page.sees("dialog .sum", "Only 7 units can be moved").await;
    page.fill("quantity", "2").await;
    page.sees("dialog .sum", "main: 5").await;
    assert!(page.barriers().await.is_empty());
    page.press_control("Enter").await;
    page.sees(".levels tr", "The back room").await;
    let read = site.admin(Method::GET, "/stock/LAMP", None).await.expect(200);
    let levels = read["levels"].as_array().unwrap().iter();
    let on_hand: Vec<_> = levels.map(|one| one["on_hand"].as_i64().unwrap()).collect();
    assert_eq!(on_hand, [2, 5]);
    // The list that was left still shows what was searched for.
    page.press("Escape").await;
    page.until("location.hash === '#/stock?q=duct+lam'").await;
    let mut troubles = page.troubles("/v1/session");
    troubles.retain(|one| !one.contains("409 (Conflict)"));
    assert_eq!(troubles, [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_orders_are_sorted_summed_shipped_packed_and_exported() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    for (key, units) in [("key-1", 2), ("key-2", 3), ("key-3", 1)] {
        let cart = site.cart(&[("LAMP", units)]).await;
        site.checkout(&cart, key, "tok_ok", 30).await.expect(201);
        site.until(&cart, |order| order["payment_status"] == "captured").await;
    }
    let page = site.browser("#/orders").await;
    let rows = |order: &str| {
        format!(
            "[...document.querySelectorAll('.row-link')].map((one) => one.textContent).join() === '{order}'"
        )
    };
    page.until(&rows("#3,#2,#1")).await;
    page.sees(".desk", "All 3 orders: £60.00 ordered, £60.00 captured").await;
    page.click("th.c-total button").await;
    page.until(&rows("#2,#1,#3")).await;
    page.click("th.c-total button").await;
    page.until(&rows("#3,#1,#2")).await;
    page.until("document.querySelector('th.c-total').ariaSort === 'ascending'").await;
    page.until("location.hash === '#/orders?sort=total'").await;
    let day = |days: i64| {
        format!(
            "(() => {{ const day = new Date(Date.now() + {days} * 86_400_000); const field = \
             document.querySelector('.dates input'); field.value = day.toISOString().slice(0, 10); \
             field.dispatchEvent(new Event('change')); }})()"
        )
    };
    page.eval(&day(2)).await;
    page.sees(".list-state", "No order matches the filter").await;
    page.eval(&day(-2)).await;
    page.until(&rows("#3,#1,#2")).await;
    page.sees(".desk", "All 3 orders that match: £60.00 ordered").await;
    page.button("Clear").await;
    page.until("location.hash === '#/orders?sort=total'").await;

    // A file of all that match, and one of what is selected, which no spreadsheet takes for formulas.
    page.eval(
        "const click = HTMLAnchorElement.prototype.click; HTMLAnchorElement.prototype.click = \
         function () { this.download ? (window.saved = this.download) : click.call(this); }; \
         URL.createObjectURL = (blob) => { blob.text().then((text) => (window.csv = text)); return ''; }",
    )
    .await;
    page.button("Export all as CSV…").await;
    page.sees("#said.shown", "3 orders exported").await;
    page.until("window.csv?.split('\\r\\n').length === 5 && saved.endsWith('.csv')").await;
    page.until("csv.split('\\r\\n')[1].includes(',GBP,10.00,10.00,0.00,')").await;
    let guarded = "import('/admin/orders-export.js').then((desk) => desk.csvOf([{currency: 'GBP', \
                   email: '=1+1', reference: 'a \"b\", c'}]).split('\\r\\n')[1])";
    assert_eq!(page.eval(guarded).await, r#",,,,,'=1+1,,,"a ""b"", c",,GBP,,,,,"#);

    // The two that are selected are shipped, and the third has a packing list.
    page.eval(
        "document.querySelectorAll('tbody .c-box input').forEach((box, at) => at && box.click())",
    )
    .await;
    page.sees(".desk", "2 orders selected: £50.00 ordered").await;
    assert!(page.barriers().await.is_empty());
    page.button("Ship…").await;
    page.sees("dialog[open] h2", "Ship 2 orders").await;
    page.fill("carrier", "Royal Mail").await;
    page.press_control("Enter").await;
    page.sees("#said.shown", "2 orders shipped").await;
    page.until("document.querySelectorAll('.c-goods .badge.ok').length === 2").await;
    page.sees(".desk", "All 3 orders").await;
    page.click("tbody .c-box input").await;
    page.button("Packing lists").await;
    page.sees(".sheet h3", "Order #3").await;
    page.sees(".sheet tbody", "LAMP").await;
    // As the Royal Mail reads it.
    let address = "[...document.querySelectorAll('.sheet address span')].slice(-3)\
                   .map((one) => one.textContent).join() === 'London,N1 1AA,United Kingdom'";
    page.until(address).await;
    page.print_media().await;
    page.until("!document.querySelector('.side').checkVisibility()").await;
    page.until("!document.querySelector('.toolbar').checkVisibility()").await;
    page.until("document.querySelector('.sheet').checkVisibility()").await;
    page.theme("light").await;
    page.press("Escape").await;
    page.until("location.hash === '#/orders?sort=total'").await;
    page.eval("location.hash = '#/'").await;
    page.sees(".figure.revenue", "£60.00").await;
    page.sees(".figure.revenue", "3 orders confirmed").await;
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_are_those_of_the_trade() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let open = site.cart(&[("LAMP", 1)]).await;
    site.checkout(&open, "key-1", "tok_declined", 30).await.expect(402);
    let paid = site.sold("key-2").await.replace("cart_", "ord_");
    let refund = json!({"amount": {"amount": 500, "currency": "GBP"}, "reason": "a scratch"});
    let path = format!("/orders/{paid}/refunds");
    site.admin(Method::POST, &path, Some(refund)).await.expect(200);
    let page = site.browser(&format!("#/orders/{}", open.replace("cart_", "ord_"))).await;
    page.sees(".facts dt", "Payment deadline").await;
    // Before the first answer there is no figure.
    let figures = "import('/admin/flow.js').then(({flow}) => flow().stage.textContent)";
    let figures = page.eval(figures).await;
    assert!(!figures.as_str().unwrap().contains('0'), "{figures}");
    page.eval(&format!("location.hash = '#/orders/{paid}'")).await;
    page.sees(".sums .strong", "Total after refunds").await;
    page.eval("location.hash = '#/stock/LAMP'").await;
    page.sees(".panel-head", "with the time that is left to pay").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_answered_is_read_as_soon_as_there_is_a_connection() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let page = site.browser("#/").await;
    for canvas in [".flow-canvas", ".chart-canvas"] {
        page.until(&format!(
            "(({{role, ariaLabel}}) => role === 'img' && ariaLabel.length > 10)\
             (document.querySelector('{canvas}'))"
        ))
        .await;
    }
    page.offline(true).await;
    page.sees("#banner", "This browser is offline").await;
    page.eval(&format!("location.hash = '#/orders/{order}'")).await;
    page.sees(".empty.bad", "This browser is offline").await;
    page.offline(false).await;
    page.sees(".order-title h2", "Order #1").await;
    page.until("document.querySelector('#banner').hidden").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_shows_what_a_search_found_in_it() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let carts = [site.sold("key-1").await, site.sold("key-2").await];
    let ship = async |cart: &str, number: &str| {
        let path = format!("/orders/{}/fulfillments", cart.replace("cart_", "ord_"));
        let body = json!({"tracking": {"number": number}});
        site.admin(Method::POST, &path, Some(body)).await.expect(200);
    };
    ship(&carts[0], "RM-0042").await;
    let page = site.browser("#/orders").await;
    let rows = |order: &str| {
        format!(
            "[...document.querySelectorAll('.row-link')].map((one) => one.textContent).join() === '{order}'"
        )
    };
    page.until(&rows("#2,#1")).await;
    page.press("/").await;
    page.write("duct ADA@").await;
    page.sees(".found", "Email ada@example.com").await;
    page.sees(".found", "Product Product LAMP").await;
    let marks = "[...document.querySelectorAll('tr[data-row]:first-child mark')]";
    page.until(&format!("{marks}.map((one) => one.textContent).join() === 'ada@,duct'")).await;
    assert!(page.barriers().await.is_empty());
    page.eval("document.activeElement.select()").await;
    page.write("rm-00").await;
    page.until(&rows("#1")).await;
    page.sees(".found", "Tracking number RM-0042").await;
    // An order that gets what is searched for while the list is shown.
    ship(&carts[1], "RM-0077").await;
    page.until(&rows("#2,#1")).await;
    page.sees(".found", "RM-0077").await;
    page.eval("document.activeElement.select()").await;
    page.write("rm-01").await;
    page.sees(".list-state", "any part of a name, company, email address").await;
    page.button("Clear").await;
    page.until(&rows("#2,#1")).await;
    page.until("document.querySelectorAll('.found:not([hidden])').length === 0").await;
    page.click("th.c-time button").await;
    page.until("location.hash === '#/orders?sort=placed'").await;
    page.until(&rows("#1,#2")).await;
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
    site.verify().await;
}
