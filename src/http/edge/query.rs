//! Query strings: unknown parameters are refused; lists have a page size (`limit`) and an opaque
//! page cursor (`after`).

use std::collections::BTreeMap;
use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::web;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::problem::Code;

/// The maximum number of rows of a page.
pub const LIMIT_MAX: u32 = 200;
const LIMIT: u32 = 50;

/// A query string whose parameters are all known.
#[derive(Debug)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Parses a request's query.
    ///
    /// # Errors
    /// 400 `unknown_filter` for parameters that are not in `known`; 422 for parameters that occur
    /// twice.
    pub fn of(request: &HttpRequest, known: &[&str]) -> Result<Self, Error> {
        Self::parse(request.query_string(), known)
    }

    /// Parses the text of a query.
    ///
    /// # Errors
    /// Those of [`Query::of`].
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, Error> {
        let broken = |_| Error::new(Code::BadRequest, "the query string cannot be read");
        let pairs = web::Query::<Vec<(String, String)>>::from_query(text).map_err(broken)?;
        let (mut all, mut faults) = (BTreeMap::new(), RequestFaults::default());
        for (name, value) in pairs.into_inner() {
            if !known.contains(&name.as_str()) {
                let message = match known {
                    [] => "is not a parameter here: there are none".to_owned(),
                    known => {
                        format!("is not a parameter here: the parameters are {}", known.join(", "))
                    }
                };
                faults.add(Code::UnknownFilter, name, message);
            } else if all.insert(name.clone(), value).is_some() {
                faults.invalid(name, "must occur only once");
            }
        }
        faults.check().map(|()| Self(all))
    }

    /// A parameter as text; an empty one counts as absent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a parameter, parsed.
    ///
    /// # Errors
    /// 422 with the name of the parameter if its value cannot be parsed.
    pub fn read<T: FromStr>(&self, name: &str, must_be: &str) -> Result<Option<T>, Error> {
        let value = self.text(name).map(str::parse::<T>).transpose();
        value.map_err(|_| Error::field(name, must_be))
    }

    /// Whether a parameter is `true`.
    ///
    /// # Errors
    /// 422 for anything but `true` and `false`.
    pub fn flag(&self, name: &str) -> Result<bool, Error> {
        Ok(self.read(name, "must be true or false")?.unwrap_or(false))
    }

    /// The page size.
    ///
    /// # Errors
    /// 422 for anything but 1 to [`LIMIT_MAX`].
    pub fn limit(&self) -> Result<u32, Error> {
        let wrong = "must be a number from 1 to 200";
        let limit = self.read("limit", wrong)?.unwrap_or(LIMIT);
        if (1..=LIMIT_MAX).contains(&limit) { Ok(limit) } else { Err(Error::field("limit", wrong)) }
    }

    /// The key of the row after which the page begins, from the page cursor `after`; `list` is the
    /// name of the list in its cursors.
    ///
    /// # Errors
    /// 400 `invalid_cursor` if `after` is not a page cursor of this list.
    pub fn after<T: FromStr>(&self, list: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.text("after") else {
            return Ok(None);
        };
        let key = decode(text, list).and_then(|key| key.parse().ok());
        let wrong = || Error::new(Code::InvalidCursor, "`after` is not a cursor of this list");
        key.ok_or_else(wrong).map(Some)
    }
}

/// The cursor of the page that begins after the row with this key.
#[must_use]
pub fn cursor(list: &str, key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}:{key}"))
}

fn decode(text: &str, list: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    Some(text.strip_prefix(list)?.strip_prefix(':')?.to_owned())
}

/// Truncates rows that were read with a limit of one more than `limit`, and returns whether there
/// was an extra row.
pub fn cut<T>(rows: &mut Vec<T>, limit: u32) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_query_parameter_is_refused() {
        let known = ["limit", "after", "q"];
        let code = |text: &str| {
            Query::parse(text, &known).and_then(|query| query.limit()).err().map(|e| e.code())
        };
        assert_eq!(code("limit=1&q=a%20b"), None);
        assert_eq!(code("colour=red"), Some(Code::UnknownFilter));
        for bad in ["limit=0", "limit=201", "limit=x", "limit=-1", "limit=1&limit=2"] {
            assert_eq!(code(bad), Some(Code::InvalidRequest), "{bad}");
        }
    }

    #[test]
    fn a_cursor_belongs_to_its_list() {
        let query = |text: &str| Query(BTreeMap::from([("after".to_owned(), text.to_owned())]));
        let here = cursor("orders", "ord_1");
        assert_eq!(query(&here).after::<String>("orders").unwrap().as_deref(), Some("ord_1"));
        for bad in [here.as_str(), "!!", "ord_1"] {
            let error = query(bad).after::<String>("products").unwrap_err();
            assert_eq!(error.code(), Code::InvalidCursor, "{bad}");
        }
    }
}
