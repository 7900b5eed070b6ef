//! The lines of request heads end with a carriage return and a line feed. The parser of requests would take
//! a bare line feed for the end of a line as well, where a proxy in front may read on: then the two see
//! different requests. Such a line feed is made a byte that the parser refuses, so that the answer is 400.

/// What of a line is kept: more than is needed of any field that is read here.
const LINE_BYTES: usize = 64;

/// Where the next byte of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// In a request head, or before one.
    Head,
    /// In a body, or in a chunk with the end of its line, of which so many bytes follow.
    Data(u64),
    /// In the line with the size of a chunk.
    Size,
    /// In the lines behind the last chunk.
    Trailer,
    /// Where no requests can be told apart: all is passed on as it is.
    Rest,
}

/// Follows the requests of one connection.
pub struct HeadLines {
    part: Part,
    /// The line so far, in small letters and without blanks.
    line: [u8; LINE_BYTES],
    kept: usize,
    is_long: bool,
    /// Whether nothing of the line is kept but that it is not empty.
    is_skipped: bool,
    last: u8,
    has_begun: bool,
    length: u64,
    is_chunked: bool,
    /// Whether the head has something that says where its body ends in another way.
    is_odd: bool,
}

impl Default for HeadLines {
    fn default() -> Self {
        Self {
            part: Part::Head,
            line: [0; LINE_BYTES],
            kept: 0,
            is_long: false,
            is_skipped: false,
            last: 0,
            has_begun: false,
            length: 0,
            is_chunked: false,
            is_odd: false,
        }
    }
}

impl HeadLines {
    /// Reads what a client has sent, and replaces bare line feeds in heads.
    pub fn read(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let part = self.part;
            match part {
                Part::Rest => return,
                Part::Data(left) => {
                    let some =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    rest = &mut rest[some..];
                    let left = left - u64::try_from(some).unwrap_or(left);
                    self.part = match (left, self.is_chunked) {
                        (0, true) => Part::Size,
                        (0, false) => Part::Head,
                        _ => Part::Data(left),
                    };
                }
                Part::Head if self.is_skipped(rest[0]) => {
                    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                    (self.kept, self.last) = (1, rest[end - 1]);
                    rest = &mut rest[end..];
                }
                Part::Head | Part::Size | Part::Trailer => {
                    self.step(&mut rest[0]);
                    rest = &mut rest[1..];
                }
            }
        }
    }

    /// Whether a line of a head that begins with this byte, or whose beginning is known, is read by
    /// nobody here, so that only its end matters.
    fn is_skipped(&mut self, next: u8) -> bool {
        if self.kept == 0 && !self.is_long && !next.is_ascii_whitespace() {
            self.is_skipped = !matches!(next.to_ascii_lowercase(), b'c' | b't' | b'u' | b'e');
        }
        self.is_skipped && next != b'\n'
    }

    fn step(&mut self, byte: &mut u8) {
        let last = std::mem::replace(&mut self.last, *byte);
        match *byte {
            b'\n' if last == b'\r' => self.end_line(),
            b'\n' => *byte = 0,
            b' ' | b'\t' | b'\r' => {}
            other => match self.line.get_mut(self.kept) {
                Some(place) => {
                    *place = other.to_ascii_lowercase();
                    self.kept += 1;
                }
                None => self.is_long = true,
            },
        }
    }

    fn end_line(&mut self) {
        let (line, kept, is_long) = (self.line, self.kept, self.is_long);
        (self.kept, self.is_long, self.is_skipped) = (0, false, false);
        let line = &line[..kept];
        self.part = match self.part {
            Part::Head if line.is_empty() && self.has_begun => self.end_head(),
            Part::Head => {
                self.field(line, is_long);
                Part::Head
            }
            Part::Size => self.chunk(line),
            Part::Trailer if line.is_empty() => {
                self.is_chunked = false;
                Part::Head
            }
            other => other,
        };
    }

    /// A line of a head: the request line, or a field.
    fn field(&mut self, line: &[u8], is_long: bool) {
        self.has_begun |= !line.is_empty();
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match name {
            b"content-length" => match number(value, 10) {
                Some(length) if !is_long => self.length = length,
                _ => self.is_odd = true,
            },
            b"transfer-encoding" if value == b"chunked" => self.is_chunked = true,
            // With `expect` it is not known whether a body follows.
            b"transfer-encoding" | b"upgrade" | b"expect" => self.is_odd = true,
            _ => self.is_odd |= line.starts_with(b"connect"),
        }
    }

    fn end_head(&mut self) -> Part {
        let (length, is_chunked) = (std::mem::take(&mut self.length), self.is_chunked);
        self.has_begun = false;
        match (is_chunked, length) {
            _ if self.is_odd || (is_chunked && length > 0) => Part::Rest,
            (true, _) => Part::Size,
            (false, 0) => Part::Head,
            (false, length) => Part::Data(length),
        }
    }

    fn chunk(&self, line: &[u8]) -> Part {
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        match number(size, 16).map(|size| (size, size.checked_add(2))) {
            Some((0, _)) => Part::Trailer,
            Some((_, Some(with_end))) => Part::Data(with_end),
            _ => Part::Rest,
        }
    }
}

/// A number of digits only; `None` for anything else.
fn number(digits: &[u8], base: u32) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u64::from_str_radix(text, base).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of a text that arrives in parts of so many bytes.
    fn read(text: &[u8], size: usize) -> Vec<u8> {
        let (mut lines, mut all) = (HeadLines::default(), text.to_vec());
        all.chunks_mut(size).for_each(|part| lines.read(part));
        all
    }

    const REQUESTS: [&str; 6] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nPOST / HTTP/1.1\r\nContent-Length:   \t 7\r\n\r\n{\n\n\n\n\r\n",
        "POST / HTTP/1.1\r\nCONTENT-LENGTH: 0\r\nX: content-length: 9\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\na\n\r\nb\r\nA\r\n\n\n\n\n\n\n\n\n\n\n\r\n0\r\nX: y\r\n\r\n",
        "POST / HTTP/1.1\r\nX: y\r\nTransfer-encoding:chunked\r\n\r\n0\r\n\r\n",
        "GET /last HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\n\n\n frames \n",
    ];

    #[test]
    fn requests_and_their_bodies_are_passed_on_as_they_are() {
        let all = REQUESTS.concat();
        for size in 1..=all.len() {
            assert_eq!(read(all.as_bytes(), size), all.as_bytes(), "in parts of {size}");
        }
        for odd in [
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n\n\n\n",
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n\n\n\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n\n\n\n",
            "CONNECT a HTTP/1.1\r\n\r\n\n\n\n",
        ] {
            assert_eq!(read(odd.as_bytes(), 3), odd.as_bytes());
        }
        let long = format!("POST / HTTP/1.1\r\nContent-Length: {}1\r\n\r\n\n\n", "0".repeat(99));
        assert_eq!(read(long.as_bytes(), 7), long.as_bytes());
    }

    #[test]
    fn a_bare_line_feed_in_any_head_of_a_connection_is_replaced() {
        let before = REQUESTS[..5].concat();
        for head in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\n\r\n",
        ] {
            let (text, wanted) = (format!("{before}{head}"), head.replace("\r\n", "#"));
            let wanted = wanted.replace('\n', "\0").replace('#', "\r\n");
            for size in [1, 2, 3, 50, text.len()] {
                let found = read(text.as_bytes(), size);
                assert_eq!(
                    &found[before.len()..],
                    wanted.as_bytes(),
                    "{head:?} in parts of {size}"
                );
            }
        }
    }
}
