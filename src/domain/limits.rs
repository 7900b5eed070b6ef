//! How far single values may go: checks for garde, each of which says what a value must be.
//!
//! What a field's limit is stands beside the field; what must be true of several together is
//! checked where their struct is.

use std::fmt::Display;
use std::ops::RangeInclusive;

/// Checks that a number is within a range.
pub fn within<N: PartialOrd + Display>(
    range: RangeInclusive<N>,
) -> impl Fn(&N, &()) -> garde::Result {
    move |value, ()| {
        let (first, last) = (range.start(), range.end());
        holds(range.contains(value), || format!("must be from {first} to {last}"))
    }
}

/// Checks that something is true of a value, which must otherwise be what `wanted` says
/// (`must ...`).
///
/// # Errors
/// What `wanted` says.
pub fn holds<S: AsRef<str>>(good: bool, wanted: impl FnOnce() -> S) -> garde::Result {
    if good { Ok(()) } else { Err(garde::Error::new(wanted().as_ref())) }
}

/// Checks that a text is empty, or the address of a web server.
///
/// # Errors
/// What it must begin with.
pub fn web_address(url: &str, (): &()) -> garde::Result {
    let web = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    holds(url.is_empty() || web, || "must begin with http:// or https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_both_its_ends() {
        let check = within(1..=3);
        assert!([1, 2, 3].iter().all(|value| check(value, &()).is_ok()));
        assert_eq!(check(&0, &()).unwrap_err().message(), "must be from 1 to 3");
        assert!(within(0.0..=1.0)(&f32::NAN, &()).is_err());
    }
}
