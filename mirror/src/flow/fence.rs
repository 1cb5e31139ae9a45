//! That an owner still holds its flow at the moment at which it acts on what it has read.
//!
//! A process that was paused beyond its session was replaced and does not know it. What it then reads of the other
//! direction is newer than its own map, which no longer holds all that was sent to the target.
//!
//! Owns: the one write that a replaced owner cannot make, before its first move. Does not own: what moves (`group_sync`).

use tokio::sync::OnceCell;

use super::FlowError;
use super::map_log::MapWriter;
use crate::map_topic::{Key, MapRecord};
use crate::spec::FlowSpec;

/// Made after all was read that is acted on, and asked before each act; it writes at most once.
pub(crate) struct Fence {
    writer: MapWriter,
    flow: String,
    held: OnceCell<()>,
}

impl Fence {
    /// Nothing is written yet.
    pub(crate) fn new(writer: &MapWriter, spec: &FlowSpec) -> Self {
        Self { writer: writer.clone(), flow: spec.name.clone(), held: OnceCell::new() }
    }

    /// Comes back once it is sure that nobody else owned the flow when this was made.
    ///
    /// # Errors
    /// [`FlowError`]: this owner was replaced, or refused.
    pub(crate) async fn hold(&self) -> Result<(), FlowError> {
        // No topic has an empty name, so this forgets nothing, and a target that compacts drops it.
        let key = Key::Event { flow: self.flow.clone(), topic: String::new(), partition: -1 };
        let write = || self.writer.commit(vec![MapRecord::forget(&key)]);
        self.held.get_or_try_init(write).await.map(|_| ())
    }
}
