//! How long a client waits for an outcome: `Prefer: wait=N` (RFC 7240).

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::HeaderMap;
use actix_web::{FromRequest, HttpRequest};

use crate::http::edge::error::Error;
use crate::http::edge::faults::{PartOfRequest, RequestFaults};

/// The maximum wait for an outcome, in seconds.
const WAIT_MAX_SECS: u64 = 30;

/// How long to wait for the outcome, at most 30 seconds; `None` without this preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience(pub Option<Duration>);

impl FromRequest for Patience {
    type Error = Error;
    type Future = PartOfRequest<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut faults = RequestFaults::default();
        let patience = faults.note(wait(request.headers()));
        faults.leave(request);
        PartOfRequest::new(request, Ok(Self(patience)))
    }
}

/// How long to wait for the outcome, from `Prefer: wait=N`; `None` without this preference.
///
/// # Errors
/// 422 if N is not a number of seconds from 0 to 30.
pub fn wait(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    for header in headers.get_all("prefer") {
        for preference in header.to_str().unwrap_or("").split([',', ';']) {
            let Some((name, value)) = preference.split_once('=') else { continue };
            if name.trim().eq_ignore_ascii_case("wait") {
                let secs = value.trim().trim_matches('"').parse::<u64>().ok();
                let secs = secs.filter(|secs| *secs <= WAIT_MAX_SECS);
                let wrong = || Error::field("Prefer", "wait must be from 0 to 30 seconds");
                return secs.map(|secs| Some(Duration::from_secs(secs))).ok_or_else(wrong);
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::http::edge::problem::Code;

    #[test]
    fn prefer_is_read_leniently_and_bounded() {
        let read = |text: &str| {
            let request = TestRequest::default().insert_header(("Prefer", text)).to_http_request();
            wait(request.headers()).map_err(|error| error.code())
        };
        assert_eq!(read("respond-async"), Ok(None));
        assert_eq!(read("wait=0"), Ok(Some(Duration::ZERO)));
        assert_eq!(read("respond-async, wait=5"), Ok(Some(Duration::from_secs(5))));
        for bad in ["wait=31", "wait=-1", "wait=x", "wait=1.5"] {
            assert_eq!(read(bad), Err(Code::InvalidRequest), "{bad}");
        }
    }
}
