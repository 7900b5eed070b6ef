//! Pages of other origins: a browser asks first (a preflight request), and lets a page read what the
//! answer allows.

use reqwest::{Method, Response};
use serde_json::Value;

use crate::site::Site;

const SHOP: &str = "https://shop.example";

async fn site(origins: &[&str]) -> Site {
    let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
    Site::with(|config| config.http.cors_origins = origins).await
}

async fn preflight(site: &Site, origin: &str, path: &str) -> Response {
    let request = site.request(Method::OPTIONS, path).header("Origin", origin);
    let request = request.header("Access-Control-Request-Method", "POST");
    let wanted = "authorization,content-type,idempotency-key,if-match,kontor-after";
    request.header("Access-Control-Request-Headers", wanted).send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_may_call_the_api_and_read_its_headers() {
    let site = site(&[SHOP, "http://localhost:3000"]).await;
    let asked = preflight(&site, SHOP, "/v1/store/carts").await;
    assert_eq!((asked.status().as_u16(), header(&asked, "access-control-max-age")), (200, "7200"));
    assert_eq!(header(&asked, "access-control-allow-origin"), SHOP);
    assert!(header(&asked, "access-control-allow-methods").contains("PATCH"));
    let allowed = header(&asked, "access-control-allow-headers").to_lowercase();
    for name in ["authorization", "content-type", "idempotency-key", "if-match", "kontor-after"] {
        assert!(allowed.contains(name), "{name} in {allowed}");
    }
    for (path, status) in [("/v1/store/products", 200), ("/v1/store/carts/none", 404)] {
        let read = site.request(Method::GET, path).header("Origin", SHOP).send().await.unwrap();
        assert_eq!(read.status().as_u16(), status);
        assert_eq!(header(&read, "access-control-allow-origin"), SHOP, "also of an error");
        assert!(header(&read, "vary").to_lowercase().contains("origin"), "{read:?}");
        let exposed = header(&read, "access-control-expose-headers").to_lowercase();
        for name in ["etag", "location", "retry-after", "kontor-position", "ratelimit"] {
            assert!(exposed.contains(name), "{name} in {exposed}");
        }
        // Cookies are never accepted from another origin.
        assert_eq!(header(&read, "access-control-allow-credentials"), "");
    }
    for other in ["https://shop.example.evil", "https://shop.example:8443", "null"] {
        let asked = preflight(&site, other, "/v1/store/carts").await;
        assert_eq!(header(&asked, "access-control-allow-origin"), "", "{other}");
        assert_eq!(asked.status().as_u16(), 403, "{other}");
        assert_eq!(header(&asked, "content-type"), "application/problem+json");
        assert!(!header(&asked, "x-request-id").is_empty());
        let problem: Value = asked.json().await.unwrap();
        assert_eq!(problem["code"], "forbidden_origin");
        assert_eq!(problem["errors"][0]["field"], "Origin");
        assert!(problem["detail"].as_str().unwrap().contains("http.cors_origins"));
    }
    site.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_origin_may_be_allowed_and_by_default_none_is() {
    let open = site(&["*"]).await;
    let asked = preflight(&open, "https://anybody.example", "/v1/store/carts").await;
    assert_eq!(header(&asked, "access-control-allow-origin"), "*");
    open.verify().await;
    let closed = site(&[]).await;
    let asked = preflight(&closed, SHOP, "/v1/store/carts").await;
    assert_eq!((asked.status().as_u16(), header(&asked, "access-control-allow-origin")), (405, ""));
    closed.verify().await;
}
