//! What a shopkeeper does all day: finding the order of somebody on the telephone, reading how an order
//! came about, and seeing why something cannot be done.

use reqwest::Method;
use serde_json::json;

use crate::site::Site;

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
