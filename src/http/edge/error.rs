//! Errors of requests. Failures of hosts and of the store become error codes here; their internal
//! texts are logged, and not sent to the client.
//!
//! A noun's rejections become error codes next to the noun's routes. The codes are in `problem`,
//! the body of a problem is in `problem_body`.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::actors::engine::{host, row_host};
use crate::http::edge::problem::{Code, FAULTS_MAX, FieldError, Members};
use crate::store;

/// Why a request failed.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    detail: Cow<'static, str>,
    fields: Vec<FieldError>,
    extra: Map<String, Value>,
    allow: Option<String>,
    headers: Vec<(HeaderName, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a code, and a description of what is wrong with this request.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            fields: Vec::new(),
            extra: Map::new(),
            allow: None,
            headers: Vec::new(),
            source: None,
        }))
    }

    /// Invalid fields.
    #[must_use]
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        Self::faulty(Code::InvalidRequest, fields)
    }

    /// One invalid field.
    #[must_use]
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { field: field.to_owned(), message: message.into() }])
    }

    /// Invalid fields, with a code other than `invalid_request`.
    #[must_use]
    pub fn faulty(code: Code, fields: Vec<FieldError>) -> Self {
        let detail = match fields.as_slice() {
            [one] => format!("{} {}", one.field, one.message).trim_start().to_owned(),
            many => format!("{} fields need attention", many.len()),
        };
        Self::with_fields(code, detail, fields)
    }

    /// Invalid fields, besides which there may be others.
    #[must_use]
    pub fn faulty_at_least(code: Code, fields: Vec<FieldError>) -> Self {
        let detail = format!("at least {} fields need attention", fields.len());
        Self::with_fields(code, detail, fields)
    }

    fn with_fields(code: Code, detail: String, mut fields: Vec<FieldError>) -> Self {
        let many = format!("more than {FAULTS_MAX} fields need attention: {FAULTS_MAX} are named");
        let detail = if fields.len() > FAULTS_MAX { many } else { detail };
        fields.truncate(FAULTS_MAX);
        let mut error = Self::new(code, detail);
        error.0.fields = fields;
        error
    }

    /// The resource does not exist.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }

    /// An internal error, which is logged and not shown to the caller.
    pub fn internal(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        let mut error = Self::new(Code::Internal, "the request could not be carried out");
        error.0.source = Some(Box::new(source));
        error
    }

    /// 405: the method is not one of `allow`.
    #[must_use]
    pub fn method_not_allowed(allow: &str) -> Self {
        let mut error =
            Self::new(Code::MethodNotAllowed, format!("the allowed methods are {allow}"));
        error.0.allow = Some(allow.to_owned());
        error
    }

    /// An error whose code has members of its own in the problem body.
    pub fn of<M: Members>(members: &M, detail: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Self::new(M::CODE, detail);
        if let Ok(Value::Object(members)) = serde_json::to_value(members) {
            error.0.extra = members;
        }
        error
    }

    /// Adds a field that is at fault, without changing the code or its description.
    #[must_use]
    pub fn at(mut self, field: &str, message: impl Into<String>) -> Self {
        self.0.fields.push(FieldError { field: field.to_owned(), message: message.into() });
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: String) -> Self {
        self.0.headers.push((name, value));
        self
    }

    fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The description of what is wrong with this request.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The invalid fields.
    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        &self.0.fields
    }

    /// The members that only this code has.
    #[must_use]
    pub fn extra(&self) -> &Map<String, Value> {
        &self.0.extra
    }

    /// The value of the answer's `Allow` header.
    #[must_use]
    pub fn allow(&self) -> Option<&str> {
        self.0.allow.as_deref()
    }

    /// The headers that were added with [`Error::header`].
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, String)] {
        &self.0.headers
    }

    /// Logs the internal cause of the error, if there is one, with its chain of sources.
    pub fn log(&self, request_id: &str) {
        let Some(source) = &self.0.source else {
            return;
        };
        let mut chain = source.to_string();
        let mut next = source.source();
        while let Some(cause) = next {
            chain = format!("{chain}: {cause}");
            next = cause.source();
        }
        let code = self.0.code.as_str();
        tracing::error!(request_id, code, error = chain, "a request failed");
    }

    /// The error for a status with which actix itself has refused a request.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            404 => Self::new(Code::NotFound, "there is nothing at this path"),
            405 => Self::new(Code::MethodNotAllowed, "the method is not allowed here"),
            408 => Self::new(Code::RequestTimeout, "the request arrived too slowly"),
            413 => Self::new(Code::PayloadTooLarge, "the body is too large"),
            415 => Self::new(Code::UnsupportedMediaType, "send application/json"),
            503 => Self::new(Code::TryAgain, "the server cannot accept the request now"),
            400..=499 => Self::new(Code::BadRequest, "the request cannot be understood"),
            _ => Self::new(Code::Internal, "the request could not be carried out"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.as_str(), self.0.detail)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.0.code.status()
    }

    // The middleware in `observe` replaces this answer by one with a problem body, because the body
    // contains the request id.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

impl<R: Into<Self>> From<host::Error<R>> for Error {
    fn from(error: host::Error<R>) -> Self {
        match error {
            host::Error::Rejected(rejection) => rejection.into(),
            host::Error::Busy => {
                Self::new(Code::TooManyRequests, "too many requests are in progress")
            }
            host::Error::TimedOut => {
                Self::new(Code::TryAgain, "the request waited too long; nothing was done")
            }
            host::Error::Moved => Self::new(
                Code::TryAgain,
                "the shard is being handed over to another node; \
                                           nothing was done",
            ),
            host::Error::TryAgain => Self::new(Code::TryAgain, "the outcome is unknown"),
            host::Error::Storage(why) => storage(why),
            host::Error::Quarantined(why) => {
                Self::new(Code::Quarantined, "the entity is in quarantine").caused_by(Why(why))
            }
            host::Error::KeyReused => Self::new(
                Code::IdempotencyKeyReused,
                "the idempotency key was used for another request",
            )
            .at("Idempotency-Key", "must be a new value for a new request"),
        }
    }
}

/// A text that is logged, and not sent to the client.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Why(String);

fn storage(why: String) -> Error {
    let full = ["full", "no space", "quota"].iter().any(|word| why.to_lowercase().contains(word));
    let code = if full { Code::StorageFull } else { Code::TryAgain };
    Error::new(code, "the store cannot write; nothing was done").caused_by(Why(why))
}

/// The members of `version_mismatch`.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionMismatch {
    /// The current version; 0 of what does not exist.
    version: i64,
}

impl Members for VersionMismatch {
    const CODE: Code = Code::VersionMismatch;
}

/// The error for a version that does not match `If-Match`; 0 is the version of what does not exist.
#[must_use]
pub fn version_mismatch(version: i64) -> Error {
    let detail = match version {
        0 => "the current version is 0: it does not exist, or was never changed".to_owned(),
        _ => format!("the current version is {version}"),
    };
    let rule = match version {
        0 => "must be left out to create it".to_owned(),
        _ => format!("must be \"{version}\", the current version, or left out"),
    };
    Error::of(&VersionMismatch { version }, detail).at("If-Match", rule)
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match &error {
            store::Error::Refused(why) => Self::new(Code::BadRequest, why.clone()),
            // An operator must act, and the log says how.
            store::Error::Locked(_) => {
                Self::new(Code::TryAgain, "the store does not have its master key").caused_by(error)
            }
            _ if error.is_passing() => {
                Self::new(Code::TryAgain, "the store does not respond").caused_by(error)
            }
            _ => Self::internal(error),
        }
    }
}

impl From<store::journal::ReadError> for Error {
    fn from(error: store::journal::ReadError) -> Self {
        Self::internal(error)
    }
}

impl From<row_host::Error> for Error {
    fn from(error: row_host::Error) -> Self {
        match error {
            row_host::Error::Exists => Self::new(Code::AlreadyExists, "it already exists"),
            row_host::Error::NotFound => Self::not_found("thing"),
            row_host::Error::VersionMismatch { version } => version_mismatch(version),
            row_host::Error::Store(error) => error.into(),
            row_host::Error::TryAgain => Self::new(Code::TryAgain, "the outcome is unknown"),
            row_host::Error::Refused(why) => {
                let detail = "the store refused a value: it must be unique and is taken, or it is \
                              not allowed";
                Self::new(Code::WrongState, detail).caused_by(Why(why))
            }
            row_host::Error::Storage(why) => storage(why),
        }
    }
}
