//! Makes frames from batches of changes, up to the maximum size of a frame. The ring determines
//! which batches a subscriber needs; the topic merges several changes of one entity.

use bytestring::ByteString;

use super::topic::{AnyFilter, Gather};
use crate::actors::engine::changes::Changed;

/// The changes of a frame.
pub(super) struct Rendered<'a> {
    gathered: Box<dyn Gather<'a> + 'a>,
    /// The number of the last batch in the frame; `None` if the first batch is larger than a frame.
    pub(super) upto: Option<u64>,
    /// The number of changes that were examined, for the budget.
    pub(super) examined: usize,
}

/// Collects the changes of consecutive batches, up to about `bytes_max` bytes. `steps` are the
/// numbers of the batches; `None` stands for a batch without changes that are new to the
/// subscriber.
#[must_use]
pub(super) fn render<'a, 'c: 'a>(
    filter: &'a dyn AnyFilter,
    steps: impl Iterator<Item = (u64, Option<&'c Changed>)>,
    bytes_max: usize,
) -> Rendered<'a> {
    let mut rendered = Rendered { gathered: filter.gather(), upto: None, examined: 0 };
    let mut bytes = 0;
    for (number, changed) in steps {
        if let Some(changed) = changed {
            let more = rendered.gathered.size(changed);
            if bytes + more > bytes_max {
                break;
            }
            bytes += more;
            rendered.examined += changed.len();
            rendered.gathered.take(changed);
        }
        rendered.upto = Some(number);
    }
    rendered
}

impl Rendered<'_> {
    /// The frame, with its token; `None` if there are no changes for the subscription.
    #[must_use]
    pub(super) fn frame(self, id: &str, token: &dyn Fn() -> String) -> Option<ByteString> {
        self.gathered.frame(id, token)
    }
}
