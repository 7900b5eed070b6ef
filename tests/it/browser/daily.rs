//! What a shopkeeper does all day: finding the order of somebody on the telephone, reading how an order
//! came about, and seeing why something cannot be done.

use kontor::domain::order::{self, CancelCause, Effect};
use kontor::domain::stock;
use reqwest::Method;
use serde_json::json;
use strum::{VariantArray as _, VariantNames as _};

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_found_by_what_its_buyer_says_on_the_telephone() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    site.sold("key-1").await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    let address = json!({
        "name": "José Müller", "line1": "7 Mill Lane", "city": "York", "postal_code": "YO1 7HH",
        "country": "GB", "phone": "+442079460958",
    });
    let patch = json!({"shipping_address": address});
    site.store(Method::PATCH, &format!("/carts/{cart}"), Some(patch)).await.expect(200);
    site.checkout(&cart, "key-2", "tok_ok", 30).await.expect(201);
    let page = site.browser("#/orders").await;
    page.sees("tr[data-row]:first-child .c-buyer", "José Müller").await;
    for (said, found) in [
        ("020 7946 0958", "Phone +442079460958"),
        ("yo17hh", "Postal code YO1 7HH"),
        ("mill lane york", "Street 7 Mill Lane"),
        ("jose muller", "Name José Müller"),
    ] {
        // What was searched for before is replaced.
        page.eval("document.activeElement.blur()").await;
        page.press("/").await;
        page.write(said).await;
        page.until(&format!("document.querySelector('#orders-search').value === '{said}'")).await;
        page.sees(".found", found).await;
        page.until("document.querySelectorAll('tr[data-row]').length === 1").await;
    }
    let marks = "[...document.querySelectorAll('mark')].map((one) => one.textContent).join()";
    page.until(&format!("{marks} === 'José,Müller'")).await;
    page.sees(".desk", "1 order that matches: £10.00").await;
    // Where there is no room for the column, the name stands before the address.
    page.size(390, 844).await;
    page.until("!document.querySelector('.c-buyer').checkVisibility()").await;
    page.sees(".c-who .name", "José Müller").await;
    assert_eq!(page.all_barriers().await, [json!(null); 0]);
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_says_why_in_words_that_everybody_gets() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 9).await;
    let page = site.browser("#/").await;
    for (place, button, why) in [
        ("#/stock/LAMP", "[aria-label^=Transfer]", "Transfer: there is no other location."),
        ("#/locations", "[aria-label^=Delete]", "Delete: it has units, or units on their way"),
        ("#/cluster", "[id^=drain-]", "Drain: no other node can take its shards."),
        ("#/cluster", "[id^=move-]", "Move: there is one shard"),
    ] {
        page.eval(&format!("location.hash = '{place}'")).await;
        page.sees(".why-not", why).await;
        let described = format!(
            "(one => (one.focus(), document.activeElement === one) && one.ariaDisabled === 'true' \
             && document.getElementById(one.getAttribute('aria-describedby')).checkVisibility() \
             && document.getElementById(one.getAttribute('aria-describedby')).textContent\
             .startsWith('{why}'))(document.querySelector('{button}'))"
        );
        page.until(&described).await;
        page.press("Enter").await;
        page.click(button).await;
        assert_eq!(page.eval("document.querySelector('dialog')").await, json!(null), "{place}");
        assert_eq!(page.all_barriers().await, [json!(null); 0], "{place}");
    }
    page.eval("location.hash = '#/settings'").await;
    page.sees(".settings-rows .actions", "Never changed").await;
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_step_and_cause_is_called_in_words() {
    let site = Site::open().await;
    let page = site.browser("#/").await;
    let causes: Vec<&str> = CancelCause::VARIANTS.iter().map(Into::into).collect();
    for (module, words, names) in [
        ("story", "TITLES", order::Event::VARIANTS),
        ("story", "STEP_NAMES", Effect::VARIANTS),
        ("story", "CAUSES", &causes),
        ("item-history", "TITLES", stock::Event::VARIANTS),
    ] {
        let missing = format!(
            "import('/admin/{module}.js').then(({{ {words} }}) => \
             {}.filter((one) => !Object.hasOwn({words}, one)))",
            json!(names)
        );
        assert_eq!(page.eval(&missing).await, json!([]), "{words} of {module}.js");
    }
    // A cause is no quotation, and the command that was carried out is told by the event.
    let told = "import('/admin/story.js').then(({ reasonOf, sentence }) => ((event) => \
                [reasonOf(event), sentence(event)])({kind: 'cancel_requested', data: \
                {reason: 'out_of_stock', shortages: [{sku: 'LAMP', requested: 3, available: 1}]}}))";
    let words = "Too few units were in stock. LAMP: 3 ordered, 1 available.";
    assert_eq!(page.eval(told).await, json!([null, words]));
    site.sell("LAMP", 1_000, 9).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    page.eval(&format!("location.hash = '#/orders/{order}'")).await;
    page.sees(".event-who", "kontor").await;
    // No line names a command beside who gave it.
    page.sees(".event-title", "Money captured").await;
    let who = "[...document.querySelectorAll('.event-who')].every((one) => \
               one.textContent === one.querySelector('.who').textContent)";
    assert_eq!(page.eval(who).await, true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_begins_with_the_newest_event_unless_it_was_turned_round() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let page = site.browser(&format!("#/orders/{order}")).await;
    let first = ".timeline .event:first-child .event-title";
    page.sees(first, "Money captured").await;
    page.sees(".timeline .event:last-child .event-title", "Placed").await;
    // No event moves under a mouse.
    page.hover(first).await;
    let path = format!("/orders/{order}/fulfillments");
    site.admin(Method::POST, &path, Some(json!({}))).await.expect(200);
    page.sees(".panel-head .pill", "2 new").await;
    page.sees(first, "Money captured").await;
    page.hover("h2").await;
    page.sees(first, "Shipment recorded in stock").await;
    page.button("Show oldest first").await;
    page.sees(first, "Placed").await;
    page.until("document.activeElement.textContent === 'Show newest first'").await;
    assert!(page.barriers().await.is_empty());
    page.eval("location.reload()").await;
    page.sees(first, "Placed").await;
    page.button("Show newest first").await;
    page.sees(first, "Shipment recorded in stock").await;
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_in_a_dialog_when_news_arrive() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let page = site.browser(&format!("#/orders/{order}")).await;
    for (width, height) in [(1440, 900), (390, 844)] {
        page.size(width, height).await;
        page.button("Refund…").await;
        page.sees("dialog .unit-row", "£10.00 each").await;
        let places = "[...document.querySelectorAll('dialog :is(h2, input, textarea, button)')]\
                      .map((one) => one.getBoundingClientRect().top).join()";
        let before = page.eval(places).await;
        let path = format!("/orders/{order}/fulfillments");
        let body = json!({"lines": [{"line": "1", "quantity": 1}]});
        site.admin(Method::POST, &path, Some(body)).await.expect(200);
        page.sees("dialog .news", "Changed while this dialog was open").await;
        assert_eq!(page.eval(places).await, before);
        let seen =
            "document.querySelector('dialog .news b').getBoundingClientRect().bottom < innerHeight";
        assert_eq!(page.eval(seen).await, true);
        page.press("Escape").await;
        page.until("!document.querySelector('dialog')").await;
    }
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_amount_is_told_with_both_amounts_and_what_to_do() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.stuck("key-1").await.replace("cart_", "ord_");
    let read = site.admin(Method::GET, &format!("/orders/{order}"), None).await.expect(200);
    let attempt = &read["payments"][0];
    assert_eq!(attempt["amount"]["amount"], 1_000);
    let got = attempt["authorized"]["amount"].as_i64().unwrap();
    assert_ne!(got, 1_000);
    let got = format!("£{}.{:02}", got / 100, got % 100);
    let both = format!("£10.00 was asked for; the provider authorized {got}.");
    let page = site.browser(&format!("#/orders/{order}")).await;
    page.sees(".callout.bad", &both).await;
    page.sees(".callout.bad .todo", "The order can only be cancelled").await;
    page.sees(".order-main .rows", got.as_str()).await;
    page.sees(".order-main .rows .odd", "of £10.00 asked for").await;
    page.eval("location.hash = '#/attention'").await;
    page.sees(".attention-rows .why", &both).await;
    page.sees(".attention-rows .why", "The order can only be cancelled").await;
    assert!(page.barriers().await.is_empty());
    // What was authorized is still told once it was voided.
    let reason = json!({"reason": "another amount"});
    site.admin(Method::POST, &format!("/orders/{order}/cancel"), Some(reason)).await.expect(200);
    page.eval(&format!("location.hash = '#/orders/{order}'")).await;
    page.sees(".order-main .rows .badge", "voided").await;
    page.sees(".order-main .rows .num", &format!("{got}of £10.00 asked for")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_cancelled_orders_money_is_refunded_from_its_page() {
    let site = Site::with(|config| config.payments.stuck_after = 2).await;
    site.sell("LAMP", 1_000, 99).await;
    let cart = site.cart(&[("LAMP", 1)]).await;
    site.checkout(&cart, "key-1", "tok_ok", 30).await.expect(201);
    let order = cart.replace("cart_", "ord_");
    let act = async |what: &str| {
        let reason = Some(json!({"reason": "the provider is down"}));
        site.admin(Method::POST, &format!("/orders/{order}/{what}"), reason).await.expect(200);
    };
    site.until(&cart, |order| order["captured"]["amount"] == 1_000).await;
    site.faults(json!({"error_500": 1.0})).await;
    act("cancel").await;
    site.until(&cart, |order| order["status"] == "stuck").await;
    act("skip").await;
    site.until(&cart, |order| order["status"] == "cancelled").await;
    site.faults(json!({})).await;

    let page = site.browser(&format!("#/orders/{order}")).await;
    page.button("Refund…").await;
    page.sees("dialog[open] .dialog-intro", "£10.00 of its money was not refunded").await;
    page.fill("amount", "10.01").await;
    page.fill("reason", "late").await;
    page.press_control("Enter").await;
    page.sees("dialog[open]", "can be at most £10.00").await;
    page.fill("amount", "10.00").await;
    page.press_control("Enter").await;
    page.sees("#said.shown", "The refund was requested").await;
    site.until(&cart, |order| order["refunded"]["amount"] == 1_000).await;
    assert!(page.barriers().await.is_empty());
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_of_more_units_than_are_of_the_chosen_kind_shows_no_sum() {
    let site = Site::open().await;
    site.sell("LAMP", 1_000, 99).await;
    let order = site.sold("key-1").await.replace("cart_", "ord_");
    let one = Some(json!({"lines": [{"line": "1", "quantity": 1}]}));
    site.admin(Method::POST, &format!("/orders/{order}/fulfillments"), one).await.expect(200);
    let page = site.browser(&format!("#/orders/{order}")).await;
    page.button("Refund…").await;
    page.eval("document.querySelector('dialog .unit-row input').select()").await;
    page.write("2").await;
    page.sees("dialog .sum", "Product LAMP: at most 1 such unit").await;
    let kind = "(() => { const kind = document.querySelector('dialog [name=from]'); kind.value = ''; \
                kind.dispatchEvent(new Event('input', { bubbles: true })); })()";
    page.eval(kind).await;
    page.sees("dialog .sum", "To refund").await;
}
