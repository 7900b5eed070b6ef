//! Query strings: unknown parameters are refused; lists have a page size (`limit`), an opaque page
//! cursor (`after`) and an order (`sort`). A filter may have several values.

use std::collections::BTreeMap;
use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::web;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use strum::VariantArray;

use crate::domain::time::Timestamp;
use crate::http::edge::error::Error;
use crate::http::edge::faults::RequestFaults;
use crate::http::edge::problem::Code;

/// The maximum number of rows of a page.
pub const LIMIT_MAX: u32 = 200;
const LIMIT: u32 = 50;
/// The most values of one parameter.
pub const VALUES_MAX: usize = 100;
/// The maximum length of what is searched for, in characters: that of an email address.
const SEARCH_MAX: usize = 254;

/// A query string whose parameters are all known.
#[derive(Debug)]
pub struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    /// Parses a request's query.
    ///
    /// # Errors
    /// 400 `unknown_filter` for parameters that are not in `known`; 422 for parameters that occur
    /// twice.
    pub fn of(request: &HttpRequest, known: &[&str]) -> Result<Self, Error> {
        Self::parse(request.query_string(), (known, &[]))
    }

    /// Parses a request's query whose parameters `many` may have several values; the others are in
    /// `known`.
    ///
    /// # Errors
    /// Those of [`Query::of`].
    pub fn of_list(request: &HttpRequest, known: &[&str], many: &[&str]) -> Result<Self, Error> {
        Self::parse(request.query_string(), (known, many))
    }

    /// Parses the text of a query.
    ///
    /// # Errors
    /// Those of [`Query::of`].
    pub fn parse(text: &str, (known, many): (&[&str], &[&str])) -> Result<Self, Error> {
        let broken = |_| Error::new(Code::BadRequest, "the query string cannot be read");
        let pairs = web::Query::<Vec<(String, String)>>::from_query(text).map_err(broken)?;
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut faults = RequestFaults::default();
        for (name, value) in pairs.into_inner() {
            let once = known.contains(&name.as_str());
            if !once && !many.contains(&name.as_str()) {
                let message = match [many, known].concat().as_slice() {
                    [] => "is not a parameter here: there are none".to_owned(),
                    known => {
                        format!("is not a parameter here: the parameters are {}", known.join(", "))
                    }
                };
                faults.add(Code::UnknownFilter, name, message);
                continue;
            }
            let values = all.entry(name.clone()).or_default();
            if once && !values.is_empty() {
                faults.invalid(name, "must occur only once");
            }
            values.push(value);
        }
        faults.check().map(|()| Self(all))
    }

    /// All parameters that are not empty, with their texts.
    #[must_use]
    pub fn parameters(&self) -> BTreeMap<String, Vec<String>> {
        let mut all = self.0.clone();
        all.values_mut().for_each(|texts| texts.retain(|text| !text.is_empty()));
        all.retain(|_, texts| !texts.is_empty());
        all
    }

    /// A parameter as text; an empty one counts as absent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The words in `q` that are searched for; empty without it.
    ///
    /// # Errors
    /// 422 for more than [`SEARCH_MAX`] characters.
    pub fn search(&self) -> Result<&str, Error> {
        let text = self.text("q").unwrap_or_default().trim();
        if text.chars().count() > SEARCH_MAX {
            return Err(Error::field("q", format!("must have at most {SEARCH_MAX} characters")));
        }
        Ok(text)
    }

    /// The values of a parameter, parsed: separated by commas, or in several parameters of the same
    /// name. `\,` is a comma inside a value.
    ///
    /// # Errors
    /// 422 with the name of the parameter for a value that cannot be parsed, or too many values.
    pub fn values<T: FromStr>(&self, name: &str, must_be: &str) -> Result<Vec<T>, Error> {
        let mut values: Vec<String> = Vec::new();
        for value in self.0.get(name).into_iter().flatten().flat_map(|text| split(text)) {
            if !value.is_empty() && !values.contains(&value) {
                values.push(value);
            }
            if values.len() > VALUES_MAX {
                let message = format!("must have at most {VALUES_MAX} values");
                return Err(Error::field(name, message));
            }
        }
        let wrong = |value: &str| Error::field(name, format!("{must_be}, not {value:?}"));
        values.iter().map(|value| value.parse().map_err(|_| wrong(value))).collect()
    }

    /// The values of a parameter that must each be one of the names of `S`.
    ///
    /// # Errors
    /// 422 with the name of the parameter, and the names, for another value.
    pub fn choices<S>(&self, name: &str) -> Result<Vec<S>, Error>
    where
        S: VariantArray + FromStr + Into<&'static str> + Copy,
    {
        let known: Vec<&str> = S::VARIANTS.iter().map(|one| (*one).into()).collect();
        self.values(name, &format!("must be one of {}", known.join(", ")))
    }

    /// The order of a list; its default if there is none.
    ///
    /// # Errors
    /// 422 with the possible orders.
    pub fn sort<S>(&self) -> Result<S, Error>
    where
        S: VariantArray + FromStr + Into<&'static str> + Copy + Default,
    {
        match *self.choices("sort")?.as_slice() {
            [] => Ok(S::default()),
            [sort] => Ok(sort),
            _ => Err(Error::field("sort", "must have one value")),
        }
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

    /// The time in a parameter.
    ///
    /// # Errors
    /// 422 with the name of the parameter.
    pub fn moment(&self, name: &str) -> Result<Option<Timestamp>, Error> {
        let wrong =
            || Error::field(name, "must be an RFC 3339 time, for example 2026-01-31T12:00:00Z");
        self.text(name).map(|text| Timestamp::parse(text).ok_or_else(wrong)).transpose()
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

/// The name that a list has in its page cursors: a cursor of one order does not fit another.
#[must_use]
pub fn sorted_list<S: Default + PartialEq + Into<&'static str>>(list: &str, sort: S) -> String {
    let usual = sort == S::default();
    if usual { list.to_owned() } else { format!("{list} {}", sort.into()) }
}

/// The values of a text that are separated by commas, trimmed.
fn split(text: &str) -> Vec<String> {
    let mut values = vec![String::new()];
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        let next = if next == '\\' && rest.next_if_eq(&',').is_some() {
            Some(',')
        } else {
            (next != ',').then_some(next)
        };
        match (next, values.last_mut()) {
            (Some(next), Some(value)) => value.push(next),
            _ => values.push(String::new()),
        }
    }
    values.iter().map(|value| value.trim().to_owned()).collect()
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
            Query::parse(text, (&known, &["sku"]))
                .and_then(|query| query.limit())
                .err()
                .map(|e| e.code())
        };
        assert_eq!(code("limit=1&q=a%20b"), None);
        assert_eq!(code("colour=red"), Some(Code::UnknownFilter));
        for bad in ["limit=0", "limit=201", "limit=x", "limit=-1", "limit=1&limit=2"] {
            assert_eq!(code(bad), Some(Code::InvalidRequest), "{bad}");
        }
    }

    #[test]
    fn a_filter_has_several_values() {
        let values = |text: &str| {
            let query = Query::parse(text, (&["q"], &["sku"])).unwrap();
            query.values::<String>("sku", "must be a SKU")
        };
        for (text, expected) in [
            ("", &[][..]),
            ("sku=", &[]),
            ("sku=a", &["a"]),
            ("sku=a,b&sku=c", &["a", "b", "c"]),
            ("sku=a&sku=a,%20b%20,,a", &["a", "b"]),
            ("sku=a%5C,b,c%5Cd", &["a,b", "c\\d"]),
        ] {
            assert_eq!(values(text).unwrap(), expected, "{text}");
        }
        let many = (0..=VALUES_MAX).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert!(values(&format!("sku={many}")).is_err());
        let query = Query::parse("sku=1,x", (&[], &["sku"])).unwrap();
        assert!(query.values::<i64>("sku", "must be a number").is_err());
    }

    #[test]
    fn a_cursor_belongs_to_its_list() {
        let query =
            |text: &str| Query(BTreeMap::from([("after".to_owned(), vec![text.to_owned()])]));
        let here = cursor("orders", "ord_1");
        assert_eq!(query(&here).after::<String>("orders").unwrap().as_deref(), Some("ord_1"));
        for bad in [here.as_str(), "!!", "ord_1"] {
            let error = query(bad).after::<String>("products").unwrap_err();
            assert_eq!(error.code(), Code::InvalidCursor, "{bad}");
        }
    }
}
