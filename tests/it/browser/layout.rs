//! Nothing lies over anything else: no control over another at any width, and no pill over a list.

use reqwest::Method;
use serde_json::json;

use crate::site::Site;

/// Pairs of controls and badges of a page that lie over one another; what only a screen reader gets, or
/// what a list has scrolled away, lies nowhere.
const OVERLAPS: &str = "(() => {
    const scrolled = ({left, top, right, bottom}, list) => list && (({left: l, top: t, right: r, bottom: b}) =>
        left < l || top < t || right > r || bottom > b)(list.getBoundingClientRect());
    const seen = [...document.querySelectorAll('#page :is(a[href], button, input, select, .badge)')]
        .filter((one) => one.checkVisibility() && !(one.closest('thead, .unseen')?.clientWidth <= 1))
        .filter((one) => !scrolled(one.getBoundingClientRect(), one.closest('.timeline, .chips, .tall')))
        .map((one) => [one, one.getBoundingClientRect()]).filter(([, box]) => box.width > 0);
    const over = ([a, x], [b, y]) => !a.contains(b) && !b.contains(a)
        && x.left < y.right - 1 && y.left < x.right - 1 && x.top < y.bottom - 1 && y.top < x.bottom - 1;
    return seen.flatMap((one, at) => seen.slice(at + 1).filter((other) => over(one, other))
        .map((other) => `${one[0].outerHTML} ${other[0].outerHTML}`.slice(0, 300)));
})()";

#[tokio::test(flavor = "multi_thread")]
async fn no_control_lies_over_another_at_any_width() {
    let site = Site::with(|config| config.payments.stuck_after = 2).await;
    site.sell("LAMP", 1_000, 99).await;
    let sold = site.sold("key-1").await.replace("cart_", "ord_");
    let odd = site.stuck("key-2").await.replace("cart_", "ord_");
    // One that has as many buttons as there are: a part is shipped, and a refund is stuck.
    let ship = json!({"lines": [{"line": "1", "quantity": 1}]});
    let path = format!("/orders/{sold}/fulfillments");
    site.admin(Method::POST, &path, Some(ship)).await.expect(200);
    site.faults(json!({"error_500": 1.0})).await;
    let refund = json!({"amount": {"amount": 500, "currency": "GBP"}, "reason": "a scratch"});
    let path = format!("/orders/{sold}/refunds");
    site.admin(Method::POST, &path, Some(refund)).await.expect(200);
    site.until(&sold.replace("ord_", "cart_"), |order| order["status"] == "stuck").await;
    let page = site.browser("#/").await;
    let places = [
        (format!("#/orders/{sold}"), ".timeline .diff dl"),
        (format!("#/orders/{sold}?seq=3"), ".history.past"),
        (format!("#/orders/{odd}"), ".callout.bad"),
        ("#/orders".to_owned(), ".row-link"),
        ("#/stock".to_owned(), ".row-link"),
        ("#/stock/LAMP".to_owned(), ".stock-history li"),
        ("#/settings".to_owned(), ".settings-rows"),
        ("#/locations".to_owned(), ".locations-table"),
        ("#/attention".to_owned(), ".attention-rows"),
        ("#/cluster".to_owned(), ".shards-table"),
    ];
    for width in [320, 390, 800, 1024, 1280] {
        page.size(width, 844).await;
        for (place, shown) in &places {
            page.eval(&format!("location.hash = {}", json!(place))).await;
            page.until(&format!("document.querySelector('{shown}')?.checkVisibility() === true"))
                .await;
            assert_eq!(page.eval(OVERLAPS).await, json!([]), "{place} at {width}");
            let over = "document.documentElement.scrollWidth > innerWidth";
            assert_eq!(page.eval(over).await, false, "{place} is too wide at {width}");
        }
    }
    assert_eq!(page.troubles("/v1/session"), [""; 0]);
}

/// What cannot be pressed in its middle, though it is in view: something else covers it.
const COVERED: &str = "[...document.querySelectorAll('#page :is(a[href], button, input, select), .pill')]\
     .filter((one) => one.checkVisibility()).map((one) => [one.closest('label') ?? one, one])\
     .map(([box, one]) => [box.getBoundingClientRect(), one])\
     .map(([{left, top, width, height}, one]) => [left + width / 2, top + height / 2, one])\
     .filter(([x, y]) => x > 0 && x < innerWidth && y > 0 && y < innerHeight - BOTTOM)\
     .filter(([x, y, one]) => ![one, one.closest('label'), one.parentElement]\
        .some((mine) => mine?.contains(document.elementFromPoint(x, y))))\
     .map(([, , one]) => one.outerHTML.slice(0, 120))";

#[tokio::test(flavor = "multi_thread")]
async fn the_pill_covers_nothing_and_moves_nothing() {
    let site = Site::open().await;
    for number in 0..30 {
        site.sell(&format!("LAMP-{number}"), 1_000, 99).await;
    }
    let page = site.browser("#/stock").await;
    let mut sold = 100;
    for (width, bottom) in [(1440, 0), (1000, 0), (800, 0), (390, 110)] {
        page.size(width, 844).await;
        page.eval("scrollTo(0, 0)").await;
        page.until("document.querySelectorAll('.row-link').length > 29").await;
        page.eval("document.querySelector('.row-link').focus({preventScroll: true})").await;
        let top = "document.querySelector('tbody').getBoundingClientRect().top";
        let before = page.eval(top).await;
        sold += 1;
        site.sell(&format!("LAMP-{sold}"), 1_000, 9).await;
        page.sees(".pill", "1 new row").await;
        assert_eq!(page.eval(top).await, before, "{width}");
        let covered = COVERED.replace("BOTTOM", &bottom.to_string());
        assert_eq!(page.eval(&covered).await, json!([]), "{width}");
        // It stays in view below, where nothing is under it for good.
        page.eval("scrollTo(0, document.body.scrollHeight)").await;
        let seen = "(({top, bottom}) => top >= 0 && bottom <= innerHeight)\
                    (document.querySelector('.pill').getBoundingClientRect())";
        page.until(seen).await;
        let last = "(({left, top, height}) => document.elementFromPoint(left + 5, top + height / 2))\
                    ([...document.querySelectorAll('.row-link')].at(-1).getBoundingClientRect())\
                    .matches('.row-link')";
        page.until(last).await;
        page.click(".pill").await;
    }
    assert!(page.barriers().await.is_empty());
}
