//! Frames made of changes, as far as a frame goes. Which changes somebody is due is known to the
//! ring, and what becomes of several changes of one entity to its topic.

use bytestring::ByteString;

use super::topic::{AnyFilter, Gather};
use crate::actors::engine::changes::Changed;

/// Changes on their way to a frame.
pub(super) struct Rendered<'a> {
    gathered: Box<dyn Gather<'a> + 'a>,
    /// The number of the last step in it; nothing if the first is larger than a frame.
    pub(super) upto: Option<u64>,
    /// How many changes were looked at.
    pub(super) looked: usize,
}

/// Gathers what is told in some steps, as far as about `bytes_max` go.
#[must_use]
pub(super) fn render<'a, 'c: 'a>(
    filter: &'a dyn AnyFilter,
    steps: impl Iterator<Item = (u64, Option<&'c Changed>)>,
    bytes_max: usize,
) -> Rendered<'a> {
    let mut rendered = Rendered { gathered: filter.gather(), upto: None, looked: 0 };
    let mut bytes = 0;
    for (number, changed) in steps {
        if let Some(changed) = changed {
            let more = rendered.gathered.size(changed);
            if bytes + more > bytes_max {
                break;
            }
            bytes += more;
            rendered.looked += changed.len();
            rendered.gathered.take(changed);
        }
        rendered.upto = Some(number);
    }
    rendered
}

impl Rendered<'_> {
    /// The frame, with the token of where it leads; nothing if nothing in it is what the
    /// subscription is about.
    #[must_use]
    pub(super) fn frame(self, id: &str, token: &dyn Fn() -> String) -> Option<ByteString> {
        self.gathered.frame(id, token)
    }
}
