//! The URL of an echo server, and the document that is posted to it.

use reqwest::header::CONTENT_TYPE;

use super::Error;
use super::args::Echo;
use super::wire::RequestTarget;

/// A JSON document of the size of a cart.
#[must_use]
pub fn document(number: u64) -> String {
    format!(
        r#"{{"id":"doc_{number:020}","name":"Ada Lovelace","email":"ada-{number}@mail.example","reference":"PO 4711","lines":[{{"sku":"LOAD-000001","quantity":1,"amount":1250}},{{"sku":"LOAD-000002","quantity":2,"amount":995}}],"city":"London","postal_code":"EC1A 1BB","country":"GB","total":3240}}"#
    )
}

/// Finds the URL that echoes: the given one, or its path `/echo` if it has no path and its server
/// refuses a request without one.
///
/// # Errors
/// [`Error`]: the URL is not valid, or its server refuses the request.
pub async fn find(args: &Echo) -> Result<RequestTarget, Error> {
    let place = RequestTarget::parse(&args.url, args.timeout)?;
    let Err(answer) = ask(args, &args.url).await else {
        return Ok(place);
    };
    let url = format!("{}/echo", args.url.trim_end_matches('/'));
    if place.path.is_empty() && ask(args, &url).await.is_ok() {
        return Ok(RequestTarget::parse(&url, args.timeout)?);
    }
    Err(Error::NoEcho { url: args.url.clone(), answer })
}

/// Sends one document. A request without an answer is not an error here: the run counts those.
async fn ask(args: &Echo, url: &str) -> Result<(), String> {
    kontor_client::install_tls();
    let request = reqwest::Client::new().post(url).timeout(args.timeout);
    let request = request.header(CONTENT_TYPE, "application/json").body(document(0));
    match request.send().await.map(|answer| answer.status()) {
        Ok(status) if !status.is_success() => Err(format!("a POST was answered {status}")),
        Ok(_) | Err(_) => Ok(()),
    }
}
