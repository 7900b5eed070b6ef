//! Searches for the parts of words. The values to be searched are joined into one text, from which
//! the databases make an index of all parts of three characters.
//!
//! How each database finds a part in many texts is in `store`.

use std::collections::HashSet;
use std::iter;

use crate::domain::case_folding::fold_case;

/// The most bytes of a search text: words beyond them are left out.
pub const SEARCH_TEXT_MAX: usize = 65_536;
/// Shorter words are found only as whole words, because an index has no shorter parts.
const PART_MIN: usize = 3;
/// A phone number with fewer digits is searched for as it is written.
const PHONE_DIGITS_MIN: usize = 6;

/// The case-folded words of a text, which white space and control characters separate.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    let folded = fold_case(text);
    let parts = folded.split(|c: char| c.is_whitespace() || c.is_control());
    parts.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The text in which the words of some values are found: each word once, in a line of its own, with
/// a newline before the first and after the last one.
#[must_use]
pub fn search_text<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let (mut text, mut seen) = ("\n".to_owned(), HashSet::new());
    for word in values.into_iter().flat_map(words) {
        if text.len() + word.len() < SEARCH_TEXT_MAX && !seen.contains(&word) {
            text.push_str(&word);
            text.push('\n');
            seen.insert(word);
        }
    }
    text
}

/// The words that somebody searches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// What a search text contains if it has the word, one for each word.
    needles: Vec<String>,
}

impl Search {
    /// The words of a text; `None` if there are none. A word of one or two characters is searched
    /// for as a whole word, and so is a number after a `#`.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let mut needles: Vec<String> = words(text).into_iter().map(needle).collect();
        let mut seen = HashSet::new();
        needles.retain(|one| seen.insert(one.clone()));
        (!needles.is_empty()).then_some(Self { needles })
    }

    /// What a search text must contain, to have each of the words.
    #[must_use]
    pub fn needles(&self) -> &[String] {
        &self.needles
    }

    /// Whether a search text has all of the words.
    #[must_use]
    pub fn finds(&self, text: &str) -> bool {
        self.needles.iter().all(|needle| text.contains(needle))
    }

    /// Whether a search text has one of the words.
    #[must_use]
    pub fn finds_one(&self, text: &str) -> bool {
        self.needles.iter().any(|needle| text.contains(needle))
    }
}

fn needle(word: String) -> String {
    if let Some(digits) = phone_digits(&word) {
        return digits;
    }
    let digits = word.strip_prefix('#').unwrap_or_default();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = word.chars().nth(PART_MIN - 1).is_none();
    if is_number || is_short { format!("\n{word}\n") } else { word }
}

/// The digits of a word that is a phone number: it begins with `+` or `(` and has nothing but digits
/// and the signs between them.
fn phone_digits(word: &str) -> Option<String> {
    let is_sign = |c: char| matches!(c, '+' | '(' | ')' | '-' | '.' | '/');
    let is_phone = word.starts_with(['+', '(']);
    let digits: String = word.chars().filter(char::is_ascii_digit).collect();
    let only = word.chars().all(|c| c.is_ascii_digit() || is_sign(c));
    (is_phone && only && digits.len() >= PHONE_DIGITS_MIN).then_some(digits)
}

/// The parts of three characters of a needle, in order.
pub fn trigrams(needle: &str) -> impl Iterator<Item = &str> {
    let ends =
        needle.char_indices().map(|(at, _)| at).chain(iter::once(needle.len())).skip(PART_MIN);
    needle.char_indices().zip(ends).filter_map(|((from, _), to)| needle.get(from..to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_by_any_part_of_it() {
        let text = search_text(["Ada  King\tLovelace", "ada@Example.com", "Straße\u{0}7", "Li"]);
        assert_eq!(text, "\nada\nking\nlovelace\nada@example.com\nstrasse\n7\nli\n");
        for (q, found) in [
            ("ada", true),
            ("LOVE ada", true),
            ("example.c", true),
            ("STRASSE", true),
            ("straße", true),
            ("raß", true),
            ("7", true),
            ("li", true),
            ("l", false),
            ("ki", false),
            ("#7", false),
            ("ada nobody", false),
            ("a king", false),
            ("adaking", false),
        ] {
            assert_eq!(Search::of(q).unwrap().finds(&text), found, "{q}");
        }
        let search = Search::of("nobody King").unwrap();
        assert!(search.finds_one(&text) && !search.finds(&text));
        assert_eq!(Search::of(" \t\u{0}"), None);
    }

    #[test]
    fn short_words_and_numbers_are_whole_words() {
        let search = Search::of("12 #1001 1001 #po 12 é").unwrap();
        assert_eq!(search.needles(), ["\n12\n", "\n#1001\n", "1001", "#po", "\né\n"]);
    }

    #[test]
    fn a_phone_number_is_searched_for_by_its_digits() {
        let needles = |q: &str| Search::of(q).unwrap().needles().join(" ");
        assert_eq!(needles("+442079460000"), "442079460000");
        assert_eq!(needles("(020)7946-0000"), "02079460000");
        assert_eq!(needles("+44 1234-5678 +PO-123456"), "+44 1234-5678 +po-123456");
    }

    #[test]
    fn a_long_text_ends_with_a_whole_word() {
        let values: Vec<String> = (0..40_000).map(|n| format!("word-{n}")).collect();
        let text = search_text(values.iter().map(String::as_str));
        assert!(text.len() <= SEARCH_TEXT_MAX && text.len() > SEARCH_TEXT_MAX - 20);
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn trigrams_are_of_characters() {
        assert_eq!(trigrams("müll\n").collect::<Vec<_>>(), ["mül", "üll", "ll\n"]);
        assert_eq!(trigrams("abc").collect::<Vec<_>>(), ["abc"]);
        assert_eq!(trigrams("ab").count(), 0);
    }
}
