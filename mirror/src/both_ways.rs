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
//! A flow back that was promoted is no exception. What lies at the target beyond the place that it had looked at was read by
//! nobody at the source, and if it is redeclared these records come there after all: where readers pass then, nobody goes
//! back. So they hold readers up until the flow back has copied them.
//!
//! Owns: that rule. Does not own: the maps of the two directions (`offset_map`), where the other one is found
//! (`flow::counterflow`).

#[cfg(test)]
mod tests;

use crate::offset_map::{OffsetMap, Position, Provenance, SourceOffset, TargetOffset, Translation};

/// How often one kind may take turns with the other where only one of the flows has been; where they do so more often,
/// more is read again.
const MAX_TURNS: usize = 10_000;

/// The two maps of a partition.
#[derive(Clone, Copy, Debug)]
pub struct BothWays<'a> {
    /// From the source to the target.
    pub own: &'a OffsetMap,
    /// From the target to the source: the flow back.
    pub counter: &'a OffsetMap,
    /// Whether all that was sent to the target is in `own`, as it was when `counter` was read or later.
    pub is_settled: bool,
}

/// The map of a flow back that is declared and has copied nothing of the partition yet: what lies at the target, which has
/// nothing below its log start any more, and is no copy was read by nobody at the source.
#[must_use]
pub fn nothing_came_back(target_log_start: TargetOffset) -> OffsetMap {
    let start = Position { source: SourceOffset(target_log_start.0), target: TargetOffset(0) };
    OffsetMap::new(start, Provenance::default())
}

/// Where a reader goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoesOn {
    /// The place: each record that the reader has not read, at either side, lies there or beyond it.
    pub at: Translation<TargetOffset>,
    /// The target offset behind the last record that it has read: up to there it may read again.
    pub read_to: TargetOffset,
}

impl BothWays<'_> {
    /// Where a reader goes on at the target that would read `next` from the source.
    #[must_use]
    pub fn translate(&self, next: SourceOffset) -> GoesOn {
        let copied = self.own.translate(next);
        let returned = self.counter.translate_back(TargetOffset(next.0));
        let reader = Reader { maps: *self, next };
        let read_to = reader.end_of_what_is_read();
        let is_forgotten = matches!(returned, Translation::Before(_)) && self.counter.has_forgotten();
        if is_forgotten || matches!(copied, Translation::Before(_)) {
            return GoesOn { at: Translation::Before(self.own.start().target), read_to };
        }
        // Nothing unread of either kind lies below both of these.
        let at = reader.pass_what_is_read(copied.offset().min(TargetOffset(returned.offset().0)));
        let at = match copied {
            _ if at < read_to => Translation::Unread(at),
            Translation::Ahead(_) => Translation::Ahead(at),
            _ => Translation::Exact(at),
        };
        GoesOn { at, read_to }
    }

    /// The target offsets of which both flows know what they are.
    fn known(&self) -> std::ops::Range<TargetOffset> {
        let from = self.own.start().target.max(TargetOffset(self.counter.start().source.0));
        let looked_at = TargetOffset(self.counter.position().source.0);
        // What this flow has in the air may lie behind its last copy.
        let to = if self.is_settled { looked_at } else { looked_at.min(self.own.position().target) };
        from..to
    }
}

/// Who has read the source up to `next`.
struct Reader<'a> {
    maps: BothWays<'a>,
    next: SourceOffset,
}

impl Reader<'_> {
    /// The first target offset, from `at` on, that is not known to hold a record that was read, or none.
    fn pass_what_is_read(&self, mut at: TargetOffset) -> TargetOffset {
        let known = self.maps.known();
        let unread = self.first_known_unread().unwrap_or(known.end).min(known.end);
        for _ in 0..MAX_TURNS {
            let from = at;
            if known.start <= at && at < unread {
                at = unread;
            }
            at = self.maps.own.copies_end(at, self.next);
            at = TargetOffset(
                self.maps.counter.originals_end(SourceOffset(at.0), TargetOffset(self.next.0)).0,
            );
            if at == from {
                break;
            }
        }
        at
    }

    /// The first record, of either kind, that is known and was not read.
    fn first_known_unread(&self) -> Option<TargetOffset> {
        let BothWays { own, counter, .. } = self.maps;
        let copied = own.run_from_source(self.next);
        let copied = copied.map(|run| run.target.plus(self.next.since(run.source)));
        let returned = counter.run_from_target(TargetOffset(self.next.0));
        let returned = returned.map(|run| run.source.plus(TargetOffset(self.next.0).since(run.target)));
        copied.into_iter().chain(returned.map(|offset| TargetOffset(offset.0))).min()
    }

    /// Behind the last record that was read, of either kind.
    fn end_of_what_is_read(&self) -> TargetOffset {
        let BothWays { own, counter, .. } = self.maps;
        let next = TargetOffset(self.next.0);
        let copied = own.run_below_source(self.next);
        let copied = copied.map(|run| run.target.plus(self.next.since(run.source).min(run.length)));
        let returned = counter.run_below_target(next);
        let returned = returned.map(|run| run.source.plus(next.since(run.target).min(run.length)));
        copied.max(returned.map(|offset| TargetOffset(offset.0))).unwrap_or_default()
    }
}
