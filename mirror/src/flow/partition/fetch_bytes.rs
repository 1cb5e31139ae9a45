//! How much one fetch of a partition asks for.
//!
//! Owns: this one decision. Does not own: the fetch, or what memory there is.

const LEAST: i32 = 1024 * 1024;
const MOST: i32 = 16 * 1024 * 1024;

/// Bytes that the next fetch asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FetchBytes(pub(super) i32);

impl FetchBytes {
    pub(super) const FIRST: Self = Self(LEAST);

    /// A fetch that came back full asks for more the next time, up to half of the memory share: so it grows to what
    /// bandwidth and round trip allow. One that is `stuck` did not bring one whole batch, and may pass that.
    pub(super) fn after(self, received: usize, stuck: bool, memory_bytes: usize) -> Self {
        let full = received * 4 >= usize::try_from(self.0).unwrap_or(0) * 3;
        if !full && !stuck {
            return self;
        }
        let share = i32::try_from(memory_bytes / 2).unwrap_or(i32::MAX);
        let most = if stuck { MOST * 4 } else { MOST.min(share).max(LEAST) };
        Self(self.0.saturating_mul(2).min(most).max(LEAST))
    }
}
