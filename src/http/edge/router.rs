//! The way of a request to its handler: route, load shedding, authentication and rate limits.
//!
//! The list of routes is an argument of [`configure`].

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, guard};

use super::access::{Access, admit};
use super::client_address::TrustedProxies;
use super::data::data;
use super::error::Error;
use super::if_none_match;
use super::json_body;
use super::load_shedding::{Admission, Admitted, Class};
use super::principal::Principal;
use super::problem::Code;
use super::query::Query;
use super::rate_limit::{self, RateLimitState};
use super::request_metrics::RequestMetrics;
use super::route::{Route, Routes};
use crate::actors::node::Node;

/// The name of the operation that a request was routed to.
#[derive(Clone, Copy, Debug)]
pub struct RoutedOperation(pub &'static str);

/// Which routes an app has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedRoutes {
    /// All, where there is only one address.
    Both,
    /// Those that are not internal.
    Public,
    /// Those that are, and the health of the node.
    Internal,
}

impl ServedRoutes {
    fn has(self, route: &Route) -> bool {
        match self {
            Self::Both => true,
            Self::Public => !route.is_internal(),
            Self::Internal => route.is_internal() || route.class == Class::Health,
        }
    }
}

/// Adds the routes of a side to an app.
pub fn configure(routes: &Routes, side: ServedRoutes, config: &mut ServiceConfig) {
    let all = || routes.all().filter(move |route| side.has(route));
    let mut done: Vec<&str> = Vec::new();
    for first in all() {
        if done.contains(&first.path) {
            continue;
        }
        done.push(first.path);
        let here = || all().filter(|route| route.path == first.path);
        let mut resource = web::resource(first.path);
        for route in here() {
            resource = resource.route(serve(route));
        }
        let mut allow: Vec<&str> = here().map(|route| route.method.as_str()).collect();
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        let allow = allow.join(", ");
        resource = resource.default_service(web::to(move || {
            let error = Error::method_not_allowed(&allow);
            async { Err::<HttpResponse, Error>(error) }
        }));
        config.service(resource);
    }
}

fn serve(route: &'static Route) -> actix_web::Route {
    let method = route.method.clone();
    (route.handler)()
        .guard(guard::fn_guard(move |context| {
            let asked = &context.head().method;
            *asked == method || (*asked == Method::HEAD && method == Method::GET)
        }))
        .wrap(from_fn(move |request: ServiceRequest, next: Next<BoxBody>| {
            enforce(route, request, next)
        }))
}

/// Passes a request to its handler if [`enter`] admits it, or else answers with the refusal.
async fn enforce(
    route: &'static Route,
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    request.extensions_mut().insert(RoutedOperation(route.operation));
    let admission = data::<Admission>(request.request()).cloned();
    let entered = match &admission {
        Ok(admission) => enter(route, request.request(), admission).await,
        Err(_) => Err(full()),
    };
    match entered {
        Ok(entered) => {
            request.extensions_mut().insert(entered.principal);
            if let Err(unreadable) = leave_unknown(route, request.request()) {
                json_body::skip(&mut request.take_payload()).await;
                return Ok(request.error_response(unreadable));
            }
            let mut response = if_none_match::answer(next.call(request).await?);
            if let Some(counted) = entered.counted {
                counted.write_headers(response.headers_mut());
            }
            Ok(response)
        }
        Err(refused) => {
            json_body::skip(&mut request.take_payload()).await;
            Ok(request.error_response(refused))
        }
    }
}

/// Leaves the parameters of a request to the API whose handler reads none: each is a fault. The query
/// of a signed request belongs to its sender.
fn leave_unknown(route: &Route, request: &HttpRequest) -> Result<(), Error> {
    let signed = matches!(route.access, Access::Signed(_));
    let of_api = route.path.starts_with("/v1/") && !signed;
    if of_api && !request.query_string().is_empty() && !(route.reads_query)() {
        Query::of(request, &[])?.faults.leave(request);
    }
    Ok(())
}

fn full() -> Error {
    Error::new(Code::Overloaded, "the server is overloaded; nothing was done")
}

/// The result of admitting a request.
struct Entered<'a> {
    principal: Principal,
    counted: Option<RateLimitState>,
    _place: Admitted<'a>,
}

/// Admits a request to its class, authenticates the caller, and counts the request against the
/// caller's rate limit. A request of class `Operate` is first admitted as unidentified, and to its
/// class only when the caller is known.
async fn enter<'a>(
    route: &Route,
    request: &HttpRequest,
    admission: &'a Admission,
) -> Result<Entered<'a>, Error> {
    let metrics = data::<RequestMetrics>(request)?;
    let full = || {
        metrics.refuse(route.class);
        full()
    };
    let (principal, place) = if route.class == Class::Operate {
        let unidentified = admission.admit_unidentified().ok_or_else(full)?;
        match admit(route.access, request).await? {
            Principal::Anyone => (Principal::Anyone, unidentified),
            known => (known, admission.admit(route.class).ok_or_else(full)?),
        }
    } else {
        let place = admission.admit(route.class).ok_or_else(full)?;
        (admit(route.access, request).await?, place)
    };
    let counted = match route.access {
        // Payment providers and other nodes are not rate limited: their number of requests depends
        // on what has happened, not on them.
        Access::Signed(_) => None,
        _ => {
            let (node, from) = (data::<Node>(request)?, data::<TrustedProxies>(request)?);
            let (now, from) = (node.runtime.current(), from.client(request));
            let counted =
                rate_limit::count(&node.cache, &now.rates, route.class, &principal, from).await;
            counted.inspect_err(|_| metrics.limit(route.class))?
        }
    };
    Ok(Entered { principal, counted, _place: place })
}
