//! Clusters, stores, topics and flows as a checked description: pure data, no I/O, no clock.
//!
//! Owns: the grammar of a topology file, every rule that can be judged from the file alone, and the model that the
//! rest of the program uses.
//! Does not own: reading the file, resolving secrets, talking to clusters.
//!
//! A file is parsed raw and then validated whole, so that one run reports every fault with its line, the reason and,
//! where one is known, what to write instead.
//!
//! ```
//! let text = r#"
//! [cluster.west]
//! datacenter = "dc-west"
//! listen = "127.0.0.1:9092"
//! data = "data/west"
//! "#;
//! let topology = topology::parse(text).expect("a valid file");
//! assert_eq!(topology.clusters["west"].bootstrap(), ["127.0.0.1:9092"]);
//! ```

mod address;
mod check;
mod fault;
mod loops;
mod meeting;
mod model;
mod pattern;
mod quantity;
mod read;
mod topic_settings;

pub use address::{Address, AddressError};
pub use fault::{Fault, Faults};
pub use model::{
    Cluster, ClusterKind, ExistingCluster, Flow, FlushMode, OurCluster, Rename, Secret, Start, Store,
    StoreUrl, StoreUrlError, Topic, Topology,
};
pub use pattern::{Pattern, PatternError};
pub use quantity::{parse_bytes, parse_milliseconds};
pub use topic_settings::TopicSettings;

/// Parses and validates a topology file.
///
/// # Errors
/// Every fault of the file at once, in the order of its lines. A file with a syntax error is reported with that error
/// and with whatever could be judged of the rest.
pub fn parse(text: &str) -> Result<Topology, Faults> {
    parse_by(text, None)
}

/// As [`parse`], with the topics' settings judged by those who know them.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(text: &str, settings: &dyn TopicSettings) -> Result<Topology, Faults> {
    parse_by(text, Some(settings))
}

fn parse_by(text: &str, settings: Option<&dyn TopicSettings>) -> Result<Topology, Faults> {
    let mut faults = fault::Sink::new(text);
    let mut draft = read::read(text, settings, &mut faults);
    check::check(&mut draft, settings, &mut faults);
    loops::check(&draft, &mut faults);
    faults.finish(draft.into_topology())
}

#[cfg(test)]
mod tests;
