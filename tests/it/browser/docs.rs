//! The documentation in a browser: the API's page, on which a buyer's request is sent at once, and
//! the guide, in all themes and sizes.

use super::chrome::Page;
use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn docs_open_on_what_a_buyer_does_and_the_first_request_is_answered() {
    let site = Site::open().await;
    site.sell("85123A", 295, 9).await;
    let page = Page::open().await;
    page.go(&format!("{}/docs", site.url())).await;
    page.sees(".lead", "kontor key create --scope admin").await;
    page.until("document.querySelectorAll('.opblock-tag-section.is-open').length === 4").await;
    let tags = "[...document.querySelectorAll('.opblock-tag-section.is-open .opblock-tag')]\
                .map((one) => one.dataset.tag).join()";
    assert_eq!(page.eval(tags).await, "products,carts,checkout,orders");
    let keyed = "[...document.querySelectorAll('.opblock-summary-path')]\
                 .some((one) => one.textContent.includes('admin'))";
    assert_eq!(page.eval(keyed).await, false, "what needs a key is closed");
    page.click(".opblock.is-open .execute").await;
    page.sees(".live-responses-table .response-col_status", "200").await;
    page.sees(".live-responses-table .highlight-code, .live-responses-table code", "85123A").await;
    // What an operation refers to is put into it here, and not by parsing the whole document.
    page.eval("calls = 0; real = resolved; resolved = (...all) => (calls += 1, real(...all)); 0")
        .await;
    // A path has its example, which the demo's shop has.
    page.click("#operations-products-show_product .opblock-summary-control").await;
    page.click("#operations-products-show_product .execute").await;
    page.sees("#operations-products-show_product .response-col_status", "200").await;
    page.sees("#operations-products-show_product .response .headers td", "ETag").await;
    page.until("calls > 0").await;
    let left = "fetch('/openapi.json').then((answer) => answer.json()).then(async (document) => {\
                const all = Object.entries(document.paths).flatMap(([path, item]) => \
                Object.keys(item).map((method) => ['paths', path, method]));\
                const { resolveSubtree } = resolveHere().fn;\
                const specs = await Promise.all(all.map((path) => resolveSubtree(document, path)));\
                return specs.length > 50 && specs.filter(({spec}) => JSON.stringify(spec)\
                .includes('\"$ref\"')).length; })";
    assert_eq!(page.eval(left).await, 0);
    assert_eq!(page.troubles(""), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_can_be_read_by_everybody() {
    let site = Site::open().await;
    let page = Page::open().await;
    let all = ["api", "glossary", "admin", "money", "operations", "scaling", "reliability"];
    let all = all.iter().chain(&["performance", "load"]).map(|name| format!("guide/{name}"));
    let mut all: Vec<String> = all.collect();
    all.extend(["guide".to_owned(), "errors/payment_declined".to_owned()]);
    for (theme, width, height) in [("light", 1440, 900), ("dark", 1440, 900), ("dark", 390, 844)] {
        page.size(width, height).await;
        page.theme(theme).await;
        for name in &all {
            page.go(&format!("{}/docs/{name}", site.url())).await;
            page.until("document.readyState === 'complete' && !!document.querySelector('h1')")
                .await;
            let styled = "getComputedStyle(document.querySelector('.bar')).display";
            assert_eq!(page.eval(styled).await, "flex", "{name} has its style");
            let over = "document.documentElement.scrollWidth > innerWidth";
            assert_eq!(page.eval(over).await, false, "{name} is too wide at {width}");
            let barriers = page.barriers().await;
            assert!(barriers.is_empty(), "{name}, {theme} at {width}: {barriers:#?}");
        }
    }
    // A link leads to the right part of another page.
    page.go(&format!("{}/docs/guide/money", site.url())).await;
    page.click("main a[href='/docs/guide/api#after-a-declined-payment']").await;
    page.until("location.hash === '#after-a-declined-payment' && scrollY > 1000").await;
    page.click(".bar .home").await;
    page.until("location.pathname === '/docs/'").await;
    assert_eq!(page.troubles(""), [""; 0]);
}
