//! Whether the active segment ends before the next batch.
//!
//! Owns: the decision. Does not own: doing it, nor the clock: time is the append's, never the records', so that
//! old or wrong record times neither hold a segment open nor close one after the other.

use wire::ids::Offset;

/// Positions and offset distances within a segment fit 31 bits, as in Kafka.
pub const MAX_SEGMENT_SPAN: u32 = i32::MAX as u32;

/// What the decision must know of the active segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveSegment {
    /// The offset it begins at.
    pub base_offset: Offset,
    /// The bytes of batches in it.
    pub size_bytes: u32,
    /// When its first batch was appended, in milliseconds since 1970; `None` while it is empty.
    pub first_append_time_ms: Option<i64>,
}

/// What the decision must know of the batch that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextBatch {
    /// Its length.
    pub size_bytes: u32,
    /// The offset its last record would get.
    pub last_offset: Offset,
    /// The time of its append, in milliseconds since 1970.
    pub append_time_ms: i64,
}

/// The topic's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollLimits {
    /// Kafka's `segment.bytes`, at most [`MAX_SEGMENT_SPAN`].
    pub segment_bytes: u32,
    /// Kafka's `segment.ms`.
    pub segment_ms: i64,
}

/// Why a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollReason {
    /// The batch would make it larger than `segment.bytes`.
    Size,
    /// Its first batch was appended `segment.ms` ago.
    Age,
    /// The batch's last offset is too far from its base.
    OffsetSpan,
}

/// Whether the active segment must end before `next` is appended, and why.
///
/// A segment that holds nothing ends only where offsets jump too far from its base.
pub fn before_append(segment: &ActiveSegment, next: &NextBatch, limits: &RollLimits) -> Option<RollReason> {
    if next.last_offset.0 - segment.base_offset.0 > i64::from(MAX_SEGMENT_SPAN) {
        return Some(RollReason::OffsetSpan);
    }
    let size_bytes = u64::from(segment.size_bytes) + u64::from(next.size_bytes);
    if segment.size_bytes > 0 && size_bytes > u64::from(limits.segment_bytes.min(MAX_SEGMENT_SPAN)) {
        return Some(RollReason::Size);
    }
    by_age(segment, next.append_time_ms, limits)
}

/// Whether the active segment has been open too long, also when nothing is appended to it any more.
pub fn by_age(segment: &ActiveSegment, now_ms: i64, limits: &RollLimits) -> Option<RollReason> {
    let open_since_ms = segment.first_append_time_ms?;
    (now_ms.saturating_sub(open_since_ms) >= limits.segment_ms).then_some(RollReason::Age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RollLimits = RollLimits { segment_bytes: 1_000, segment_ms: 60_000 };

    fn decide(
        size_bytes: u32,
        batch_bytes: u32,
        last_offset: i64,
        append_time_ms: i64,
    ) -> Option<RollReason> {
        let first_append_time_ms = (size_bytes > 0).then_some(100_000);
        let segment = ActiveSegment { base_offset: Offset(50), size_bytes, first_append_time_ms };
        let next = NextBatch { size_bytes: batch_bytes, last_offset: Offset(last_offset), append_time_ms };
        before_append(&segment, &next, &LIMITS)
    }

    #[test]
    fn a_segment_is_filled_to_the_last_byte_and_not_beyond() {
        assert_eq!(decide(900, 100, 60, 100_000), None);
        assert_eq!(decide(900, 101, 60, 100_000), Some(RollReason::Size));
    }

    #[test]
    fn an_empty_segment_takes_a_batch_of_any_size() {
        assert_eq!(decide(0, 5_000, 60, 100_000), None);
    }

    #[test]
    fn age_counts_from_the_first_append() {
        assert_eq!(decide(10, 10, 60, 159_999), None);
        assert_eq!(decide(10, 10, 60, 160_000), Some(RollReason::Age));
        assert_eq!(decide(0, 10, 60, i64::MAX), None);
    }

    #[test]
    fn a_clock_that_stepped_back_rolls_nothing() {
        assert_eq!(decide(10, 10, 60, i64::MIN), None);
    }

    #[test]
    fn offsets_stay_within_31_bits_of_the_base() {
        assert_eq!(decide(10, 10, 50 + i64::from(i32::MAX), 100_000), None);
        assert_eq!(decide(10, 10, 51 + i64::from(i32::MAX), 100_000), Some(RollReason::OffsetSpan));
        assert_eq!(decide(0, 10, 51 + i64::from(i32::MAX), 100_000), Some(RollReason::OffsetSpan));
    }

    #[test]
    fn a_size_limit_beyond_31_bits_is_cut_to_them() {
        let limits = RollLimits { segment_bytes: u32::MAX, ..LIMITS };
        let segment = ActiveSegment {
            base_offset: Offset(0),
            size_bytes: MAX_SEGMENT_SPAN,
            first_append_time_ms: Some(0),
        };
        let next = NextBatch { size_bytes: 1, last_offset: Offset(9), append_time_ms: 0 };
        assert_eq!(before_append(&segment, &next, &limits), Some(RollReason::Size));
    }
}
