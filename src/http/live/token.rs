//! The place in the feed that a client has seen: a shard and a position of its journal, as
//! opaque text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Everything up to `pos` has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The shard.
    pub shard: u16,
    /// The position in it.
    pub pos: i64,
}

impl Token {
    /// The token as a client keeps it.
    #[must_use]
    pub fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(format!("1:{}:{}", self.shard, self.pos))
    }

    /// Reads a token of ours; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (shard, pos) = text.strip_prefix("1:")?.split_once(':')?;
        let token = Self { shard: shard.parse().ok()?, pos: pos.parse().ok()? };
        (token.pos >= 0).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_nothing_else_is() {
        let token = Token { shard: 3, pos: 1_234 };
        assert_eq!(Token::parse(&token.text()), Some(token));
        for bad in ["", "!", "MTox", &URL_SAFE_NO_PAD.encode("1:0:-1"), "orders"] {
            assert_eq!(Token::parse(bad), None, "{bad}");
        }
    }
}
