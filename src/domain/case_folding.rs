//! Comparing texts without their case, in all alphabets, by Unicode's case folding. Both databases
//! know no more than that of ASCII, each in its own way: what is compared is folded here.

use unicase::UniCase;

/// A text as it is compared when its case does not count: `MÜLL` and `müll` are the same, and so are
/// `STRASSE` and `Straße`.
#[must_use]
pub fn fold_case(text: &str) -> String {
    UniCase::new(text).to_folded_case()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_count_in_any_alphabet() {
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
