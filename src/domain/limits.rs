//! Validators for garde, each with a message that says what a value must be.
//!
//! The limit of a single field is stated in its `garde` attribute; a condition on several fields is
//! a function next to their struct.

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

/// Checks that a condition on a value holds; `wanted` is the message (`must ...`).
///
/// # Errors
/// The message of `wanted`.
pub fn holds<S: AsRef<str>>(good: bool, wanted: impl FnOnce() -> S) -> garde::Result {
    if good { Ok(()) } else { Err(garde::Error::new(wanted().as_ref())) }
}

/// Checks that a text is empty, or begins with `http://` or `https://`.
///
/// # Errors
/// A message that names the two permitted prefixes.
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
