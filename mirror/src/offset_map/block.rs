//! A block: consecutive runs of an offset map, delta-coded, as `FORMAT-OFFSET-MAP.md` draws them.
//!
//! Owns: the bytes of a block's value, and reading them without trust.
//! Does not own: the key under which a block is kept (`map_topic`), lookups over several blocks.

use super::{Position, Provenance, Run, SourceOffset, TargetOffset};

/// Runs in one block at most: bounds both a lookup's linear part and what one write carries.
pub const RUNS_PER_BLOCK: usize = 256;

const FORMAT_VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 8 + 4 + 4 + 8 + 8 + 2;

/// Why a block's bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockFormatError {
    /// Written by a later Longhaul.
    #[error("block format {0} is not known; a newer longhaul wrote it")]
    Version(u8),
    /// The bytes end early.
    #[error("block ends inside a field")]
    Truncated,
    /// Bytes follow the last run.
    #[error("{0} bytes follow the last run of a block")]
    Trailing(usize),
    /// More runs than a block may hold.
    #[error("block claims {0} runs; {RUNS_PER_BLOCK} is the most")]
    TooManyRuns(u16),
    /// A number that cannot be: an offset out of range or an empty run.
    #[error("run {0} of a block is empty or out of range")]
    BadRun(usize),
}

/// Delta-coded runs from a start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    start: Position,
    provenance: Provenance,
    /// All runs but the last, each as three varints: source gap, target gap, length.
    settled: Vec<u8>,
    /// End of the settled runs: what the last run's gaps count from.
    settled_end: Position,
    /// The run that the next acknowledgement may lengthen.
    last: Option<Run>,
    run_count: usize,
}

impl Block {
    /// A block without runs.
    #[must_use]
    pub fn new(start: Position, provenance: Provenance) -> Self {
        Self { start, provenance, settled: Vec::new(), settled_end: start, last: None, run_count: 0 }
    }

    /// The first pair that this block covers: for all but the first block, the end of the run before.
    #[must_use]
    pub fn start(&self) -> Position {
        self.start
    }

    /// The end of the last run; the start without runs.
    #[must_use]
    pub fn end(&self) -> Position {
        match &self.last {
            Some(run) => Position { source: run.source_end(), target: run.target_end() },
            None => self.start,
        }
    }

    /// Epochs and owner of these runs.
    #[must_use]
    pub fn provenance(&self) -> Provenance {
        self.provenance
    }

    /// Runs in this block.
    #[must_use]
    pub fn run_count(&self) -> usize {
        self.run_count
    }

    /// Memory that it takes, which is what the map's bound counts: the settled runs, and the block itself, since a
    /// topic without holes makes many blocks of one run each.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.settled.len()
    }

    /// The runs, in rising order.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        SettledRuns { bytes: &self.settled, end: self.start }.chain(self.last)
    }

    pub(super) fn accepts(&self, run: Run, provenance: Provenance) -> bool {
        self.provenance == provenance && (self.run_count < RUNS_PER_BLOCK || self.joins(run))
    }

    fn joins(&self, run: Run) -> bool {
        self.last.is_some_and(|last| last.source_end() == run.source && last.target_end() == run.target)
    }

    pub(super) fn push(&mut self, run: Run) {
        if self.joins(run) {
            let last = self.last.as_mut().expect("a run that joins has one to join");
            last.length += run.length;
            return;
        }
        if let Some(last) = self.last.replace(run) {
            write_run(&mut self.settled, self.settled_end, last);
            self.settled_end = Position { source: last.source_end(), target: last.target_end() };
        }
        self.run_count += 1;
    }

    /// Drops what lies at or beyond `limit` at the source.
    pub(super) fn cut_at(&mut self, limit: Position) {
        if self.end().source <= limit.source {
            return;
        }
        let mut kept = Self::new(self.start, self.provenance);
        for mut run in self.runs().take_while(|run| run.source < limit.source) {
            run.length = run.length.min(limit.source.since(run.source));
            kept.push(run);
        }
        *self = kept;
    }

    /// The value of this block's record in the map topic.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.settled.len() + 16);
        bytes.push(FORMAT_VERSION);
        bytes.extend_from_slice(&self.provenance.generation.to_be_bytes());
        bytes.extend_from_slice(&self.provenance.source_leader_epoch.to_be_bytes());
        bytes.extend_from_slice(&self.provenance.target_leader_epoch.to_be_bytes());
        bytes.extend_from_slice(&self.start.source.0.to_be_bytes());
        bytes.extend_from_slice(&self.start.target.0.to_be_bytes());
        let run_count = u16::try_from(self.run_count).expect("a block holds at most RUNS_PER_BLOCK runs");
        bytes.extend_from_slice(&run_count.to_be_bytes());
        bytes.extend_from_slice(&self.settled);
        if let Some(last) = self.last {
            write_run(&mut bytes, self.settled_end, last);
        }
        bytes
    }

    /// Reads a value that `encode` made; anything else is refused, with no memory beyond a block's.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockFormatError> {
        let version = *bytes.first().ok_or(BlockFormatError::Truncated)?;
        if version != FORMAT_VERSION {
            return Err(BlockFormatError::Version(version));
        }
        let header = bytes.get(..HEADER_BYTES).ok_or(BlockFormatError::Truncated)?;
        let provenance = Provenance {
            generation: u64::from_be_bytes(field(header, 1)),
            source_leader_epoch: i32::from_be_bytes(field(header, 9)),
            target_leader_epoch: i32::from_be_bytes(field(header, 13)),
        };
        let start = Position {
            source: SourceOffset(i64::from_be_bytes(field(header, 17))),
            target: TargetOffset(i64::from_be_bytes(field(header, 25))),
        };
        let run_count = u16::from_be_bytes(field(header, 33));
        if usize::from(run_count) > RUNS_PER_BLOCK {
            return Err(BlockFormatError::TooManyRuns(run_count));
        }
        let mut block = Self::new(start, provenance);
        let mut rest = &bytes[HEADER_BYTES..];
        for index in 0..usize::from(run_count) {
            let run = read_run(&mut rest, block.end()).ok_or(BlockFormatError::Truncated)?;
            block.push(run.ok_or(BlockFormatError::BadRun(index))?);
        }
        match rest.len() {
            0 => Ok(block),
            trailing => Err(BlockFormatError::Trailing(trailing)),
        }
    }
}

fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header[at..at + N].try_into().expect("the header was cut to its full length")
}

struct SettledRuns<'a> {
    bytes: &'a [u8],
    end: Position,
}

impl Iterator for SettledRuns<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let run = read_run(&mut self.bytes, self.end)??;
        self.end = Position { source: run.source_end(), target: run.target_end() };
        Some(run)
    }
}

fn write_run(bytes: &mut Vec<u8>, end: Position, run: Run) {
    write_varint(bytes, run.source.since(end.source));
    write_varint(bytes, run.target.since(end.target));
    write_varint(bytes, run.length);
}

/// `None` when the bytes end early, `Some(None)` when the numbers cannot be a run.
fn read_run(bytes: &mut &[u8], end: Position) -> Option<Option<Run>> {
    let source_gap = read_varint(bytes)?;
    let target_gap = read_varint(bytes)?;
    let length = read_varint(bytes)?;
    let place = |end: i64, gap: u64| {
        let start = end.checked_add_unsigned(gap)?;
        start.checked_add_unsigned(length).map(|_| start)
    };
    let source = place(end.source.0, source_gap).map(SourceOffset);
    let target = place(end.target.0, target_gap).map(TargetOffset);
    Some(match (source, target) {
        (Some(source), Some(target)) if length > 0 => Some(Run { source, target, length }),
        _ => None,
    })
}

/// Seven bits a byte, lowest first, the high bit set on all but the last (as protobuf's).
pub(crate) fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value as u8) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// `None` when the bytes end early or the number does not fit 64 bits.
pub(crate) fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * index as u32;
        if index == 9 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}
