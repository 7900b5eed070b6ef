//! Texts that people read: which characters have no place in them.

/// The first character that a text of one line must not have: a control character, such as the end
/// of a line, or one that changes the direction in which the rest is read.
#[must_use]
pub fn odd_in_line(text: &str) -> Option<char> {
    text.chars().find(|letter| is_odd(*letter))
}

/// The same of a text that may have several lines, which end with line feeds.
#[must_use]
pub fn odd_in_lines(text: &str) -> Option<char> {
    text.chars().find(|letter| is_odd(*letter) && *letter != '\n')
}

/// Whether a character is a control character, a separator of lines or paragraphs, or the beginning
/// or end of an embedding, override or isolate of the bidirectional algorithm.
fn is_odd(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_changes_of_direction_are_found() {
        for fine in ["", "Zoë", "שלום \u{200f}", "a\u{a0}b", "👩\u{200d}🔧", "\u{2027}\u{202f}"]
        {
            assert_eq!((odd_in_line(fine), odd_in_lines(fine)), (None, None), "{fine:?}");
        }
        for odd in [
            '\0', '\t', '\r', '\u{7f}', '\u{85}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202e}',
            '\u{2066}', '\u{2069}',
        ] {
            let text = format!("a{odd}b");
            assert_eq!(
                (odd_in_line(&text), odd_in_lines(&text)),
                (Some(odd), Some(odd)),
                "{odd:?}"
            );
        }
        assert_eq!((odd_in_line("a\nb"), odd_in_lines("a\nb")), (Some('\n'), None));
    }
}
