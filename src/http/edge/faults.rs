//! All that is wrong with a request, collected before it is refused: faults of its body, and those
//! that only a look-up finds.

use std::fmt;

use crate::http::edge::error::Error;
use crate::http::edge::problem::{Code, FieldError};

/// The most faults that are reported at once.
pub const FAULTS_MAX: usize = 50;

/// Invalid fields, each with the code that it has alone.
#[derive(Clone, Debug, Default)]
pub struct RequestFaults(Vec<(Code, FieldError)>);

impl RequestFaults {
    /// Adds a fault, unless one of the field, or of what contains it, is known.
    pub fn add(&mut self, code: Code, field: impl Into<String>, message: impl Into<String>) {
        let field = field.into();
        if !self.has(&field) {
            self.0.push((code, FieldError { field, message: message.into() }));
        }
    }

    /// Adds a fault for which `invalid_request` is the code.
    pub fn invalid(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.add(Code::InvalidRequest, field, message);
    }

    /// Whether a field, or what contains it, is known to be faulty.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.0.iter().any(|(_, fault)| contains(&fault.field, field))
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The invalid fields.
    #[must_use]
    pub fn into_fields(self) -> Vec<FieldError> {
        self.0.into_iter().map(|(_, fault)| fault).take(FAULTS_MAX).collect()
    }

    /// Refuses the request if there are any.
    ///
    /// # Errors
    /// All of them, with their common code, or `invalid_request` if they have several.
    pub fn check(self) -> Result<(), Error> {
        let Some((first, _)) = self.0.first() else { return Ok(()) };
        let first = *first;
        let same = self.0.iter().all(|(code, _)| *code == first);
        let code = if same { first } else { Code::InvalidRequest };
        Err(Error::faulty(code, self.into_fields()))
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

impl From<Vec<FieldError>> for RequestFaults {
    fn from(fields: Vec<FieldError>) -> Self {
        Self(fields.into_iter().map(|fault| (Code::InvalidRequest, fault)).collect())
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
