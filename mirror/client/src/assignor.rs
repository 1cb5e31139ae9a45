//! How consumers share topics: Kafka's consumer protocol, and its range assignor.
//!
//! Owns: the bytes of subscriptions and assignments, in the version that every client reads, and the range rule, by
//! which a member of ours and one of Java's, whoever leads, come to the same result.
//! Does not own: the group itself (`member.rs`).
//!
//! ```text
//!  subscription: | version i16 | topics [string] | user data bytes |
//!  assignment:   | version i16 | [ topic string | partitions [i32] ] | user data bytes |
//! ```
//! Lengths are i16 for strings, i32 for arrays and bytes. Later versions append fields, which are passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use wire::{Reader, Text};

use crate::layout::TopicPartition;
use crate::member::Candidate;

/// The assignor's name among a group's protocols.
pub const RANGE: &str = "range";
/// The protocol type of consumers.
pub const CONSUMER: &str = "consumer";

/// Bytes that are no subscription or assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed consumer protocol message")]
pub struct MalformedProtocol;

/// The subscription to these topics.
#[must_use]
pub fn subscription(topics: &BTreeSet<Arc<str>>) -> Bytes {
    let mut out = vec![0, 0];
    count(&mut out, topics.len());
    for topic in topics {
        string(&mut out, topic);
    }
    out.extend_from_slice(&(-1i32).to_be_bytes());
    out.into()
}

/// The topics of a subscription.
///
/// # Errors
/// [`MalformedProtocol`].
pub fn read_subscription(bytes: &Bytes) -> Result<BTreeSet<Arc<str>>, MalformedProtocol> {
    let mut reader = open(bytes)?;
    let topics = read_count(&mut reader)?;
    (0..topics).map(|_| read_string(&mut reader)).collect()
}

/// The assignment of these partitions.
#[must_use]
pub fn assignment(partitions: &BTreeSet<TopicPartition>) -> Bytes {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let mut out = vec![0, 0];
    count(&mut out, topics.len());
    for (topic, partitions) in topics {
        string(&mut out, topic);
        count(&mut out, partitions.len());
        for partition in partitions {
            out.extend_from_slice(&partition.to_be_bytes());
        }
    }
    out.extend_from_slice(&(-1i32).to_be_bytes());
    out.into()
}

/// The partitions of an assignment; none for empty bytes, which is how a member is told that it gets nothing.
///
/// # Errors
/// [`MalformedProtocol`].
pub fn read_assignment(bytes: &Bytes) -> Result<BTreeSet<TopicPartition>, MalformedProtocol> {
    let mut all = BTreeSet::new();
    if bytes.is_empty() {
        return Ok(all);
    }
    let mut reader = open(bytes)?;
    for _ in 0..read_count(&mut reader)? {
        let topic = read_string(&mut reader)?;
        for _ in 0..read_count(&mut reader)? {
            let partition = reader.i32().map_err(|_| MalformedProtocol)?;
            all.insert(TopicPartition { topic: Arc::clone(&topic), partition });
        }
    }
    Ok(all)
}

/// Shares each topic among its subscribers in the order of their ids: consecutive partitions, the first members one
/// more where it does not come out even.
#[must_use]
pub fn assign_range(
    candidates: &[Candidate],
    partition_counts: &BTreeMap<Arc<str>, i32>,
) -> Vec<(Text, Bytes)> {
    let subscriptions: Vec<_> =
        candidates.iter().map(|member| read_subscription(&member.metadata).unwrap_or_default()).collect();
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    // As Java sorts: static members first, by name; then the others, by id.
    order.sort_by_key(|&index| {
        let member = &candidates[index];
        (member.instance_id.is_none(), member.instance_id.clone(), member.member_id.clone())
    });
    let mut shares = vec![BTreeSet::new(); candidates.len()];
    for (topic, &partitions) in partition_counts {
        let subscribers: Vec<_> =
            order.iter().copied().filter(|&index| subscriptions[index].contains(topic)).collect();
        let Ok(members) = i32::try_from(subscribers.len()) else { continue };
        if members == 0 {
            continue;
        }
        let (each, over) = (partitions / members, partitions % members);
        let mut next = 0;
        for (place, index) in (0..).zip(subscribers) {
            let share = each + i32::from(place < over);
            shares[index]
                .extend((next..next + share).map(|number| TopicPartition::new(Arc::clone(topic), number)));
            next += share;
        }
    }
    candidates
        .iter()
        .zip(shares)
        .map(|(member, share)| (member.member_id.clone(), assignment(&share)))
        .collect()
}

fn count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as i32).to_be_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as i16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A reader behind the version, which may be any: fields are only ever appended.
fn open(bytes: &Bytes) -> Result<Reader, MalformedProtocol> {
    let mut reader = Reader::for_response(bytes.clone());
    match reader.i16() {
        Ok(0..) => Ok(reader),
        _ => Err(MalformedProtocol),
    }
}

/// A count that the bytes left can hold, at two bytes for the smallest element.
fn read_count(reader: &mut Reader) -> Result<usize, MalformedProtocol> {
    let count = reader.length(false).ok().flatten().ok_or(MalformedProtocol)?;
    if count > reader.remaining() / 2 { Err(MalformedProtocol) } else { Ok(count) }
}

fn read_string(reader: &mut Reader) -> Result<Arc<str>, MalformedProtocol> {
    let length = reader.text_length(false).ok().flatten().ok_or(MalformedProtocol)?;
    reader.text(length).map(|text| Arc::from(&*text)).map_err(|_| MalformedProtocol)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topics(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|&name| name.into()).collect()
    }

    fn candidate(id: &str, instance: Option<&str>, names: &[&str]) -> Candidate {
        let metadata = subscription(&topics(names));
        Candidate { member_id: Text::from(id), instance_id: instance.map(Text::from), metadata }
    }

    fn shares(candidates: &[Candidate], counts: &[(&str, i32)]) -> Vec<Vec<String>> {
        let counts = counts.iter().map(|&(topic, count)| (topic.into(), count)).collect();
        assign_range(candidates, &counts)
            .iter()
            .map(|(_, bytes)| read_assignment(bytes).unwrap().iter().map(ToString::to_string).collect())
            .collect()
    }

    #[test]
    fn the_first_members_get_one_more() {
        let members = [candidate("b", None, &["t"]), candidate("a", None, &["t"]), candidate("c", None, &[])];
        assert_eq!(shares(&members, &[("t", 3)]), [vec!["t/2"], vec!["t/0", "t/1"], vec![]]);
    }

    #[test]
    fn static_members_come_first_by_name() {
        let members = [candidate("a", None, &["t"]), candidate("z", Some("one"), &["t"])];
        assert_eq!(shares(&members, &[("t", 1)]), [vec![], vec!["t/0"]]);
    }

    #[test]
    fn topics_without_partitions_or_subscribers_give_nothing() {
        let members = [candidate("a", None, &["gone"])];
        assert_eq!(shares(&members, &[("t", 5)]), [Vec::<String>::new()]);
    }

    proptest! {
        #[test]
        fn subscriptions_and_assignments_round_trip(
            names in proptest::collection::btree_set("[a-z]{1,9}", 0..5),
            numbers in proptest::collection::btree_set(any::<i32>(), 0..5),
        ) {
            let topics: BTreeSet<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
            prop_assert_eq!(read_subscription(&subscription(&topics)), Ok(topics.clone()));
            let partitions: BTreeSet<_> = topics
                .iter()
                .flat_map(|topic| numbers.iter().map(|&number| TopicPartition::new(Arc::clone(topic), number)))
                .collect();
            prop_assert_eq!(read_assignment(&assignment(&partitions)), Ok(partitions));
        }

        #[test]
        fn noise_is_refused_or_read_without_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..60)) {
            let noise = Bytes::from(noise);
            let _ = (read_subscription(&noise), read_assignment(&noise));
        }
    }
}
