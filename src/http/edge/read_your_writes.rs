//! Lists that contain the caller's own writes. The answer to a write has a position: an entity and
//! its version. A list request that sends such positions waits, at most half a second, until the
//! rows contain these versions; otherwise the answer is marked as stale.
//!
//! Rows contain the version of their entity, so that every node can check this by reading the rows,
//! whichever node writes them.

use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::{Instant, sleep, timeout_at};

use crate::domain::entity::EntityId;
use crate::http::edge::call::RequestParts;
use crate::http::edge::error::Error;

/// The header with the position of a write.
const POSITION: HeaderName = HeaderName::from_static("kontor-position");
/// The request header with the positions that a list should contain.
const AFTER: HeaderName = HeaderName::from_static("kontor-after");
/// The header that marks a list which does not contain all positions.
const STALE: HeaderName = HeaderName::from_static("kontor-stale");

/// The maximum wait of a list request.
const PATIENCE: Duration = Duration::from_millis(500);
/// The first and the maximum pause between two reads of the rows.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(80)];
/// The maximum number of positions in a request.
const POSITIONS_MAX: usize = 16;

/// An entity and its version, which rows should contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPosition {
    /// The entity.
    pub entity: EntityId,
    /// The version.
    pub version: i64,
}

impl EventPosition {
    /// The position as text, for clients.
    #[must_use]
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("1:{}:{}", self.version, self.entity))
    }

    /// Parses a position; `None` if it is invalid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let text = std::str::from_utf8(&bytes).ok()?;
        let (version, entity) = text.strip_prefix("1:")?.split_once(':')?;
        let version = version.parse().ok().filter(|version| *version >= 0)?;
        entity.contains('_').then(|| Self { entity: EntityId::new(entity), version })
    }
}

/// An answer to a write, with its position.
#[must_use]
pub fn wrote(mut response: HttpResponse, entity: EntityId, version: i64) -> HttpResponse {
    let position = EventPosition { entity, version };
    if let Ok(value) = HeaderValue::from_str(&position.text()) {
        response.headers_mut().insert(POSITION, value);
    }
    response
}

/// The result of [`wait`]: whether the request named positions, and whether the rows still lack
/// some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    asked: bool,
    stale: bool,
}

impl Seen {
    /// Whether the request named positions: then no cached answer may be used.
    #[must_use]
    pub const fn was_asked(self) -> bool {
        self.asked
    }

    /// Marks an answer if it is stale.
    #[must_use]
    pub fn mark(self, mut response: HttpResponse) -> HttpResponse {
        if self.stale {
            response.headers_mut().insert(STALE, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The version of an entity in its rows; `None` for an entity that no list contains.
async fn shown(call: &RequestParts, entity: &EntityId) -> Result<Option<i64>, Error> {
    let rows = call.node().rows.named(entity.prefix()).map(|rows| (rows.table(), entity.key()));
    Ok(match rows.or_else(|| call.node().projections.listed(entity)) {
        Some((table, first)) => Some(call.store().row_version(table, first).await?),
        None => None,
    })
}

/// Waits until rows contain these positions, at most half a second.
///
/// # Errors
/// The errors of the store.
pub async fn wait(call: &RequestParts, mut left: Vec<EventPosition>) -> Result<Seen, Error> {
    if left.is_empty() {
        return Ok(Seen { asked: false, stale: false });
    }
    let until = Instant::now() + PATIENCE;
    let (mut steps, [mut pause, pause_max]) = (call.node().steps(), PAUSES);
    loop {
        let mut next = Vec::new();
        for position in left {
            let shown = shown(call, &position.entity).await?;
            if shown.is_some_and(|shown| shown < position.version) {
                next.push(position);
            }
        }
        left = next;
        if left.is_empty() || Instant::now() >= until {
            return Ok(Seen { asked: true, stale: !left.is_empty() });
        }
        let news = async {
            tokio::select! {
                Ok(()) = steps.changed() => {}
                () = sleep(pause) => {}
            }
        };
        // After the deadline the rows are read once more.
        let _over = timeout_at(until, news).await;
        pause = (2 * pause).min(pause_max);
    }
}

/// The positions that a request names.
///
/// # Errors
/// 422 for an invalid position, or for too many.
pub fn named(request: &HttpRequest) -> Result<Vec<EventPosition>, Error> {
    let wrong = || {
        let rule = "must be values of the header Kontor-Position, as the answers to writes have it, \
                    separated by commas";
        Error::field("Kontor-After", rule)
    };
    let mut named = Vec::new();
    for value in request.headers().get_all(AFTER) {
        let value = value.to_str().map_err(|_| wrong())?;
        for text in value.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            named.push(EventPosition::parse(text).ok_or_else(wrong)?);
        }
    }
    if named.len() > POSITIONS_MAX {
        let rule = format!("must have at most {POSITIONS_MAX} positions, not {}", named.len());
        return Err(Error::field("Kontor-After", rule));
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_position_is_read_back_and_nothing_else_is() {
        for entity in ["ord_01k8x4m5n6p7q8r9s0t1v2w3x4", "sku_A:B_C", "prod_x"] {
            let position = EventPosition { entity: EntityId::new(entity), version: 7 };
            assert_eq!(EventPosition::parse(&position.text()), Some(position));
        }
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for bad in ["", "!", "ord_1", &encoded("1:-1:ord_1"), &encoded("1:2"), &encoded("1:2:ord")]
        {
            assert_eq!(EventPosition::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_names_several_in_one_header_or_more() {
        let position = |version| EventPosition { entity: EntityId::new("ord_1"), version };
        let (one, two) = (position(1), position(2));
        let request = TestRequest::default()
            .insert_header((AFTER, format!("{}, {}", one.text(), two.text())))
            .append_header((AFTER, one.text()))
            .to_http_request();
        assert_eq!(named(&request).unwrap(), [one.clone(), two, one.clone()]);
        let many = vec![one.text(); POSITIONS_MAX + 1].join(",");
        for bad in ["x", &many] {
            let request = TestRequest::default().insert_header((AFTER, bad)).to_http_request();
            assert!(named(&request).is_err(), "{bad}");
        }
    }
}
