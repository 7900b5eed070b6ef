//! The guest of a checkout: a buyer without a key, from a public IP address, with what they answer to
//! a challenge.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest};

use crate::actors::flows::guests::Guest;
use crate::http::edge::client_address::{TrustedProxies, is_public};
use crate::http::edge::data::data;
use crate::http::edge::error::Error;
use crate::http::edge::faults::{PartOfRequest, RequestFaults};
use crate::http::edge::principal::Principal;

/// The header with the answer to a challenge.
pub const CHALLENGE_RESPONSE: &str = "Challenge-Response";
/// The most characters of such an answer.
const RESPONSE_CHARS_MAX: usize = 4_096;

/// The guest who sends a request; `None` if the caller has a key, or a private IP address.
pub struct GuestCaller(pub Option<Guest>);

impl FromRequest for GuestCaller {
    type Error = Error;
    type Future = PartOfRequest<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        PartOfRequest::new(request, Self::of(request))
    }
}

impl GuestCaller {
    fn of(request: &HttpRequest) -> Result<Self, Error> {
        let mut faults = RequestFaults::default();
        let response = faults.note(response(request));
        faults.leave(request);
        let known = request.extensions().get::<Principal>().is_some_and(|one| one.id().is_some());
        let address = data::<TrustedProxies>(request)?.client(request);
        let guest = (!known && is_public(address)).then_some(Guest { address, response });
        Ok(Self(guest))
    }
}

fn response(request: &HttpRequest) -> Result<Option<String>, Error> {
    let Some(value) = request.headers().get(CHALLENGE_RESPONSE) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| text.len() <= RESPONSE_CHARS_MAX);
    let rule = || format!("must have at most {RESPONSE_CHARS_MAX} visible ASCII characters");
    let text = text.ok_or_else(|| Error::field(CHALLENGE_RESPONSE, rule()))?;
    Ok(Some(text.to_owned()))
}
