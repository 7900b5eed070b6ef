//! Writes on the condition that a resource has a certain version: the `If-Match` header, as in RFC
//! 9110, section 13.1.1.
//!
//! The ETag of a resource is its version. The comparison is strong: a weak ETag (`W/"4"`) matches
//! nothing, and neither does an ETag that is not a version.

use actix_web::http::header::{self, HeaderMap};

use crate::actors::engine::row_host::{self, Expect, RowHost, WriteOutcome};
use crate::domain::entity::Cause;
use crate::http::edge::error::{Error, version_mismatch};
use crate::store::versioned::{Row, VersionedRow};

/// A number that is no version.
const NO_VERSION: i64 = -1;

/// The condition of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// No condition: the resource need not even exist.
    #[default]
    Anything,
    /// The resource exists, in any version (`*`).
    AnyVersion,
    /// The resource has one of these versions.
    OneOf(Vec<i64>),
}

impl IfMatch {
    /// The condition of a request.
    ///
    /// # Errors
    /// 422 if the header is neither `*` nor a list of ETags.
    pub fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let (mut tags, mut any, mut named) = (Vec::new(), false, false);
        for value in headers.get_all(header::IF_MATCH) {
            let text = value.to_str().map_err(|_| malformed())?.trim();
            named = true;
            if text == "*" {
                any = true;
            } else {
                tags.extend(versions(text)?);
            }
        }
        Ok(match (named, any) {
            (false, _) => Self::Anything,
            (true, true) => Self::AnyVersion,
            (true, false) => Self::OneOf(tags),
        })
    }

    /// Whether a resource that exists in this version may be written.
    #[must_use]
    pub fn allows(&self, version: i64) -> bool {
        match self {
            Self::Anything | Self::AnyVersion => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }

    /// Writes if the condition holds. `write` gets the version that the resource must have, or
    /// `None` for any; if the resource has another version, `write` returns that version as the
    /// inner `Err`, and is called again if the condition allows it.
    ///
    /// # Errors
    /// 412 if the condition does not hold; the errors of `write`.
    pub async fn write<T>(
        &self,
        write: impl AsyncFn(Option<i64>) -> Result<Result<T, i64>, Error>,
    ) -> Result<T, Error> {
        let Self::OneOf(versions) = self else {
            return write(None).await?.map_err(version_mismatch);
        };
        let mut expected = versions.first().copied().unwrap_or(NO_VERSION);
        for _ in versions {
            match write(Some(expected)).await? {
                Err(version) if version != expected && self.allows(version) => expected = version,
                written => return written.map_err(version_mismatch),
            }
        }
        write(Some(expected)).await?.map_err(version_mismatch)
    }

    /// Writes a row if the condition holds.
    ///
    /// # Errors
    /// 412 if the condition does not hold, for example because the row does not exist; the errors
    /// of [`RowHost::put`].
    pub async fn put<T: VersionedRow>(
        &self,
        rows: &RowHost<T>,
        value: T,
        cause: Cause,
    ) -> Result<(Row<T>, WriteOutcome), Error> {
        if *self == Self::AnyVersion && rows.get(value.key()).await?.is_none() {
            return Err(version_mismatch(0));
        }
        self.write(async |version| {
            let expect = version.map_or(Expect::Any, Expect::Version);
            match rows.put(value.clone(), expect, cause.clone()).await {
                Err(row_host::Error::VersionMismatch { version }) => Ok(Err(version)),
                Err(row_host::Error::NotFound) => Ok(Err(0)),
                written => Ok(Ok(written?)),
            }
        })
        .await
    }
}

/// The versions in a list of ETags.
fn versions(mut list: &str) -> Result<Vec<i64>, Error> {
    let mut versions = Vec::new();
    loop {
        list = list.trim_start_matches([' ', '\t', ',']);
        if list.is_empty() {
            return Ok(versions);
        }
        let strong = list.strip_prefix("W/");
        let opaque = strong.unwrap_or(list).strip_prefix('"');
        let (tag, rest) = opaque.and_then(|text| text.split_once('"')).ok_or_else(malformed)?;
        list = rest.trim_start_matches([' ', '\t']);
        if !list.is_empty() && !list.starts_with(',') {
            return Err(malformed());
        }
        // Only a version as it is sent in `ETag` matches: `04` and `+4` are other tags.
        let version = tag.parse().ok().filter(|version: &i64| version.to_string() == tag);
        versions.extend(version.filter(|_| strong.is_none()));
    }
}

fn malformed() -> Error {
    Error::field("If-Match", "must be ETags in quotes, for example \"4\", or *")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use actix_web::http::header::HeaderValue;

    use super::*;

    fn of(values: &[&'static str]) -> Result<IfMatch, Error> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        IfMatch::of(&headers)
    }

    #[test]
    fn if_match_is_a_star_or_a_list_of_etags() {
        use IfMatch::{AnyVersion, Anything, OneOf};
        assert_eq!(of(&[]).unwrap(), Anything);
        assert_eq!(of(&[" * "]).unwrap(), AnyVersion);
        for (values, versions) in [
            (vec!["\"4\""], vec![4]),
            (vec!["\"3\", \"4\""], vec![3, 4]),
            (vec!["\"3\"", "\"4\""], vec![3, 4]),
            (vec![",\"3\" ,\t,\"4\","], vec![3, 4]),
            (vec!["W/\"4\""], vec![]),
            (vec!["W/\"3\",\"4\""], vec![4]),
            (vec!["\"04\", \"+4\", \"\", \"a, b\", \"4 \", \"99999999999999999999\""], vec![]),
            (vec![""], vec![]),
        ] {
            assert_eq!(of(&values).unwrap(), OneOf(versions), "{values:?}");
        }
        for value in ["4", "\"4", "\"4\" \"5\"", "w/\"4\"", "W/4", "*, \"4\"", "\"4\"x"] {
            assert!(of(&[value]).is_err(), "{value}");
        }
    }

    #[actix_web::test]
    async fn the_first_version_of_a_list_that_is_there_is_written() {
        for (listed, there, written) in [
            (vec![3, 4], 4, true),
            (vec![4, 3], 4, true),
            (vec![3, 5], 4, false),
            (vec![], 4, false),
        ] {
            let asked = RefCell::new(Vec::new());
            let done = IfMatch::OneOf(listed.clone())
                .write(async |expected| {
                    asked.borrow_mut().push(expected);
                    Ok(if expected == Some(there) { Ok(()) } else { Err(there) })
                })
                .await;
            assert_eq!(done.is_ok(), written, "{listed:?}");
            assert!(!asked.borrow().contains(&None), "{listed:?}");
        }
    }
}
