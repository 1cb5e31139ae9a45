//! How a flow fares, looked at once a second: whether its clusters answer, and whether what went wrong is mended.
//!
//! Owns: both judgements. Does not own: what they are made from (`board`, `client::Cluster::heard_at`), saying it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::board::{FlowFigures, PartitionFigures};

/// How often a flow is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Silence after which a cluster counts as one that does not answer. Longer than a session takes between two looks for
/// new topics, for in a flow that copies nothing yet nobody else may ask the source.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(8);
/// An error that comes back within this is still the same one.
const QUIET_MS: i64 = 3_000;

/// How long ago each cluster was heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeardAgo {
    pub(crate) source: Duration,
    pub(crate) target: Duration,
}

/// What was seen before.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    error: Option<Noticed>,
}

/// An error, and where the partitions were when it was first seen.
#[derive(Debug)]
struct Noticed {
    text: String,
    at_ms: i64,
    positions: BTreeMap<(String, i32), i64>,
}

impl Watch {
    /// Looks at the figures, and puts right what they say of clusters that answer or not and of an error that is
    /// mended.
    pub(crate) fn look(&mut self, figures: &mut FlowFigures, heard_ago: HeardAgo, now_ms: i64) {
        let (source, target) = (figures.source_silent_since_ms, figures.target_silent_since_ms);
        figures.source_silent_since_ms = silent_since_ms(source, heard_ago.source, now_ms);
        figures.target_silent_since_ms = silent_since_ms(target, heard_ago.target, now_ms);
        match (&figures.last_error, &self.error) {
            (None, _) => self.error = None,
            (Some(text), Some(noticed)) if *text == noticed.text => {
                if noticed.is_mended(figures, now_ms) {
                    (figures.last_error, self.error) = (None, None);
                }
            }
            (Some(text), _) => self.error = Some(Noticed::new(text, figures, now_ms)),
        }
    }
}

/// Since when a cluster does not answer, where that was `known` or not.
fn silent_since_ms(known: Option<i64>, heard_ago: Duration, now_ms: i64) -> Option<i64> {
    let heard_ago_ms = i64::try_from(heard_ago.as_millis()).unwrap_or(i64::MAX);
    let is_silent = heard_ago >= SILENT_AFTER;
    is_silent.then(|| known.unwrap_or(now_ms.saturating_sub(heard_ago_ms)))
}

impl Noticed {
    fn new(text: &str, figures: &FlowFigures, at_ms: i64) -> Self {
        let position =
            |(key, partition): (&(String, i32), &PartitionFigures)| (key.clone(), partition.source_position);
        Self { text: text.to_owned(), at_ms, positions: figures.partitions.iter().map(position).collect() }
    }

    /// Nobody says which partition an error was of. It is mended once each has gone on since, save those that stand at
    /// an event.
    fn is_mended(&self, figures: &FlowFigures, now_ms: i64) -> bool {
        let answer = figures.source_silent_since_ms.is_none() && figures.target_silent_since_ms.is_none();
        let mut copied = figures.partitions.iter().filter(|(_, partition)| partition.paused.is_none());
        answer
            && now_ms - self.at_ms >= QUIET_MS
            && copied.all(|(key, partition)| {
                let heard = partition.source_end_at_ms.is_some_and(|at_ms| at_ms > self.at_ms);
                let moved = self.positions.get(key).is_none_or(|before| partition.source_position > *before);
                heard && (moved || partition.behind() == 0)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, EventKind, Side};

    const HEARD: HeardAgo = HeardAgo { source: Duration::ZERO, target: Duration::from_secs(1) };

    fn partition(position: i64, end: i64, end_at_ms: i64) -> PartitionFigures {
        PartitionFigures {
            source_position: position,
            source_end: end,
            source_end_at_ms: Some(end_at_ms),
            ..PartitionFigures::default()
        }
    }

    fn flow(partitions: [PartitionFigures; 2]) -> FlowFigures {
        let named = (0..).zip(partitions).map(|(number, figures)| (("flights".to_owned(), number), figures));
        let last_error = Some("refused".to_owned());
        FlowFigures { partitions: named.collect(), last_error, ..FlowFigures::default() }
    }

    /// What is left of an error when the partitions come to be so within four seconds.
    fn left(after: [PartitionFigures; 2], heard_ago: HeardAgo) -> Option<String> {
        let mut watch = Watch::default();
        let mut figures = flow([partition(5, 9, 900), partition(7, 7, 900)]);
        watch.look(&mut figures, HEARD, 1_000);
        figures.partitions = flow(after).partitions;
        watch.look(&mut figures, heard_ago, 5_000);
        figures.last_error
    }

    #[test]
    fn an_error_is_mended_once_every_partition_has_gone_on() {
        assert_eq!(left([partition(6, 9, 4_900), partition(7, 7, 4_900)], HEARD), None);
        assert!(left([partition(5, 9, 4_900), partition(7, 7, 4_900)], HEARD).is_some(), "one stands");
        assert!(left([partition(6, 9, 4_900), partition(7, 7, 900)], HEARD).is_some(), "one is not heard of");
        let silent = HeardAgo { target: SILENT_AFTER, ..HEARD };
        assert!(
            left([partition(6, 9, 4_900), partition(7, 7, 4_900)], silent).is_some(),
            "the target is away"
        );
        let kind = EventKind::TopicDeleted { side: Side::Source };
        let (flow, topic) = ("over".to_owned(), "flights".to_owned());
        let event = Event { flow, topic, partition: Some(0), at_ms: 0, kind };
        let paused = PartitionFigures { paused: Some(event), ..partition(5, 9, 900) };
        assert_eq!(
            left([paused, partition(7, 7, 4_900)], HEARD),
            None,
            "the event says what is wrong with that one"
        );
    }

    #[test]
    fn an_error_that_comes_back_or_another_is_not_mended() {
        let mut watch = Watch::default();
        let mut figures = flow([partition(5, 5, 900), partition(7, 7, 900)]);
        for (at_ms, text) in [(1_000, "refused"), (4_500, "refused again"), (5_000, "refused again")] {
            figures.last_error = Some(text.to_owned());
            for partition in figures.partitions.values_mut() {
                partition.source_end_at_ms = Some(at_ms);
            }
            watch.look(&mut figures, HEARD, at_ms);
            assert_eq!(figures.last_error.as_deref(), Some(text));
        }
    }

    #[test]
    fn a_cluster_is_silent_since_it_was_last_heard() {
        let (mut watch, mut figures) = (Watch::default(), FlowFigures::default());
        let ago = |seconds| HeardAgo { source: Duration::from_secs(seconds), ..HEARD };
        watch.look(&mut figures, ago(7), 100_000);
        assert_eq!(figures.source_silent_since_ms, None);
        watch.look(&mut figures, ago(8), 101_000);
        assert_eq!((figures.source_silent_since_ms, figures.target_silent_since_ms), (Some(93_000), None));
        watch.look(&mut figures, ago(9), 102_005);
        assert_eq!(figures.source_silent_since_ms, Some(93_000), "it does not wander");
        watch.look(&mut figures, ago(0), 103_000);
        assert_eq!(figures.source_silent_since_ms, None);
    }
}
