//! Keyed hashes, by which rows are found that hold nothing personal in clear: the whole of an email
//! address or a reference, and the parts of words for searches.
//!
//! A search finds any part of a word, so a word is stored as the codes of all its parts of three
//! characters, in order. A code is one of 36^4: two parts have the same one by chance once in 1.7
//! million pairs, so a search for three characters may rarely list an order that does not have them.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use siphasher::sip::SipHasher13;
use std::fmt;

use super::seal::{DataKey, keyed};
use crate::domain::case_folding::fold_case;
use crate::domain::search_text::{Search, trigrams};

/// The characters of a code.
const CODE_CHARS: usize = 4;
/// The number of halves of codes.
const HALVES: usize = 36 * 36;
/// The halves of codes, two characters each.
static HALF: [[u8; 2]; HALVES] = {
    let alphabet = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut all = [[0; 2]; HALVES];
    let mut nth = 0;
    while nth < HALVES {
        all[nth] = [alphabet[nth % 36], alphabet[nth / 36]];
        nth += 1;
    }
    all
};

/// The keys of the hashes.
#[derive(Clone)]
pub struct LookupKeys {
    hashes: Hmac<Sha256>,
    codes: SipHasher13,
}

impl fmt::Debug for LookupKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LookupKeys(..)")
    }
}

/// A search as the codes of what it looks for: a text must have all needles of one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodedSearch {
    ways: Vec<Vec<String>>,
}

impl CodedSearch {
    /// The ways, each with its needles: codes with a space before and after each.
    #[must_use]
    pub fn ways(&self) -> &[Vec<String>] {
        &self.ways
    }
}

impl LookupKeys {
    /// Hashes with keys that are derived from this secret.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        let secret = keyed(&secret);
        let derived = |label: &str| mac(&secret, label, "");
        let codes: [u8; 16] = derived("codes").first_chunk().copied().unwrap_or_default();
        Self { hashes: keyed(&derived("hashes")), codes: SipHasher13::new_with_key(&codes) }
    }

    /// A key for what belongs to no person alone, such as the file of an export.
    #[must_use]
    pub fn data_key(&self, entity: &str) -> DataKey {
        DataKey::new(mac(&self.hashes, "data", entity), entity)
    }

    /// The seal of a snapshot.
    #[must_use]
    pub fn snapshot_seal(&self, text: &str) -> i64 {
        let seal = mac(&self.hashes, "snapshot", text);
        seal.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
    }

    /// Who an email address belongs to, whatever its case: 32 hexadecimal digits.
    #[must_use]
    pub fn email(&self, email: &str) -> String {
        self.hash("email", &fold_case(email))
    }

    /// The hash of a buyer's reference: 32 hexadecimal digits.
    #[must_use]
    pub fn reference(&self, reference: &str) -> String {
        self.hash("reference", reference)
    }

    fn hash(&self, of: &str, text: &str) -> String {
        hex::encode(&mac(&self.hashes, of, text)[..16])
    }

    /// The codes of a search text ([`search_text`](crate::domain::search_text::search_text)): those
    /// of each word with spaces around them, words two spaces apart.
    #[must_use]
    pub fn codes(&self, text: &str) -> String {
        let mut codes = Vec::with_capacity(text.len() * (CODE_CHARS + 1));
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at);
        for (from, to) in ends.clone().zip(ends.skip(1)).filter(|(from, to)| to - from > 1) {
            self.push(&mut codes, &text[from..=to]);
        }
        String::from_utf8(codes).unwrap_or_default()
    }

    /// A search for the codes that [`LookupKeys::codes`] makes.
    #[must_use]
    pub fn search(&self, search: &Search) -> CodedSearch {
        let coded = |needle: &String| {
            let mut codes = Vec::new();
            self.push(&mut codes, needle);
            String::from_utf8(codes).unwrap_or_default()
        };
        let ways = search.ways().iter().map(|way| way.iter().map(coded).collect()).collect();
        CodedSearch { ways }
    }

    fn push(&self, codes: &mut Vec<u8>, text: &str) {
        codes.push(b' ');
        if text.is_ascii() {
            text.as_bytes().windows(3).for_each(|part| self.push_code(codes, part));
        } else {
            trigrams(text).for_each(|part| self.push_code(codes, part.as_bytes()));
        }
    }

    fn push_code(&self, codes: &mut Vec<u8>, part: &[u8]) {
        let codes_count = HALVES * HALVES;
        let hash = usize::try_from(self.codes.hash(part) % codes_count as u64).unwrap_or(0);
        let ([a, b], [c, d]) = (HALF[hash % HALVES], HALF[hash / HALVES]);
        codes.extend_from_slice(&[a, b, c, d, b' ']);
    }
}

fn mac(keyed: &Hmac<Sha256>, label: &str, text: &str) -> [u8; 32] {
    let mut mac = keyed.clone();
    mac.update(label.as_bytes());
    mac.update(&[0]);
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::search_text::search_text;

    #[test]
    fn codes_are_found_as_the_words_are() {
        let lookups = LookupKeys::new([5; 32]);
        let text = search_text(["Ada  King\tLovelace", "ada@Example.com", "Li", "7"]);
        let codes = lookups.codes(&text);
        assert!(!codes.contains("ada") && !codes.contains("love"));
        let finds = |q: &str| {
            let coded = lookups.search(&Search::of(q).unwrap());
            coded.ways().iter().any(|way| way.iter().all(|needle| codes.contains(needle)))
        };
        for (q, found) in [
            ("ada", true),
            ("LOVE ada", true),
            ("example.c", true),
            ("li", true),
            ("7", true),
            ("l", false),
            ("ki", false),
            ("adaking", false),
            ("ada nobody", false),
            ("kinglove", false),
        ] {
            assert_eq!(finds(q), found, "{q}");
        }
        assert_ne!(LookupKeys::new([6; 32]).codes(&text), codes);
    }

    #[test]
    fn a_code_is_a_number_of_four_digits_to_the_base_36() {
        let lookups = LookupKeys::new([5; 32]);
        for part in ["ada", "a b", " li"] {
            let mut codes = Vec::new();
            lookups.push_code(&mut codes, part.as_bytes());
            let codes = String::from_utf8(codes).unwrap();
            let digits: String = codes.trim_end().chars().rev().collect();
            let hash = lookups.codes.hash(part.as_bytes()) % 36_u64.pow(4);
            assert_eq!(u64::from_str_radix(&digits, 36).ok(), Some(hash), "{codes:?}");
            assert_eq!(codes.len(), CODE_CHARS + 1);
        }
    }

    #[test]
    fn an_email_address_has_one_hash_whatever_its_case() {
        let lookups = LookupKeys::new([5; 32]);
        assert_eq!(lookups.email("Ada@Example.com"), lookups.email("ada@example.COM"));
        assert_ne!(lookups.email("ada@example.com"), lookups.email("bob@example.com"));
        assert_ne!(lookups.email("a"), lookups.reference("a"));
        assert_eq!(lookups.reference("PO-1").len(), 32);
    }
}
