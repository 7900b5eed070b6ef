//! All that is wrong with a request, collected before it is refused: faults of its body, and those
//! that only a look-up finds.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::{HttpMessage as _, HttpRequest};

use crate::http::edge::error::Error;
use crate::http::edge::problem::{Code, FieldError};

/// Invalid fields, each with the code that it has alone.
#[derive(Clone, Debug, Default)]
pub struct RequestFaults {
    all: Vec<(Code, FieldError)>,
    may_be_more: bool,
}

impl RequestFaults {
    /// Adds a fault, unless one of the field, or of what contains it, is known.
    pub fn add(&mut self, code: Code, field: impl Into<String>, message: impl Into<String>) {
        let field = field.into();
        if !self.has(&field) {
            self.all.push((code, FieldError { field, message: message.into() }));
        }
    }

    /// Adds a fault for which `invalid_request` is the code.
    pub fn invalid(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(Code::InvalidRequest, field, message);
    }

    /// What was read, or a default and the faults that the error names.
    pub fn note<T: Default>(&mut self, read: Result<T, Error>) -> T {
        read.unwrap_or_else(|error| {
            for fault in error.fields() {
                self.add(error.code(), fault.field.clone(), fault.message.clone());
            }
            T::default()
        })
    }

    /// Adds all faults of another part of the request.
    pub fn extend(&mut self, others: Self) {
        self.may_be_more |= others.may_be_more;
        for (code, fault) in others.all {
            self.add(code, fault.field, fault.message);
        }
    }

    /// Leaves the faults with the request, for whoever calls [`RequestFaults::left`]: those of the
    /// headers and the query are told together with those of the body.
    pub fn leave(self, request: &HttpRequest) {
        if !self.is_empty() {
            let mut all = Self::left(request);
            all.extend(self);
            request.extensions_mut().insert(all);
        }
    }

    /// Takes the faults that were left with a request.
    #[must_use]
    pub fn left(request: &HttpRequest) -> Self {
        request.extensions_mut().remove::<Self>().unwrap_or_default()
    }

    /// Whether a field, or what contains it, is known to be faulty.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.all.iter().any(|(_, fault)| contains(&fault.field, field))
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The invalid fields.
    #[must_use]
    pub fn into_fields(self) -> Vec<FieldError> {
        self.all.into_iter().map(|(_, fault)| fault).collect()
    }

    /// Refuses the request if there are any.
    ///
    /// # Errors
    /// All of them, with their common code, or `invalid_request` if they have several.
    pub fn check(self) -> Result<(), Error> {
        if self.is_empty() { Ok(()) } else { Err(self.refusal()) }
    }

    /// The error with all of them.
    #[must_use]
    pub fn refusal(self) -> Error {
        let first = self.all.first().map_or(Code::InvalidRequest, |(code, _)| *code);
        let same = self.all.iter().all(|(code, _)| *code == first);
        let code = if same { first } else { Code::InvalidRequest };
        let (may_be_more, fields) = (self.may_be_more, self.into_fields());
        if may_be_more { Error::faulty_at_least(code, fields) } else { Error::faulty(code, fields) }
    }

    /// The same, of which not all could be looked for.
    #[must_use]
    pub const fn and_maybe_more(mut self) -> Self {
        self.may_be_more = true;
        self
    }
}

impl RequestFaults {
    /// Refuses the request if there are any, or if this value of a field is one.
    ///
    /// # Errors
    /// Those of [`RequestFaults::check`].
    pub fn check_with<T, E: fmt::Display>(
        mut self,
        field: &str,
        value: Result<T, E>,
    ) -> Result<T, Error> {
        match value {
            Ok(value) => self.check().map(|()| value),
            Err(rule) => {
                self.invalid(field, rule.to_string());
                let alone = Error::field(field, rule.to_string());
                Err(self.check().err().unwrap_or(alone))
            }
        }
    }
}

/// A part of a request other than its body. If it has faults, they are left with the request for the
/// part of the body; a handler that takes no body, or takes it before this part, is not called.
#[derive(Debug)]
pub struct PartOfRequest<T> {
    request: HttpRequest,
    part: Option<Result<T, Error>>,
}

impl<T> PartOfRequest<T> {
    /// The part, or why it cannot be read at all.
    #[must_use]
    pub fn new(request: &HttpRequest, part: Result<T, Error>) -> Self {
        Self { request: request.clone(), part: Some(part) }
    }
}

impl<T: Unpin> Future for PartOfRequest<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        // All parts were begun before the first is polled: the part of the body has taken the faults.
        let unclaimed = RequestFaults::left(&self.request).check();
        match (unclaimed, self.part.take()) {
            (Ok(()), Some(part)) => Poll::Ready(part),
            (Err(faults), _) => Poll::Ready(Err(faults)),
            (Ok(()), None) => Poll::Pending,
        }
    }
}

impl From<Vec<FieldError>> for RequestFaults {
    fn from(fields: Vec<FieldError>) -> Self {
        let all = fields.into_iter().map(|fault| (Code::InvalidRequest, fault));
        Self { all: all.collect(), may_be_more: false }
    }
}

/// Whether a field is another one or is inside of it.
#[must_use]
pub fn contains(outer: &str, field: &str) -> bool {
    match field.strip_prefix(outer) {
        Some(rest) => rest.is_empty() || rest.starts_with(['.', '[']) || outer.is_empty(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixture_of_codes_is_an_invalid_request() {
        assert!(RequestFaults::default().check().is_ok());
        let mut faults = RequestFaults::default();
        faults.add(Code::UnknownSku, "lines[0].sku", "is unknown");
        faults.add(Code::UnknownSku, "lines[1].sku", "is unknown");
        assert_eq!(faults.clone().check().unwrap_err().code(), Code::UnknownSku);
        faults.invalid("lines[2]", "must be an object");
        faults.invalid("lines[2].sku", "is part of a faulty value");
        faults.invalid("lines[20]", "must be an object");
        let error = faults.check().unwrap_err();
        assert_eq!((error.code(), error.fields().len()), (Code::InvalidRequest, 4));
    }
}
