//! The token of a client of the live feed: a position of the journal for each shard, as opaque
//! text.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The maximum number of shards in a token; no store has more.
const SHARDS_MAX: u64 = 4_096;

/// Positions up to which the client has received everything, one per shard. A token with another
/// number of positions belongs to another store, or to an earlier version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveToken(pub Arc<[i64]>);

impl LiveToken {
    /// The token as text, for clients.
    #[must_use]
    pub fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(4 + 4 * self.0.len());
        bytes.extend_from_slice(b"2:");
        put(&mut bytes, self.0.len() as u64);
        for pos in self.0.iter() {
            put(&mut bytes, u64::try_from(*pos).unwrap_or(0));
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Parses a token; `None` if it is invalid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        if let Some(old) = bytes.strip_prefix(b"1:") {
            return Self::parse_old(std::str::from_utf8(old).ok()?);
        }
        let mut rest = bytes.strip_prefix(b"2:")?;
        let count = take(&mut rest).filter(|count| *count <= SHARDS_MAX)?;
        let position = |_| i64::try_from(take(&mut rest)?).ok();
        let positions: Option<Arc<[i64]>> = (0..count).map(position).collect();
        rest.is_empty().then_some(Self(positions?))
    }

    /// Parses a token of an earlier version of kontor, which had one shard.
    fn parse_old(text: &str) -> Option<Self> {
        let (shard, pos) = text.split_once(':')?;
        let (shard, pos): (u16, i64) = (shard.parse().ok()?, pos.parse().ok()?);
        let positions: &[i64] = if shard == 0 { &[pos] } else { &[] };
        (pos >= 0).then(|| Self(positions.into()))
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
            let token = LiveToken(positions.into());
            assert_eq!(LiveToken::parse(&token.text()), Some(token.clone()));
            let mut bytes = URL_SAFE_NO_PAD.decode(token.text()).unwrap();
            bytes.push(0);
            assert_eq!(LiveToken::parse(&URL_SAFE_NO_PAD.encode(&bytes)), None);
            bytes.truncate(bytes.len() - 2);
            assert_eq!(LiveToken::parse(&URL_SAFE_NO_PAD.encode(&bytes)), None);
        }
        let encoded = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
        let endless = encoded(b"2:\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
        for bad in ["", "!", "MTox", "orders", &encoded(b"1:0:-1"), &encoded(b"2:"), &endless] {
            assert_eq!(LiveToken::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_of_one_shard_is_known_still() {
        let old = |text: &str| LiveToken::parse(&URL_SAFE_NO_PAD.encode(text));
        assert_eq!(old("1:0:17"), Some(LiveToken([17].as_slice().into())));
        assert_eq!(old("1:3:17"), Some(LiveToken([].as_slice().into())));
    }
}
