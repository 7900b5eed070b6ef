//! What goes wrong at the desk and is put right: wrong numbers, lost answers, wrong tracking numbers,
//! addresses changed by hand; and what is kept of it, with people's names, on the screen and on paper.

use kontor::domain::order::CapturePolicy;
use reqwest::Method;
use serde_json::json;

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_number_is_told_at_its_field_and_counts_in_no_sum() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let page = site.browser(&format!("#/orders/{order}")).await;
    page.button("Refund…").await;
    page.fill("amount", "100").await;
    page.sees("dialog .sum", "At most £20.00 can be refunded in all").await;
    page.fill("amount", "5").await;
    page.sees("dialog .sum", "£5.00").await;
    page.fill("amount", "five").await;
    page.sees("dialog .sum", "once every field is right").await;
    page.fill("reason", "a scratch").await;
    page.sees("dialog .field-error", "must be an amount of GBP, such as 12.50").await;
    // The delivery cost nothing: of it, nothing can be refunded, and 0 asks for nothing.
    page.fill("amount", "1.50").await;
    page.fill("delivery", "5").await;
    page.sees("dialog .sum", "At most £0.00 of the delivery can be refunded").await;
    page.press_control("Enter").await;
    page.sees("dialog .field-error", "Delivery, GBP: nothing is left of it").await;
    page.fill("delivery", "0").await;
    page.press_control("Enter").await;
    page.until("!document.querySelector('dialog')").await;
    page.sees(".sums", "£1.50").await;

    // Units that are shipped meanwhile are missed at their line, before anything is sent.
    page.sees(".timeline .event-title", "Money refunded").await;
    page.button("Ship…").await;
    page.sees("dialog .unit-row", "of 2").await;
    let one = json!({"lines": [{"line": "1", "quantity": 1}]});
    let path = format!("/orders/{order}/fulfillments");
    site.admin(Method::POST, &path, Some(one)).await.expect(200);
    page.sees("dialog .unit-row", "of 1").await;
    page.sees("dialog .unit-row .field-error", "only 1 unit left").await;
    page.press("Escape").await;
    page.eval("location.hash = '#/stock/LAMP'").await;
    page.button("Count").await;
    page.fill("quantity", "9999999999999").await;
    page.press_control("Enter").await;
    let words = "Counted units: must be a whole number from 0 to 1,000,000,000";
    page.sees("dialog .field-error", words).await;
    page.press("Escape").await;
    page.button("Adjust").await;
    page.sees("dialog .sum", "On hand after this98").await;
    page.fill("quantity", "−500").await;
    page.sees("dialog .sum", "At most 97 units can be removed").await;
    page.fill("quantity", "-5").await;
    page.sees("dialog .sum", "On hand after this93").await;
    page.fill("quantity", "−500").await;
    page.fill("reason", "a fire").await;
    page.press_control("Enter").await;
    let words = "Units to add, or negative to remove: at most 97 units can be removed";
    page.sees("dialog .field-error", words).await;
    page.sees(".levels .c-on_hand", "98").await;
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_under_its_key_and_another_body_under_another() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    site.sold("key-1").await;
    let page = site.browser("#/orders").await;
    page.click("tbody .c-box input").await;
    // The first two answers are lost.
    page.eval(
        "window.sent = []; const real = window.fetch; window.fetch = async (path, options) => {\
           const answer = await real(path, options);\
           if (!String(path).endsWith('/fulfillments')) return answer;\
           sent.push([options.headers['Idempotency-Key'], options.body]);\
           if (sent.length < 3) throw new TypeError('lost'); return answer; }; 0",
    )
    .await;
    page.button("Ship…").await;
    page.fill("carrier", "DHL").await;
    page.press_control("Enter").await;
    page.sees("dialog .form-error", "1 order was not shipped").await;
    page.press_control("Enter").await;
    page.until("sent.length === 2 && !document.querySelector('dialog [aria-busy]')").await;
    page.sees("dialog .bulk", "The server did not respond").await;
    page.until("!document.querySelector('dialog button.primary').disabled").await;
    page.fill("carrier", "UPS").await;
    page.press_control("Enter").await;
    // It was shipped the first time: the new request finds nothing left.
    page.sees("dialog .bulk", "othing is left to").await;
    let sent = page.eval("sent").await;
    assert_eq!(sent[0], sent[1]);
    assert_ne!((&sent[0][0], &sent[0][1]), (&sent[2][0], &sent[2][1]));
    assert_ne!(sent[0][0], sent[2][0]);
    let guarded = "import('/admin/orders-export.js').then((desk) => desk.csvOf([{currency: 'GBP', \
                   email: ' =1+1', reference: 'PO\\n@1'}]).split('\\r\\n')[1])";
    assert_eq!(page.eval(guarded).await, ",,,,,' =1+1,,,\"PO\n'@1\",,GBP,,,,,");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tracking_is_put_right_and_leads_to_the_carrier() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let page = site.browser(&format!("#/orders/{order}")).await;
    page.button("Ship…").await;
    page.fill("carrier", "d h l").await;
    page.fill("number", "JD-1").await;
    page.press_control("Enter").await;
    page.sees("a.link[href$='tracking-id=JD-1']", "d h l JD-1").await;
    page.sees(".timeline .event-title", "Shipment recorded in stock").await;
    // What the event changed is told in people's words.
    page.sees(".timeline .diff dt", "shipment 1, tracking").await;
    page.sees(".timeline .diff dd", "2 × Product LAMP").await;
    page.sees(".timeline .diff dt", "Product LAMP, shipped").await;
    page.button("Correct tracking…").await;
    page.until("document.querySelector('dialog [name=number]').value === 'JD-1'").await;
    page.fill("number", "JD-2").await;
    page.fill("url", "ftp://carrier.example").await;
    page.press_control("Enter").await;
    page.sees("dialog .field-error", "Tracking address: must begin with https://").await;
    page.fill("url", "https://carrier.example/JD-2").await;
    page.press_control("Enter").await;
    page.sees("#said.shown", "The tracking was corrected").await;
    page.sees("a.link[href='https://carrier.example/JD-2']", "d h l JD-2").await;
    page.sees(".timeline .event-title", "Tracking corrected").await;
    page.sees(".timeline .event:first-child .who", "Ada").await;
    // An earlier state has the old one, and cannot be corrected.
    page.press("ArrowLeft").await;
    page.sees("a.link[href$='tracking-id=JD-1']", "JD-1").await;
    page.until("!document.querySelector('.order-main button.quiet')").await;
    assert_eq!(page.troubles("/v1/"), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_stock_says_who_did_what_and_why() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let page = site.browser("#/stock/LAMP").await;
    page.sees(".stock-history li", "Allocated").await;
    page.sees(".stock-history .moved", "main: reserved +2").await;
    page.sees(".stock-history .moved", "main: reserved −2, allocated +2").await;
    page.until(&format!("document.querySelector('.stock-history a').title === '{order}'")).await;
    // An order is called by its number as soon as it has one.
    page.sees(".stock-history a", "#1").await;
    page.sees(".rows.tall a", "#1").await;
    page.button("Adjust").await;
    page.fill("quantity", "-3").await;
    page.fill("reason", "broken in transit").await;
    page.press_control("Enter").await;
    page.sees(".stock-history li:first-child", "Adjusted").await;
    page.sees(".stock-history li:first-child q", "broken in transit").await;
    page.sees(".stock-history li:first-child .moved", "main: on hand −3").await;
    page.sees(".stock-history li:first-child .who", "Ada").await;
    // What kontor did, it did for an order, which stands beside the cause.
    page.sees(".stock-history li:has(a) .who", "checkout").await;
    page.sees(".stock-history li:has(a) .who", "paid order").await;
    let code_names = "[...document.querySelectorAll('.stock-history *')]\
                      .some((one) => /saga/.test(one.title + one.textContent))";
    assert_eq!(page.eval(code_names).await, false);
    // Counts, receipts and transfers may have a reason as well; fewer units than orders have cannot be
    // counted, and what can be done is said.
    page.button("Count").await;
    page.fill("quantity", "1").await;
    page.press_control("Enter").await;
    let rule = "must be at least 2 units, of which 0 are reserved and 2 allocated; to count fewer, \
                cancel orders, or refund their missing units without putting them back on sale";
    page.sees("dialog .field-error", rule).await;
    page.fill("quantity", "6").await;
    page.fill("reason", "the yearly count").await;
    page.press_control("Enter").await;
    page.sees(".stock-history li:first-child", "Counted").await;
    page.sees(".stock-history li:first-child q", "the yearly count").await;
    page.button("Receive").await;
    page.fill("quantity", "1").await;
    page.fill("reason", "the last pallet").await;
    page.press_control("Enter").await;
    page.sees(".stock-history li:first-child q", "the last pallet").await;
    page.button("Changed by hand").await;
    page.until("document.querySelectorAll('.stock-history li').length === 4").await;
    page.sees(".stock-history li:last-child .what", "Counted").await;
    page.until("!document.querySelector('.stock-history li:last-child q')").await;
    page.sees(".stock-history li:last-child .who", "test").await;
    // The name of who did it also stands on a phone.
    page.size(390, 844).await;
    page.sees(".stock-history li:first-child .who", "Ada").await;
    assert_eq!(page.all_barriers().await, [json!(null); 0]);
    assert_eq!(page.troubles("/v1/"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn locations_are_made_described_closed_and_deleted() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 10).await;
    let page = site.browser("#/stock").await;
    page.button("Locations").await;
    page.sees(".locations-table .c-id", "main").await;
    page.button("New location…").await;
    page.fill("id", "The Back Room").await;
    page.fill("name", "Back room").await;
    page.fill("city", "London").await;
    page.press_control("Enter").await;
    page.sees("dialog .field-error", "ID: must be 1 to 32 small letters").await;
    page.fill("id", "main").await;
    page.press_control("Enter").await;
    page.sees("dialog .field-error", "is a location already").await;
    page.fill("id", "back").await;
    page.press_control("Enter").await;
    page.sees("dialog .field-error", "Street and number: is required").await;
    page.fill("line1", "1 High Street").await;
    page.fill("country", "gb").await;
    page.fill("postal_code", "nowhere").await;
    page.press_control("Enter").await;
    page.sees("dialog .field-error", "Postal code:").await;
    page.fill("postal_code", "N1 1AA").await;
    assert_eq!(page.all_barriers().await, [json!(null); 0]);
    page.press_control("Enter").await;
    page.sees(
        ".locations-table .c-address",
        "Back room, 1 High Street, London, N1 1AA, United Kingdom",
    )
    .await;
    let made = site.admin(Method::GET, "/locations/back", None).await.expect(200);
    assert_eq!((&made["for_sale"], &made["address"]["country"]), (&json!(true), &json!("GB")));

    page.click("[aria-label='Close for sale: Back room']").await;
    page.press_control("Enter").await;
    page.sees(".locations-table .c-sale", "not for sale").await;
    page.click("[aria-label='Edit: Back room']").await;
    let other = json!({"name": "Cellar"});
    site.admin(Method::PATCH, "/locations/back", Some(other)).await.expect(200);
    page.sees("dialog .news li", "Name: Back room → Cellar").await;
    // All that is wrong is told at once, each at its field.
    page.fill("name", &"x".repeat(101)).await;
    page.fill("line1", &"x".repeat(300)).await;
    page.fill("country", "Narnia").await;
    page.press_control("Enter").await;
    for field in ["Name: must have", "Street and number: must have", "Country: must be"] {
        page.sees("dialog .field-error", field).await;
    }
    page.until("document.querySelector('dialog .form-error').hidden").await;
    page.fill("name", "Loft").await;
    page.fill("line1", "1 High Street").await;
    page.fill("country", "united kingdom").await;
    page.press_control("Enter").await;
    page.sees(".locations-table .c-name", "Loft").await;
    page.sees(".locations-table .why-not", "Delete: it has units, or units on their way").await;
    page.click("[aria-label='Delete: main']").await;
    page.until("!document.querySelector('dialog')").await;
    page.click("[aria-label='Delete: Loft']").await;
    page.press_control("Enter").await;
    page.sees("#said.shown", "Loft was deleted").await;
    page.until("document.querySelectorAll('.locations-table tbody tr').length === 1").await;
    site.admin(Method::GET, "/locations/back", None).await.expect(404);
    assert_eq!(page.troubles("/v1/"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_follows_its_address_and_refuses_days_of_no_sense() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    site.sold("key-1").await;
    let page = site.browser("#/orders").await;
    page.sees(".row-link", "#1").await;
    page.press("/").await;
    page.write("nobody@").await;
    page.sees(".list-state", "Nothing found").await;
    let searched = |text: &str| {
        format!(
            "document.activeElement === document.querySelector('#orders-search') && \
                 document.activeElement.value === '{text}'"
        )
    };
    page.eval("location.hash = '#/orders?q=%231'").await;
    page.until(&searched("#1")).await;
    page.sees(".row-link", "#1").await;
    page.eval("history.back()").await;
    page.until(&searched("nobody@")).await;
    page.sees(".list-state", "Nothing found").await;
    page.button("Clear").await;
    let day = |field: u8, day: &str| {
        format!(
            "(() => {{ const one = document.querySelectorAll('.dates input')[{field}]; \
                 one.value = '{day}'; one.dispatchEvent(new Event('change')); }})()"
        )
    };
    page.eval(&day(0, "9999-12-31")).await;
    page.sees(".days", "Placed from: must be a day from 1970-01-01 to 2999-12-31.").await;
    page.until("document.querySelector('.dates input').ariaInvalid === 'true'").await;
    page.eval(&day(0, "2099-02-02")).await;
    page.until("location.hash === '#/orders?from=2099-02-02'").await;
    page.sees(".list-state", "No order matches the filter").await;
    // What cannot be filters nothing, also after something else is typed, and by its address.
    page.eval(&day(1, "2020-01-01")).await;
    let reversed = "Placed until: must not be before the first day. Orders of all days are shown.";
    page.sees(".days", reversed).await;
    page.sees(".row-link", "#1").await;
    page.sees(".desk", "1 order: £20.00 ordered").await;
    page.eval("document.querySelector('#orders-search').focus()").await;
    page.write("#1").await;
    page.until("location.hash === '#/orders?q=%231&from=2099-02-02&to=2020-01-01'").await;
    page.sees(".days", reversed).await;
    page.eval("location.reload()").await;
    page.sees(".days", reversed).await;
    page.sees(".row-link", "#1").await;
    assert_eq!(page.all_barriers().await, [json!(null); 0]);
    page.button("Clear").await;
    page.until("location.hash === '#/orders' && document.querySelector('.days').hidden").await;
    // A day that was only begun is no day.
    page.eval("document.querySelector('.dates input').focus()").await;
    page.press("1").await;
    page.press("2").await;
    page.eval("document.activeElement.blur()").await;
    page.sees(".days", "Placed from: is not complete. Orders of all days are shown.").await;
    page.button("Clear").await;
    page.until("document.querySelector('.days').hidden").await;
    assert_eq!(page.eval("document.querySelector('.dates input').validity.badInput").await, false);
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_paper_times_are_exact_and_nothing_is_cut() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let page = site.browser("#/orders").await;
    page.size(794, 1123).await;
    page.print_media().await;
    let year = "new Date().getFullYear()";
    let places = [
        ("#/orders".to_owned(), ".row-link"),
        (format!("#/orders/{order}"), ".timeline .diff dl"),
        ("#/stock".to_owned(), ".row-link"),
        ("#/stock/LAMP".to_owned(), ".stock-history li"),
        ("#/".to_owned(), ".latest time[data-paper]"),
    ];
    for (place, shown) in places {
        page.eval(&format!("location.hash = {}", json!(place))).await;
        page.until(&format!("document.querySelector('{shown}')?.checkVisibility() === true")).await;
        let exact = format!(
            "[...document.querySelectorAll('time')].filter((one) => one.checkVisibility()).every((one) => \
             getComputedStyle(one).fontSize === '0px' && \
             getComputedStyle(one, '::after').content.includes({year}))"
        );
        page.until(&exact).await;
        let cut = "[...document.querySelectorAll('#page :is(td, th, dd, .clip, li > span)')]\
                   .filter((one) => one.checkVisibility() && !one.closest('.unseen'))\
                   .filter((one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth)\
                   .map((one) => one.outerHTML)";
        assert_eq!(page.eval(cut).await, json!([]), "{place}");
        let over = "document.documentElement.scrollWidth > innerWidth";
        assert_eq!(page.eval(over).await, false, "{place}");
        let buttons = "[...document.querySelectorAll('#page :is(.button, .quiet, .chip)')]\
                       .some((one) => one.checkVisibility())";
        assert_eq!(page.eval(buttons).await, false, "{place}");
    }
    // Paper is white, also where the mouse rests on the screen, and with the dark theme.
    page.eval("location.hash = '#/orders'").await;
    page.hover("tr[data-row]").await;
    let row = "getComputedStyle(document.querySelector('tr[data-row]:hover')).backgroundColor";
    assert_eq!(page.eval(row).await, "rgb(255, 255, 255)");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_page_is_renewed_in_place() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let page = site.browser("#/system").await;
    page.sees(".node dt", "Journal position").await;
    page.eval("window.kept = document.querySelector('.node .num'); window.was = kept.textContent")
        .await;
    site.sold("key-1").await;
    page.until("document.querySelector('.node .num').textContent !== was").await;
    assert_eq!(page.eval("kept.isConnected").await, true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_of_a_part_shipped_order_says_which_units_come_back() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let path = format!("/orders/{order}");
    let one = json!({"lines": [{"line": "1", "quantity": 1}]});
    site.admin(Method::POST, &format!("{path}/fulfillments"), Some(one)).await.expect(200);
    let page = site.browser(&format!("#{path}")).await;
    page.button("Refund…").await;
    page.until("document.activeElement.matches('.unit-row input')").await;
    page.eval("document.activeElement.select()").await;
    page.write("1").await;
    page.sees("dialog", "otherwise units that were not shipped are written off").await;
    let choose = "const one = document.querySelector('dialog [name=from]'); one.value = 'fulfilled'; \
                  one.dispatchEvent(new Event('input', {bubbles: true})); \
                  one.dispatchEvent(new Event('change', {bubbles: true}))";
    page.eval(choose).await;
    page.fill("reason", "broken in the post").await;
    page.press_control("Enter").await;
    page.until("!document.querySelector('dialog')").await;
    page.sees(".sums", "£10.00").await;
    let order = site.admin(Method::GET, &path, None).await.expect(200);
    let line = &order["lines"][0];
    assert_eq!((&line["open"], &line["refunded"]), (&json!(1), &json!(1)), "{line:#}");
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_before_the_capture_says_what_will_not_be_captured() {
    let site = Site::with(|config| config.shop.capture = CapturePolicy::ByHand).await;
    site.sell("LAMP", 1_000, 99).await;
    let cart = site.cart(&[("LAMP", 2)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let order = cart.replace("cart_", "ord_");
    let page = site.browser(&format!("#/orders/{order}")).await;
    page.button("Refund…").await;
    page.until("document.activeElement.matches('.unit-row input')").await;
    page.eval("document.activeElement.select()").await;
    page.write("1").await;
    page.sees("dialog .sum", "£0.00").await;
    page.sees("dialog .sum", "£10.00 will not be captured").await;
    page.fill("reason", "none left").await;
    page.press_control("Enter").await;
    page.until("!document.querySelector('dialog')").await;
    page.sees(".timeline .event-title", "Goods of the refund settled").await;
    page.button("Capture…").await;
    page.sees("dialog", "£20.00 are authorized and not captured yet; £10.00 of it is still").await;
    page.until("document.querySelector('dialog [name=amount]').value === '10.00'").await;
    page.press_control("Enter").await;
    page.sees(".sums", "£10.00").await;
    let path = format!("/orders/{order}");
    let order = site
        .until_some(async || {
            let order = site.admin(Method::GET, &path, None).await.expect(200);
            (order["payment_status"] == "captured").then_some(order)
        })
        .await;
    assert_eq!(
        (&order["due"]["amount"], &order["captured"]["amount"]),
        (&json!(1_000), &json!(1_000))
    );
    site.verify().await;
}
