//! A partition that is copied both ways: where a reader of one side goes on at the other.
//!
//! Each side holds its own records and copies of the other's, in an order of its own. Both orders keep that of each
//! kind, and no other. So what a reader has read of one side is the beginning of each kind, and at the other side these
//! two beginnings end at two places: it goes on at the first record that it has not read, and reads again what it knows
//! of the rest.
//!
//! ```text
//!   source   o0 o1 t0 t1 o2 | t2          o: the source's own, t: the target's own, copied back
//!   target   t0 t1 t2 | o0 o1 o2          a reader that has read up to the bar goes on at t2, and reads o0..o2 again
//! ```
//!
//! Owns: that rule. Does not own: the maps of the two directions (`offset_map`), where the other one is found
//! (`flow::counterflow`).

#[cfg(test)]
mod tests;

use crate::offset_map::{OffsetMap, Run, SourceOffset, TargetOffset, Translation};

/// Records and holes that are passed one by one at most; where more lie between the two ends, more is read again.
const MAX_STEPS: usize = 10_000;

/// The target offset at which a reader goes on that would read `next` from the source. `own` is the map from there to
/// the target, and `counter` the map of the flow back, whose source is this target.
///
/// Never overshoots: each record that the reader has not read, at either side, lies at the answer or beyond it.
#[must_use]
pub fn translate(own: &OffsetMap, counter: &OffsetMap, next: SourceOffset) -> Translation<TargetOffset> {
    let copied = own.translate(next);
    let returned = counter.translate_back(TargetOffset(next.0));
    let is_forgotten = matches!(returned, Translation::Before(_)) && counter.has_shed();
    if is_forgotten || matches!(copied, Translation::Before(_)) {
        return Translation::Before(own.start().target);
    }
    let reader = Reader { own, counter, next };
    // Nothing unread of either kind lies below both of these.
    let at = reader.pass_what_is_read(copied.offset().min(TargetOffset(returned.offset().0)));
    match copied {
        _ if at < reader.end_of_what_is_read() => Translation::Unread(at),
        Translation::Ahead(_) => Translation::Ahead(at),
        _ => Translation::Exact(at),
    }
}

/// Who has read the source up to `next`.
struct Reader<'a> {
    own: &'a OffsetMap,
    counter: &'a OffsetMap,
    next: SourceOffset,
}

impl Reader<'_> {
    /// The first target offset, from `at` on, that is not known to hold a record that was read, or none.
    fn pass_what_is_read(&self, mut at: TargetOffset) -> TargetOffset {
        for _ in 0..MAX_STEPS {
            match self.after(at) {
                Some(further) if further > at => at = further,
                _ => break,
            }
        }
        at
    }

    /// Where the records that were read end that begin at `at`, or the hole; `None` where neither is known of it.
    fn after(&self, at: TargetOffset) -> Option<TargetOffset> {
        let copied = self.own.run_from_target(at);
        if let Some(run) = copied.filter(|run| run.target <= at) {
            return Some(self.end_of_copies(&run));
        }
        let returned = self.counter.run_from_source(SourceOffset(at.0));
        if let Some(run) = returned.filter(|run| run.source.0 <= at.0) {
            return Some(self.end_of_returned(&run));
        }
        // Both flows know all of their records in what both have behind them.
        let (own, counter) = (self.own, self.counter);
        let known_from = own.start().target.max(TargetOffset(counter.start().source.0));
        let known_to = own.position().target.min(TargetOffset(counter.position().source.0));
        let next_known = [copied.map(|run| run.target), returned.map(|run| TargetOffset(run.source.0))];
        let hole_to = next_known.into_iter().flatten().fold(known_to, TargetOffset::min);
        (at >= known_from && at < known_to).then_some(hole_to)
    }

    /// Behind the last record that was read, of either kind.
    fn end_of_what_is_read(&self) -> TargetOffset {
        let copied = self.own.run_below_source(self.next).map(|run| self.end_of_copies(&run));
        let returned = self.counter.run_below_target(TargetOffset(self.next.0));
        let returned = returned.map(|run| self.end_of_returned(&run));
        copied.max(returned).unwrap_or_default()
    }

    /// Target offset behind those copies of a run that were read at the source.
    fn end_of_copies(&self, run: &Run) -> TargetOffset {
        run.target.plus(self.next.since(run.source).min(run.length))
    }

    /// The same for a run of the flow back, whose source is the target.
    fn end_of_returned(&self, run: &Run) -> TargetOffset {
        let read = TargetOffset(self.next.0).since(run.target).min(run.length);
        TargetOffset(run.source.plus(read).0)
    }
}
