//! The `application/problem+json` body of an error answer.
//!
//! The codes are in `problem`.

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use utoipa::{PartialSchema as _, ToSchema};

use super::error::Error;
use super::input::string;
use super::problem::{Code, ErrorCode, FieldError, Members};

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error (RFC 9457). Codes with members of their own have schemas of their own.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The URL of the page about this code.
    #[serde(rename = "type")]
    #[schema(example = "/docs/errors/invalid_request", pattern = "^/docs/errors/[a-z_]+$")]
    pub kind: String,
    /// The meaning of the code.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// The error code, for programs. Stable.
    #[schema(value_type = ErrorCode)]
    pub code: &'static str,
    /// What is wrong with this request.
    pub detail: String,
    /// The id of this request.
    pub request_id: String,
    /// All invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    /// The members that some codes add.
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Map<String, Value>,
}

/// The schema of the problems of a code with members of its own, and the schemas that it refers to,
/// each with its name.
#[must_use]
pub fn problem_schema<M: Members>() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = Vec::new();
    M::schemas(&mut schemas);
    let RefOr::T(Schema::Object(members)) = M::schema() else { return schemas };
    let mut problem = of_code(M::CODE);
    for (name, member) in members.properties {
        problem = problem.property(name, member);
    }
    for name in members.required {
        problem = problem.required(name);
    }
    schemas.push((problem_name(M::CODE), problem.into()));
    schemas
}

/// The schema of the problems of `invalid_request`, with its name: they have invalid fields.
#[must_use]
pub fn invalid_request_schema() -> (String, RefOr<Schema>) {
    let problem = of_code(Code::InvalidRequest).required("errors");
    (problem_name(Code::InvalidRequest), problem.into())
}

/// The name of the schema of the problems of a code, if they have one of their own.
#[must_use]
pub fn problem_name(code: Code) -> String {
    format!("{code:?}{}", Problem::name())
}

/// The schema of a problem with this code.
fn of_code(code: Code) -> ObjectBuilder {
    let one = string().enum_values(Some([code.as_str()]));
    let problem = match Problem::schema() {
        RefOr::T(Schema::Object(problem)) => ObjectBuilder::from(problem),
        _ => ObjectBuilder::new(),
    };
    problem.description(Some(code.title())).property("code", one)
}

/// The answer to a request that failed.
#[must_use]
pub fn respond(error: &Error, request_id: &str) -> HttpResponse {
    let code = error.code();
    let problem = Problem {
        kind: format!("/docs/errors/{}", code.as_str()),
        title: code.title(),
        status: code.status().as_u16(),
        code: code.as_str(),
        detail: error.detail().to_owned(),
        request_id: request_id.to_owned(),
        errors: error.fields().to_vec(),
        extra: error.extra().clone(),
    };
    let mut response = HttpResponse::build(code.status());
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE)));
    if let Some(secs) = code.retry_after_secs() {
        response.insert_header((header::RETRY_AFTER, secs));
    }
    if code == Code::Unauthorized {
        response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"kontor\""));
    }
    if let Some(allow) = error.allow() {
        response.insert_header((header::ALLOW, allow));
    }
    for (name, value) in error.headers() {
        response.insert_header((name.clone(), value.as_str()));
    }
    match serde_json::to_vec(&problem) {
        Ok(body) => response.body(body),
        Err(_) => response.finish(),
    }
}
