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
/// The rule for a filter that is given without a value.
pub const NO_VALUE: &str = "must not be empty: leave it out to select all";
/// The maximum length of what is searched for, in characters: that of an email address.
const SEARCH_MAX: usize = 254;

/// A query string, and what is wrong with it. What is read from a faulty value is a default: a
/// handler calls [`Query::check`] before it uses what it has read.
#[derive(Debug, Default)]
pub struct Query {
    values: BTreeMap<String, Vec<String>>,
    /// What is wrong: unknown parameters, and the values that were read so far.
    pub faults: RequestFaults,
}

impl Query {
    /// Parses a request's query, whose parameters are in `known`.
    ///
    /// # Errors
    /// 400 for a text that is no query.
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
        let mut query = Self::default();
        for (name, value) in pairs.into_inner() {
            let once = known.contains(&name.as_str());
            if !once && !many.contains(&name.as_str()) {
                let message = match [many, known].concat().as_slice() {
                    [] => "is not a parameter here: there are none".to_owned(),
                    known => {
                        format!("is not a parameter here: the parameters are {}", known.join(", "))
                    }
                };
                query.faults.add(Code::UnknownFilter, name, message);
                continue;
            }
            let values = query.values.entry(name.clone()).or_default();
            if once && !values.is_empty() {
                query.faults.invalid(name, "must occur only once");
            }
            values.push(value);
        }
        Ok(query)
    }

    /// Refuses the request if its query has faults.
    ///
    /// # Errors
    /// All of them: 400 `unknown_filter` for unknown parameters only, 400 `invalid_cursor` for the
    /// page cursor only, or else 422.
    pub fn check(&mut self) -> Result<(), Error> {
        std::mem::take(&mut self.faults).check()
    }

    /// All parameters that are not empty, with their texts.
    #[must_use]
    pub fn parameters(&self) -> BTreeMap<String, Vec<String>> {
        let mut all = self.values.clone();
        all.values_mut().for_each(|texts| texts.retain(|text| !text.is_empty()));
        all.retain(|_, texts| !texts.is_empty());
        all
    }

    /// A parameter as text; an empty one counts as absent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.first().map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The words in `q` that are searched for, at most [`SEARCH_MAX`] characters; empty without it.
    pub fn search(&mut self) -> &str {
        let long = self.text("q").is_some_and(|text| text.trim().chars().count() > SEARCH_MAX);
        if long {
            self.faults.invalid("q", format!("must have at most {SEARCH_MAX} characters"));
        }
        self.text("q").unwrap_or_default().trim()
    }

    /// The values of a parameter, parsed: separated by commas, or in several parameters of the same
    /// name, at most [`VALUES_MAX`]. `\,` is a comma inside a value. The fault names all values that
    /// cannot be parsed.
    pub fn values<T: FromStr>(&mut self, name: &str, must_be: &str) -> Vec<T> {
        let mut values: Vec<String> = Vec::new();
        for value in self.values.get(name).into_iter().flatten().flat_map(|text| split(text)) {
            if !value.is_empty() && !values.contains(&value) {
                values.push(value);
            }
            if values.len() > VALUES_MAX {
                self.faults.invalid(name, too_many_values());
                return Vec::new();
            }
        }
        if values.is_empty() && self.values.contains_key(name) {
            self.faults.invalid(name, NO_VALUE);
        }
        let (mut parsed, mut wrong) = (Vec::with_capacity(values.len()), Vec::new());
        for value in &values {
            match value.parse() {
                Ok(value) => parsed.push(value),
                Err(_) => wrong.push(format!("{value:?}")),
            }
        }
        if !wrong.is_empty() {
            self.faults.invalid(name, format!("{must_be}, not {}", wrong.join(", ")));
        }
        parsed
    }

    /// The values of a parameter that must each be one of the names of `S`.
    pub fn choices<S>(&mut self, name: &str) -> Vec<S>
    where
        S: VariantArray + FromStr + Into<&'static str> + Copy,
    {
        let known: Vec<&str> = S::VARIANTS.iter().map(|one| (*one).into()).collect();
        self.values(name, &format!("must be one of {}", known.join(", ")))
    }

    /// The order of a list; its default if there is none.
    pub fn sort<S>(&mut self) -> S
    where
        S: VariantArray + FromStr + Into<&'static str> + Copy + Default,
    {
        match *self.choices("sort").as_slice() {
            [] => S::default(),
            [sort] => sort,
            _ => {
                self.faults.invalid("sort", "must have one value");
                S::default()
            }
        }
    }

    /// The value of a parameter, parsed.
    pub fn read<T: FromStr>(&mut self, name: &str, must_be: &str) -> Option<T> {
        self.parsed(name, must_be, |text| text.parse().ok())
    }

    /// The value of a parameter that must be `true` or `false`.
    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        self.read(name, "must be true or false")
    }

    /// The time in a parameter.
    pub fn moment(&mut self, name: &str) -> Option<Timestamp> {
        let rule = "must be an RFC 3339 time, for example 2026-01-31T12:00:00Z";
        self.parsed(name, rule, Timestamp::parse)
    }

    /// The page size, from 1 to [`LIMIT_MAX`].
    pub fn limit(&mut self) -> u32 {
        let in_range = |limit: &u32| (1..=LIMIT_MAX).contains(limit);
        let read = |text: &str| text.parse().ok().filter(in_range);
        self.parsed("limit", "must be a number from 1 to 200", read).unwrap_or(LIMIT)
    }

    /// The key of the row after which the page begins, from the page cursor `after`; `list` is the
    /// name of the list in its cursors.
    pub fn after<T: FromStr>(&mut self, list: &str) -> Option<T> {
        let text = self.text("after")?;
        let key = decode(text, list).and_then(|key| key.parse().ok());
        if key.is_none() {
            self.wrong_cursor();
        }
        key
    }

    /// Adds the fault that `after` is not a page cursor of the list.
    pub fn wrong_cursor(&mut self) {
        let rule = "must be `next_cursor` of a page of this list in this order";
        self.faults.add(Code::InvalidCursor, "after", rule);
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        must_be: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let read = read(self.text(name)?);
        if read.is_none() {
            self.faults.invalid(name, must_be);
        }
        read
    }
}

/// The rule for a filter with more than [`VALUES_MAX`] values.
#[must_use]
pub fn too_many_values() -> String {
    format!("must have at most {VALUES_MAX} values")
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
            let mut query = Query::parse(text, (&known, &["sku"])).unwrap();
            query.limit();
            query.check().err().map(|error| error.code())
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
            let mut query = Query::parse(text, (&["q"], &["sku"])).unwrap();
            let values = query.values::<String>("sku", "must be a SKU");
            query.check().map(|()| values)
        };
        for (text, expected) in [
            ("", &[][..]),
            ("sku=a", &["a"]),
            ("sku=a,b&sku=c", &["a", "b", "c"]),
            ("sku=a&sku=a,%20b%20,,a", &["a", "b"]),
            ("sku=a%5C,b,c%5Cd", &["a,b", "c\\d"]),
        ] {
            assert_eq!(values(text).unwrap(), expected, "{text}");
        }
        assert!(values("sku=").is_err() && values("sku=,").is_err(), "nothing is not all");
        let many = (0..=VALUES_MAX).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert!(values(&format!("sku={many}")).is_err());
        let mut query = Query::parse("sku=1,x,y", (&[], &["sku"])).unwrap();
        assert_eq!(query.values::<i64>("sku", "must be a number"), [1]);
        let error = query.check().unwrap_err();
        assert_eq!(error.fields()[0].message, r#"must be a number, not "x", "y""#);
    }

    #[test]
    fn a_cursor_belongs_to_its_list() {
        let query = |text: &str| Query::parse(&format!("after={text}"), (&["after"], &[])).unwrap();
        let here = cursor("orders", "ord_1");
        assert_eq!(query(&here).after::<String>("orders").as_deref(), Some("ord_1"));
        for bad in [here.as_str(), "!!", "ord_1"] {
            let mut query = query(bad);
            assert_eq!(query.after::<String>("products"), None);
            assert_eq!(query.check().unwrap_err().code(), Code::InvalidCursor, "{bad}");
        }
    }
}
