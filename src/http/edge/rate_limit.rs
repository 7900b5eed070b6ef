//! Rate limits on the requests of one client, separately for each class of requests. All nodes
//! count together if they share a cache. A client is an API key with its sessions, a session
//! without a key, or the IP address of a caller with neither.
//!
//! Load shedding, which is in `load_shedding`, is applied before rate limits.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::actors::engine::runtime::Rates;
use crate::cache::{Cache, Limit, RateDecision};
use crate::http::edge::client_address::is_public;
use crate::http::edge::error::Error;
use crate::http::edge::load_shedding::Class;
use crate::http::edge::principal::Principal;
use crate::http::edge::problem::Code;

/// The period of a limit.
const PER: Duration = Duration::from_secs(60);
/// The number of failed sign-ins that are allowed to an IP address at once; after these, one per
/// [`TRY_EVERY`].
const TRIES: u32 = 20;
const TRY_EVERY: Duration = Duration::from_secs(30);

/// The rate limit of a class, if it has one: the lower one for a `guest`.
fn limit(rates: &Rates, class: Class, guest: bool) -> Option<Limit> {
    let (of_all, of_guests) = match class {
        Class::Browse => (rates.browse, 0),
        Class::Cart => (rates.cart, rates.guest_cart),
        Class::Checkout => (rates.checkout, rates.guest_checkout),
        Class::Operate => (rates.operate, 0),
        Class::Health => (0, 0),
    };
    let limits = [of_all, if guest { of_guests } else { 0 }];
    let count = limits.into_iter().filter(|count| *count > 0).min()?;
    Some(Limit { count, per: PER })
}

/// A client's rate limit, and the requests that are left.
pub struct RateLimitState {
    class: Class,
    limit: Limit,
    taken: RateDecision,
}

impl RateLimitState {
    /// Adds the headers of the IETF's `RateLimit` draft to an answer.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        for (name, text) in self.headers() {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    fn headers(&self) -> [(&'static str, String); 2] {
        let Self { class, limit, taken } = self;
        let class = class.as_str();
        [
            ("ratelimit-policy", format!("\"{class}\";q={};w={}", limit.count, PER.as_secs())),
            ("ratelimit", format!("\"{class}\";r={};t={}", taken.left, secs(taken.full_in))),
        ]
    }
}

/// Whole seconds, rounded up.
fn secs(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// Counts a request of a client; `None` if there is no limit.
///
/// # Errors
/// 429 `rate_limited`, with the time of the next allowed request.
pub async fn count(
    cache: &Cache,
    rates: &Rates,
    class: Class,
    principal: &Principal,
    from: IpAddr,
) -> Result<Option<RateLimitState>, Error> {
    let guest = matches!(principal, Principal::Anyone) && is_public(from);
    let Some(limit) = limit(rates, class, guest) else {
        return Ok(None);
    };
    let client = match principal {
        Principal::Anyone => format!("address:{from}"),
        known => format!("holder:{}", known.owner()),
    };
    let taken = cache.consume_limit(&format!("{}:{client}", class.as_str()), limit).await;
    let counted = RateLimitState { class, limit, taken };
    if taken.allowed {
        return Ok(Some(counted));
    }
    let detail = format!("more than {} requests a minute came from this client", limit.count);
    let mut error = Error::new(Code::RateLimited, detail);
    for (name, text) in counted.headers() {
        error = error.header(HeaderName::from_static(name), text);
    }
    Err(error.header(header::RETRY_AFTER, secs(taken.retry_in).max(1).to_string()))
}

fn tries(from: IpAddr) -> (String, Limit) {
    (format!("sign_in:{from}"), Limit { count: TRIES, per: TRY_EVERY * TRIES })
}

/// Counts a sign-in attempt as failed before its outcome is known, so that concurrent attempts
/// cannot exceed the limit.
///
/// # Errors
/// 429 `too_many_tries` for an address with too many failed attempts.
pub async fn begin_try(cache: &Cache, from: IpAddr) -> Result<(), Error> {
    let (key, limit) = tries(from);
    let taken = cache.consume_limit(&key, limit).await;
    if taken.allowed {
        return Ok(());
    }
    let detail = "too many failed sign-ins from this IP address";
    let error = Error::new(Code::TooManyTries, detail);
    Err(error.header(header::RETRY_AFTER, secs(taken.retry_in).max(1).to_string()))
}

/// Removes a successful attempt from the count.
pub async fn right_try(cache: &Cache, from: IpAddr) {
    let (key, limit) = tries(from);
    cache.give_back(&key, limit).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rate_limits_are_per_client_and_class() {
        let cache = Cache::in_process();
        let rates = Rates { browse: 2, ..Rates::default() };
        let ip = |n: u32| IpAddr::V4(n.into());
        let count =
            async |class, from| count(&cache, &rates, class, &Principal::Anyone, ip(from)).await;
        for _ in 0..2 {
            assert!(count(Class::Browse, 1).await.is_ok_and(|counted| counted.is_some()));
        }
        let refused = count(Class::Browse, 1).await.err().unwrap();
        assert_eq!(refused.code(), Code::RateLimited);
        let header = |name: &str| {
            let all = refused.headers().iter();
            all.filter(|(own, _)| own == name).map(|(_, text)| text.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(header("ratelimit-policy"), ["\"browse\";q=2;w=60"]);
        assert_eq!(header("ratelimit"), ["\"browse\";r=0;t=60"]);
        assert_eq!(header("retry-after"), ["30"]);
        assert!(count(Class::Browse, 2).await.is_ok());
        for _ in 0..100 {
            assert!(count(Class::Operate, 1).await.is_ok_and(|counted| counted.is_none()));
        }
    }

    #[tokio::test]
    async fn guests_from_public_addresses_have_a_limit_by_default() {
        let (cache, rates) = (Cache::in_process(), Rates::default());
        let guest = Principal::Anyone;
        let count = async |class, from: &str| {
            count(&cache, &rates, class, &guest, from.parse().unwrap()).await
        };
        for _ in 0..rates.guest_checkout {
            assert!(count(Class::Checkout, "203.0.113.7").await.is_ok_and(|all| all.is_some()));
        }
        assert!(count(Class::Checkout, "203.0.113.7").await.is_err());
        assert!(count(Class::Checkout, "2001:db8::").await.is_ok());
        for from in ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "::1", "fd00::1"] {
            assert!(count(Class::Checkout, from).await.is_ok_and(|all| all.is_none()), "{from}");
        }
        let limit = |guest| limit(&Rates { cart: 5, ..rates }, Class::Cart, guest);
        assert_eq!((limit(true).unwrap().count, limit(false).unwrap().count), (5, 5));
    }

    #[tokio::test]
    async fn failed_sign_ins_are_limited_by_ip_address() {
        let cache = Cache::in_process();
        let ip = |n: u32| IpAddr::V4(n.into());
        for _ in 0..TRIES {
            assert!(begin_try(&cache, ip(1)).await.is_ok());
            assert!(begin_try(&cache, ip(2)).await.is_ok());
            right_try(&cache, ip(2)).await;
        }
        let refused = begin_try(&cache, ip(1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::TooManyTries);
        assert!(begin_try(&cache, ip(2)).await.is_ok());
    }
}
