//! Searches for the parts of words. The values to be searched are joined into one text, from which
//! the databases make an index of all parts of three characters. What is searched and what is
//! searched for are folded alike: case, accents and the ways to write a letter make no difference.
//!
//! How each database finds a part in many texts is in `store`.

use std::collections::HashSet;
use std::iter;

use unicode_normalization::UnicodeNormalization as _;

use crate::domain::case_folding::fold_case;

/// The most bytes of a search text: words beyond them are left out.
pub const SEARCH_TEXT_MAX: usize = 65_536;
/// Shorter words are found only as whole words, because an index has no shorter parts.
const PART_MIN: usize = 3;
/// A phone number with fewer digits is searched for as it is written; none has more than the second.
const PHONE_DIGITS: (usize, usize) = (6, 15);
/// The last digits of an international number, which a national one has, too.
const PHONE_DIGITS_SHARED: usize = 8;

/// A text as it is compared in searches: without the accents of Latin, Greek and Cyrillic letters,
/// without invisible marks, and with one form of each letter, apostrophe and hyphen.
#[must_use]
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut plain = String::with_capacity(text.len());
    for c in text.nfkd() {
        match c {
            '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{feff}' => {}
            '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' => {}
            'ø' | 'Ø' => plain.push('o'),
            'ł' | 'Ł' => plain.push('l'),
            'đ' | 'Đ' | 'ð' | 'Ð' => plain.push('d'),
            'ı' => plain.push('i'),
            'æ' | 'Æ' => plain.push_str("ae"),
            'œ' | 'Œ' => plain.push_str("oe"),
            'þ' | 'Þ' => plain.push_str("th"),
            '\u{2018}' | '\u{2019}' | '\u{2bc}' => plain.push('\''),
            '\u{2010}'..='\u{2015}' | '\u{2212}' => plain.push('-'),
            _ => plain.push(c),
        }
    }
    fold_case(&plain).nfc().collect()
}

/// The folded words of a text, which white space and control characters separate.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    words_of(&fold(text)).map(str::to_owned).collect()
}

fn words_of(folded: &str) -> impl Iterator<Item = &str> {
    folded
        .split(|c: char| {
            c == ' ' || (!c.is_ascii_graphic() && (c.is_whitespace() || c.is_control()))
        })
        .filter(|word| !word.is_empty())
}

/// The text in which the words of some values are found: each word once, in a line of its own, with
/// a newline before the first and after the last one. A short word, which is found as a whole only, is
/// there without its comma or full stop, too.
#[must_use]
pub fn search_text<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let folded: Vec<String> = values.into_iter().map(fold).collect();
    let (mut text, mut seen) = ("\n".to_owned(), HashSet::with_capacity(64));
    for word in folded.iter().flat_map(|one| words_of(one)) {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let bare = (is_short(bare) && !bare.is_empty()).then_some(bare);
        for word in bare.into_iter().chain([word]) {
            if text.len() + word.len() < SEARCH_TEXT_MAX && seen.insert(word) {
                text.push_str(word);
                text.push('\n');
            }
        }
    }
    text
}

/// The words that somebody searches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// What a search text contains if it has the words, one for each word; and the same with phone
    /// numbers read as such, or names joined, if there are any.
    ways: Vec<Vec<String>>,
}

impl Search {
    /// The words of a text; `None` if there are none. A word of one or two characters is searched
    /// for as a whole word, and so is a number after a `#`.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let words = words(text);
        let names: Vec<String> =
            words.iter().map(|word| joined_name(word).unwrap_or_else(|| word.clone())).collect();
        let ways = [
            as_written(&words),
            with_phone_numbers(&words),
            as_written(&names),
            with_phone_numbers(&names),
        ];
        let ways = ways.map(|mut needles| {
            let mut seen = HashSet::new();
            needles.retain(|one| seen.insert(one.clone()));
            needles
        });
        let mut seen = HashSet::new();
        let mut ways = ways.to_vec();
        ways.retain(|way| seen.insert(way.clone()));
        (!words.is_empty()).then_some(Self { ways })
    }

    /// The ways to find the words: a search text must contain all needles of one of them.
    #[must_use]
    pub fn ways(&self) -> &[Vec<String>] {
        &self.ways
    }

    /// Whether a search text has all of the words.
    #[must_use]
    pub fn finds(&self, text: &str) -> bool {
        self.ways.iter().any(|needles| needles.iter().all(|needle| text.contains(needle)))
    }

    /// Whether a search text has one of the words.
    #[must_use]
    pub fn finds_one(&self, text: &str) -> bool {
        self.ways.iter().flatten().any(|needle| text.contains(needle))
    }
}

fn is_short(word: &str) -> bool {
    word.len() < PART_MIN || word.chars().nth(PART_MIN - 1).is_none()
}

fn as_written(words: &[String]) -> Vec<String> {
    words.iter().map(|word| needle(word)).collect()
}

fn needle(word: &str) -> String {
    let digits = word.strip_prefix('#').unwrap_or_default();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number || is_short(word) { format!("\n{word}\n") } else { word.to_owned() }
}

/// The needles of words, of which those that stand together as a phone number are one.
fn with_phone_numbers(words: &[String]) -> Vec<String> {
    let is_part = |word: &String| {
        word.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '(' | ')' | '-' | '.' | '/'))
    };
    let runs = words.chunk_by(|one, other| is_part(one) && is_part(other));
    let needles = runs.flat_map(|run| match phone_needle(&run.concat()) {
        Some(number) if run.iter().all(is_part) => vec![number],
        _ => as_written(run),
    });
    needles.collect()
}

/// What the digits of a phone number contain, whether it was written with the code of its country
/// or without.
fn phone_needle(written: &str) -> Option<String> {
    let all = phone_digits(written);
    let abroad = written.starts_with('+') || all.starts_with("00");
    let digits = all.trim_start_matches('0');
    let (least, most) = PHONE_DIGITS;
    let rest = if abroad { digits.len().saturating_sub(PHONE_DIGITS_SHARED) } else { 0 };
    (least..=most).contains(&digits.len()).then(|| digits[rest..].to_owned())
}

/// A folded word without its apostrophes and hyphens; `None` if it has none, or has digits, as no
/// name does.
fn joined_name(word: &str) -> Option<String> {
    let is_mark = |c: char| matches!(c, '\'' | '-');
    let is_name = word.contains(is_mark)
        && word.contains(char::is_alphabetic)
        && !word.contains(|c: char| c.is_ascii_digit());
    is_name.then(|| word.replace(is_mark, ""))
}

/// The words of a name that have apostrophes or hyphens, without them; `None` if there are none.
#[must_use]
pub fn joined_names(name: &str) -> Option<String> {
    let joined: Vec<String> = words(name).iter().filter_map(|word| joined_name(word)).collect();
    (!joined.is_empty()).then(|| joined.join(" "))
}

/// The digits of a phone number, without a `(0)` that is not dialed after the code of the country.
#[must_use]
pub fn phone_digits(written: &str) -> String {
    let dialed = match written.split_once("(0)") {
        Some((code, number)) if code.starts_with('+') => format!("{code}{number}"),
        _ => written.to_owned(),
    };
    dialed.chars().filter(char::is_ascii_digit).collect()
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
    fn accents_and_ways_to_write_a_letter_make_no_difference() {
        for (one, other) in [
            ("Müller", "muller"),
            ("José", "JOSE"),
            ("Jose\u{301}", "José"),
            ("Søren Łukasz", "soren lukasz"),
            ("İzmir Iğdır", "izmir igdir"),
            ("Ærø", "aero"),
            ("O’Brien", "o'brien"),
            ("ＡＢＣ", "abc"),
            ("\u{202d}020\u{a0}7946\u{202c}", "020 7946"),
            ("Smith–Jones", "smith-jones"),
            ("Ёлка", "елка"),
            ("Ελένη", "ελενη"),
        ] {
            assert_eq!(fold(one), fold(other));
        }
        for text in ["김철수", "हिन्दी", "がく", "שָׁלוֹם"] {
            assert_eq!(fold(text), text.nfkd().nfc().collect::<String>());
        }
    }

    #[test]
    fn short_words_and_numbers_are_whole_words() {
        let search = Search::of("12 #1001 1001 #po 12 é").unwrap();
        assert_eq!(search.ways(), [["\n12\n", "\n#1001\n", "1001", "#po", "\ne\n"]]);
    }

    #[test]
    fn a_short_word_is_found_without_its_comma_or_full_stop() {
        for (q, stored) in [
            ("Li Bo", "Li, Bo"),
            ("oak st", "4 Oak St., Flat 2"),
            ("St. Ives", "St. Ives"),
            ("J R Hartley", "J. R. Hartley"),
        ] {
            assert!(Search::of(q).unwrap().finds(&search_text([stored])), "{q} in {stored}");
        }
        assert!(!Search::of("st").unwrap().finds(&search_text(["Stone, Ltd"])));
    }

    #[test]
    fn a_phone_number_is_found_however_it_is_written() {
        let text = |phone: &str| search_text([phone, &phone_digits(phone)]);
        let written = ["+442079460958", "+44 (0)20 7946 0958", "020 7946 0958", "(020) 7946-0958"];
        for stored in written {
            let ways =
                ["02079460958", "020-7946-0958", "0044 20 7946 0958", "7946-0958", "9460958"];
            for q in written.into_iter().chain(ways) {
                assert!(Search::of(q).unwrap().finds(&text(stored)), "{q} in {stored}");
            }
            for q in ["020 7946 0959", "+44 20 7946 0959"] {
                assert!(!Search::of(q).unwrap().finds(&text(stored)), "{q} in {stored}");
            }
        }
    }

    #[test]
    fn what_looks_like_a_phone_number_is_also_searched_for_as_it_is_written() {
        let search = Search::of("ada 0815-4711 (0) 9").unwrap();
        assert_eq!(search.ways()[0], ["ada", "0815-4711", "(0)", "\n9\n"]);
        assert_eq!(search.ways()[1], ["ada", "815471109"]);
        assert!(search.finds(&search_text(["Ada", "0815-4711", "(0) 9"])));
        for q in ["12345", "123456", "1234567890123456 1", "+PO-123456", "00012"] {
            assert_eq!(Search::of(q).unwrap().ways().len(), 1, "{q}");
        }
    }

    #[test]
    fn apostrophes_and_hyphens_of_names_make_no_difference() {
        let text = |name: &str| {
            search_text([Some(name.to_owned()), joined_names(name)].iter().flatten().map(|s| &**s))
        };
        for (names, ways) in [
            (["Mary O'Neill", "Mary ONeill"], ["oneill", "o'neill", "O’NEILL mary"]),
            (["Ann Smith-Jones", "Ann Smithjones"], ["smith-jones", "SmithJones", "ann smith-j"]),
        ] {
            for name in names {
                for q in ways {
                    assert!(Search::of(q).unwrap().finds(&text(name)), "{q} in {name}");
                }
            }
        }
        assert_eq!(joined_names("Ada Lovelace 12-14"), None);
        assert_eq!(Search::of("AB-12").unwrap().ways(), [["ab-12"]]);
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
