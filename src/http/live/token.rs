//! The token of a client of the live feed: the store's history and a position of the journal for
//! each shard, as opaque text.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::store::history::HistoryId;

/// The maximum number of shards in a token; no store has more.
const SHARDS_MAX: u64 = 4_096;
/// The version of the format, with which a token begins.
const VERSION: &[u8] = b"3:";
/// Earlier versions, which did not name the history: their tokens fit no store.
const EARLIER: [&[u8]; 2] = [b"1:", b"2:"];

/// What a client has received: everything up to these positions, one per shard, of a history. A
/// token fits a store if its history and its number of positions are those of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveToken {
    /// The history; `None` for a token of an earlier version of kontor.
    pub history: Option<HistoryId>,
    /// The positions.
    pub seen: Arc<[i64]>,
}

impl LiveToken {
    /// The token of a client that has received everything up to these positions.
    #[must_use]
    pub const fn new(history: HistoryId, seen: Arc<[i64]>) -> Self {
        Self { history: Some(history), seen }
    }

    /// The token as text, for clients.
    #[must_use]
    pub fn text(&self) -> String {
        let Some(HistoryId(history)) = self.history else {
            return URL_SAFE_NO_PAD.encode(EARLIER.concat());
        };
        let mut bytes = Vec::with_capacity(14 + 4 * self.seen.len());
        bytes.extend_from_slice(VERSION);
        bytes.extend_from_slice(&history.to_be_bytes());
        put(&mut bytes, self.seen.len() as u64);
        for pos in self.seen.iter() {
            put(&mut bytes, u64::try_from(*pos).unwrap_or(0));
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Parses a token; `None` if it is invalid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        if EARLIER.iter().any(|version| bytes.starts_with(version)) {
            return Some(Self { history: None, seen: Arc::default() });
        }
        let (history, mut rest) = bytes.strip_prefix(VERSION)?.split_first_chunk()?;
        let history = HistoryId(u64::from_be_bytes(*history));
        let count = take(&mut rest).filter(|count| *count <= SHARDS_MAX)?;
        let position = |_| i64::try_from(take(&mut rest)?).ok();
        let seen: Option<Arc<[i64]>> = (0..count).map(position).collect();
        rest.is_empty().then_some(Self::new(history, seen?))
    }

    /// Whether the token is of this history of a store with this number of shards.
    #[must_use]
    pub fn fits(&self, history: HistoryId, shards: usize) -> bool {
        self.history == Some(history) && self.seen.len() == shards
    }
}

/// Appends a number in LEB128: seven bits per byte, lowest first.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

/// Reads a number that [`put`] has written.
fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number: u64 = 0;
    for place in 0..9 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << (7 * place);
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_nothing_else_is() {
        let many: Vec<i64> = (0..64).map(|shard| 1 << (shard % 63)).collect();
        for positions in [&[][..], &[0], &[1_234], &[127, 128, i64::MAX], &many] {
            let token = LiveToken::new(HistoryId(u64::MAX - 7), positions.into());
            assert_eq!(LiveToken::parse(&token.text()), Some(token.clone()));
            let mut bytes = URL_SAFE_NO_PAD.decode(token.text()).unwrap();
            bytes.push(0);
            assert_eq!(LiveToken::parse(&URL_SAFE_NO_PAD.encode(&bytes)), None);
            bytes.truncate(bytes.len() - 2);
            assert_eq!(LiveToken::parse(&URL_SAFE_NO_PAD.encode(&bytes)), None);
        }
        let encoded = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
        let endless = encoded(b"3:12345678\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
        for bad in ["", "!", "NDp4", "orders", &encoded(b"3:1234567"), &endless] {
            assert_eq!(LiveToken::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_fits_its_own_history_only() {
        let token = LiveToken::new(HistoryId(7), [17].as_slice().into());
        assert!(token.fits(HistoryId(7), 1));
        assert!(!token.fits(HistoryId(7), 2) && !token.fits(HistoryId(8), 1));
        for old in ["1:0:17", "2:\x01\x11"] {
            let token = LiveToken::parse(&URL_SAFE_NO_PAD.encode(old)).unwrap();
            assert!(!token.fits(HistoryId(7), 1) && !token.fits(HistoryId(7), 0), "{old:?}");
            assert_eq!(LiveToken::parse(&token.text()), Some(token));
        }
    }
}
