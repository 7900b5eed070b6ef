//! Texts that stay the same while the server runs, such as scripts and the descriptions of the API:
//! compressed once, for clients that can read that, and with a validator, so that a client that has
//! a text is told so instead of being sent it again.

use std::io::Write as _;
use std::sync::OnceLock;

use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::if_none_match::tag_of;

/// Below so many bytes, compressing a text saves nothing.
const COMPRESSED_MIN: usize = 1_024;

/// A text with its type.
pub struct StaticText {
    kind: &'static str,
    plain: Bytes,
    tag: String,
    /// The text as gzip; nothing if that would not be shorter.
    gzip: OnceLock<Option<Bytes>>,
}

impl StaticText {
    /// A text of this media type. It is compressed when it is first asked for.
    #[must_use]
    pub fn new(kind: &'static str, plain: impl Into<Bytes>) -> Self {
        let plain = plain.into();
        let tag = tag_of(&plain);
        Self { kind, plain, tag, gzip: OnceLock::new() }
    }

    /// A JSON document.
    #[must_use]
    pub fn json(text: &str) -> Self {
        Self::new("application/json", text.to_owned())
    }

    /// The answer to a request for it, to which further headers can be added.
    #[must_use]
    pub fn respond(
        &self,
        request: &HttpRequest,
        add: impl Fn(&mut HttpResponseBuilder),
    ) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        response
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .append_header((header::VARY, "Accept-Encoding"))
            .content_type(self.kind);
        add(&mut response);
        let gzip = if reads_gzip(request.headers()) { self.gzip() } else { None };
        match gzip {
            Some(gzip) => response
                .insert_header((header::ETAG, format!("\"{}-gzip\"", self.tag)))
                .insert_header((header::CONTENT_ENCODING, "gzip"))
                .body(gzip.clone()),
            None => response
                .insert_header((header::ETAG, format!("\"{}\"", self.tag)))
                .body(self.plain.clone()),
        }
    }

    fn gzip(&self) -> Option<&Bytes> {
        self.gzip.get_or_init(|| compressed(self.kind, &self.plain)).as_ref()
    }
}

fn compressed(kind: &str, plain: &[u8]) -> Option<Bytes> {
    let text = kind.starts_with("text/") || kind.contains("json") || kind.contains("svg");
    if !text || plain.len() < COMPRESSED_MIN {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let gzip = encoder.write_all(plain).and_then(|()| encoder.finish()).ok()?;
    (gzip.len() < plain.len()).then(|| gzip.into())
}

/// Whether `Accept-Encoding` allows gzip.
fn reads_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        let never = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        name.trim().eq_ignore_ascii_case("gzip") && !never
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use actix_web::body::MessageBody as _;
    use actix_web::test::TestRequest;
    use flate2::read::GzDecoder;

    use super::*;

    fn ask(text: &StaticText, encodings: &str) -> HttpResponse {
        let request = TestRequest::default().insert_header(("Accept-Encoding", encodings));
        text.respond(&request.to_http_request(), |_| {})
    }

    #[test]
    fn a_text_is_sent_compressed_to_those_who_can_read_that() {
        let long = "kontor ".repeat(1_000);
        let text = StaticText::new("text/css", long.clone());
        let mut tags = Vec::new();
        for (encodings, compressed) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("br", false),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("", false),
        ] {
            let response = ask(&text, encodings);
            let header =
                |name| response.headers().get(name).map(|one| one.to_str().unwrap().to_owned());
            assert_eq!(header("content-encoding").is_some(), compressed, "{encodings}");
            assert_eq!(header("vary").as_deref(), Some("Accept-Encoding"));
            tags.push(header("etag").unwrap());
            let body = response.into_body().try_into_bytes().unwrap();
            let mut read = String::new();
            if compressed {
                GzDecoder::new(&body[..]).read_to_string(&mut read).unwrap();
            } else {
                read = String::from_utf8(body.to_vec()).unwrap();
            }
            assert_eq!(read, long, "{encodings}");
        }
        assert_ne!(tags[0], tags[2], "each form has a validator of its own");
    }

    #[test]
    fn what_is_short_or_no_text_is_sent_as_it_is() {
        for (kind, length) in [("text/css", 1_023), ("image/png", 9_000)] {
            let response = ask(&StaticText::new(kind, vec![b'a'; length]), "gzip");
            assert!(response.headers().get("content-encoding").is_none(), "{kind}");
        }
    }
}
