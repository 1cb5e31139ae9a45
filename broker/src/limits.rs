//! The bounds of the broker, each with its unit and its reason; those of one API stand in it.
//!
//! Does not own: the counts of groups, members and offsets (`groups`), the bounds of the log (`hotlog::limits`) and
//! of the store (`tiering::limits`), nor what happens at a bound: whoever holds the thing decides.

use std::time::Duration;

/// The largest request frame, as Kafka's `socket.request.max.bytes`.
pub(crate) const MAX_REQUEST_BYTES: usize = 100 << 20;
/// Largest first frame of a connection: nobody has said who they are yet, and an ApiVersions request is tiny.
pub(crate) const MAX_FIRST_REQUEST_BYTES: usize = 128 << 10;
/// Connections at a time, in all and from one address.
pub(crate) const MAX_CONNECTIONS: usize = 10_000;
/// Connections from one address at a time.
pub(crate) const MAX_CONNECTIONS_PER_ADDRESS: usize = 1_000;
/// A connection that says nothing for this long is closed, as Kafka's `connections.max.idle.ms`.
pub(crate) const IDLE_TIMEOUT_MS: i64 = 600_000;
/// A connection that has begun a frame must go on with it within this time.
pub(crate) const STALLED_REQUEST_MS: i64 = 60_000;
/// And a whole frame must come at this rate at least, [`STALLED_REQUEST_MS`] aside: a byte now and then does not hold its memory for ever.
pub(crate) const SLOWEST_REQUEST_BYTES_PER_MS: usize = 256;
/// A connection whose first request has not come within this time is closed.
pub(crate) const FIRST_REQUEST_TIMEOUT_MS: i64 = 10_000;
/// A peer that takes nothing of its answers for this long is closed.
pub(crate) const STALLED_RESPONSE_MS: i64 = 60_000;
/// A connection that has received nothing for this long gives its buffer back. Sooner would cost a busy one a new buffer per request.
pub(crate) const IDLE_BUFFER_MS: i64 = 1_000;
/// How often connections are looked at for the five times above.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Requests of one connection that are begun and not answered: beyond it, nothing more is read.
pub(crate) const MAX_PIPELINED_REQUESTS: usize = 128;
/// Bytes of finished answers one connection may hold back before nothing more is read from it.
pub(crate) const MAX_QUEUED_RESPONSE_BYTES: usize = 8 << 20;
/// A connection reads into a buffer that grows up to this while requests are small; larger frames need a share of
/// [`LARGE_REQUESTS_BYTES`]. More than one core's own cache would make each step of a request fetch it from memory again.
pub(crate) const READ_BUFFER_BYTES: usize = 256 << 10;
/// The buffer of a connection that has just begun.
pub(crate) const FIRST_READ_BYTES: usize = 16 << 10;
/// All frames above [`READ_BUFFER_BYTES`] together: further ones wait.
pub(crate) const LARGE_REQUESTS_BYTES: usize = 256 << 20;
/// All answers to fetches held in memory together: further fetches wait, or are given less.
pub(crate) const FETCH_RESPONSES_BYTES: usize = 256 << 20;
/// One answer to a fetch, whatever the client asks for.
pub(crate) const MAX_FETCH_RESPONSE_BYTES: usize = 55 << 20;
/// The longest a fetch may wait for data.
pub(crate) const MAX_FETCH_WAIT_MS: i64 = 300_000;
/// What a fetch that has found nothing waits for the store at least, whatever it says: Kafka's `remote.fetch.max.wait.ms` (KIP-405).
pub(crate) const STORE_WAIT: Duration = Duration::from_millis(500);
/// Reads from the store that are under way, or whose outcome waits for its next fetch: further ones are begun later.
pub(crate) const MAX_COLD_READS: usize = 4_096;
/// What all of them bring in together; further ones wait for their share. Apart from [`FETCH_RESPONSES_BYTES`], so that a store that
/// hangs holds nothing of what tail reads need.
pub(crate) const COLD_READS_BYTES: usize = 128 << 20;
/// What one of them brings in, unless its first batch is larger.
pub(crate) const COLD_READ_BYTES: usize = 8 << 20;
/// What was read waits so long for its next fetch, as the store's own read-ahead does.
pub(crate) const COLD_READ_KEPT: Duration = Duration::from_secs(30);
/// And a failure so long: afterwards the store is asked again.
pub(crate) const COLD_FAILURE_KEPT: Duration = Duration::from_secs(2);
/// A store that takes longer than this for the first bytes of a read is an alarm.
pub(crate) const STORE_SILENT_AFTER: Duration = Duration::from_secs(5);
/// It is none for so long after any read has come to a good end: over a slow link each may take longer than that, and who reads one
/// after the other begins the next as the one before ends.
pub(crate) const STORE_ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// Fetch sessions kept, as Kafka's `max.incremental.fetch.session.cache.slots`.
pub(crate) const MAX_FETCH_SESSIONS: usize = 1_000;
/// Partitions that all fetch sessions remember together: some 200 bytes each.
pub(crate) const MAX_FETCH_SESSION_PARTITIONS: usize = 1_000_000;
/// A fetch session may be evicted when it has not been used for this long.
pub(crate) const FETCH_SESSION_EVICTION_MS: i64 = 120_000;
/// Partitions one request may name.
pub(crate) const MAX_PARTITIONS_PER_REQUEST: usize = 100_000;
/// Partitions one topic may have.
pub(crate) const MAX_PARTITIONS_PER_TOPIC: i32 = 10_000;
/// Partitions the broker holds.
pub(crate) const MAX_PARTITIONS: usize = 100_000;
/// Bytes a topic's overrides may take.
pub(crate) const MAX_CONFIG_BYTES: usize = 32 << 10;
/// Producer ids made durable at a time; a restart loses what is left of the block.
pub(crate) const PRODUCER_ID_BLOCK: i64 = 1_000;
/// How long a stop waits for requests under way.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// What a record batch may grow to when `validation=records` decompresses it.
pub(crate) const MAX_DECOMPRESSED_BYTES: usize = 128 << 20;
/// Vectors of one `writev`.
pub(crate) const MAX_WRITE_VECTORS: usize = 64;
/// Bytes one `sendfile` moves on a disk thread before the connection is looked at again.
pub(crate) const SEND_FILE_BYTES: usize = 1 << 20;
/// Protocols one member of a group may offer: clients offer one or two, and each is compared with those of all members.
pub(crate) const MAX_PROTOCOLS_PER_MEMBER: usize = 64;
/// Names and metadata of all protocols of one member. Metadata is a list of topic names, so this is ample.
pub(crate) const MAX_MEMBER_METADATA_BYTES: usize = 1 << 20;
/// What a leader may assign to one member.
pub(crate) const MAX_ASSIGNMENT_BYTES: usize = 1 << 20;
/// Members' names, metadata and assignments in one answer to DescribeGroups; the group that reaches it comes whole.
pub(crate) const MAX_DESCRIBED_BYTES: usize = 32 << 20;
/// What all members of all groups hold together: names, metadata and assignments, those of requests under way included.
pub(crate) const GROUP_MEMORY_BYTES: usize = 256 << 20;
/// What the committed offsets of all groups hold together, their place in memory included: a million or so. Beyond it a commit that
/// would add to them is refused; one that takes the place of another like it is not.
pub(crate) const COMMITTED_OFFSETS_BYTES: usize = 256 << 20;
