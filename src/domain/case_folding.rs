//! Case-insensitive comparison in all alphabets, by Unicode's case folding. SQLite folds only
//! ASCII, and PostgreSQL by the collation, so texts to be compared are folded here, before they are
//! stored or searched.

use unicase::UniCase;

/// Returns the case-folded form of a text: `MÜLL` and `müll` have the same form, and so do
/// `STRASSE` and `Straße`.
#[must_use]
pub fn fold_case(text: &str) -> String {
    UniCase::new(text).to_folded_case()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_folding_ignores_case_in_all_alphabets() {
        for (one, other) in [
            ("Ada@Example.com", "ada@example.COM"),
            ("MÜLLBEUTEL", "Müllbeutel"),
            ("STRASSE", "Straße"),
            ("ΟΔΟΣ", "οδος"),
            ("ПАЛЬТО", "Пальто"),
        ] {
            assert_eq!(fold_case(one), fold_case(other));
        }
        assert_ne!(fold_case("Mull"), fold_case("Müll"));
    }
}
