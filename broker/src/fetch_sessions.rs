//! Fetch sessions (KIP-227): the partitions a consumer fetches, remembered so that it need not repeat them, and what
//! it was last told of each, so that we need not either.
//!
//! Owns: sessions, their epochs, their bound. Does not own: reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use wire::ErrorCode;
use wire::ids::TopicId;

use crate::limits::{FETCH_SESSION_EVICTION_MS, MAX_FETCH_SESSION_PARTITIONS, MAX_FETCH_SESSIONS};

/// How a request names a topic: by id from version 13 on, before by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TopicKey {
    /// By name.
    Name(Arc<str>),
    /// By id.
    Id(TopicId),
}

/// A partition to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The topic.
    pub(crate) topic: TopicKey,
    /// The partition.
    pub(crate) partition: i32,
    /// Where to read.
    pub(crate) offset: i64,
    /// How much.
    pub(crate) max_bytes: i32,
    /// The leader epoch the client knows, -1 for none.
    pub(crate) current_leader_epoch: i32,
    /// The epoch of the last record it has, -1 for none.
    pub(crate) last_fetched_epoch: i32,
}

/// What a session was last told of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The high watermark.
    pub(crate) high_watermark: i64,
    /// The last stable offset.
    pub(crate) last_stable_offset: i64,
    /// The log start.
    pub(crate) log_start: i64,
}

type PartitionKey = (TopicKey, i32);

#[derive(Debug)]
struct Session {
    /// The epoch the next request must carry.
    epoch: i32,
    uses_ids: bool,
    used_at_ms: i64,
    partitions: BTreeMap<PartitionKey, (Target, Option<Told>)>,
    /// The partition to begin with: after the last one that had data, so that none starves.
    first: Option<PartitionKey>,
}

/// What a request asks of its session.
#[derive(Clone, Debug)]
pub(crate) struct SessionRequest {
    /// 0 for none.
    pub(crate) id: i32,
    /// -1 without, 0 to begin one, else the next in turn.
    pub(crate) epoch: i32,
    /// Whether topics are named by id.
    pub(crate) uses_ids: bool,
    /// Partitions to add or change.
    pub(crate) targets: Vec<Target>,
    /// Partitions to drop.
    pub(crate) forgotten: Vec<PartitionKey>,
}

/// What is to be fetched for a request.
#[derive(Debug)]
pub(crate) struct Fetching {
    /// The session to name in the answer, 0 for none.
    pub(crate) session_id: i32,
    /// Whether only what changed is to be told.
    pub(crate) incremental: bool,
    /// The partitions, in the order of reading.
    pub(crate) targets: Vec<Target>,
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct FetchSessions {
    sessions: Mutex<HashMap<i32, Session>>,
}

impl FetchSessions {
    /// Finds what a request wants to fetch.
    ///
    /// # Errors
    /// The code for the whole answer.
    pub(crate) fn begin(&self, request: SessionRequest, now_ms: i64) -> Result<Fetching, ErrorCode> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        match request.epoch {
            -1 => {
                sessions.remove(&request.id);
                Ok(Fetching { session_id: 0, incremental: false, targets: request.targets })
            }
            0 => {
                sessions.remove(&request.id);
                let session_id = new_session(&mut sessions, &request, now_ms);
                Ok(Fetching { session_id, incremental: false, targets: request.targets })
            }
            epoch => {
                let session = sessions.get_mut(&request.id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
                if session.epoch != epoch {
                    return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
                }
                if session.uses_ids != request.uses_ids {
                    return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
                }
                session.epoch = next_epoch(epoch);
                session.used_at_ms = now_ms;
                for target in request.targets {
                    let key = (target.topic.clone(), target.partition);
                    let told = session.partitions.remove(&key).and_then(|(_, told)| told);
                    session.partitions.insert(key, (target, told));
                }
                for key in &request.forgotten {
                    session.partitions.remove(key);
                }
                let targets = session.in_order();
                if remembered(&sessions) > MAX_FETCH_SESSION_PARTITIONS {
                    // The client begins again with all it wants, and is served without a session while there is no room for one.
                    sessions.remove(&request.id);
                    return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
                }
                Ok(Fetching { session_id: request.id, incremental: true, targets })
            }
        }
    }

    /// Notes what an answer tells of each partition; `keep` is cleared for those that say nothing new. Each entry is
    /// the partition, what it tells (none beside an error), and whether it carries records.
    pub(crate) fn finish(&self, session_id: i32, incremental: bool, outcomes: &mut [SessionOutcome]) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(session) = sessions.get_mut(&session_id) else { return };
        for outcome in outcomes {
            let Some((_, told)) = session.partitions.get_mut(&outcome.key) else { continue };
            let unchanged = outcome.tells.is_some() && *told == outcome.tells && !outcome.has_records;
            outcome.keep = !(incremental && unchanged);
            // After an error the next answer must be told in full.
            *told = outcome.tells;
            if outcome.has_records {
                session.first = Some(outcome.key.clone());
            }
        }
    }
}

/// What an answer says of one partition, as far as the session cares.
#[derive(Clone, Debug)]
pub(crate) struct SessionOutcome {
    /// The partition.
    pub(crate) key: PartitionKey,
    /// What it tells; none beside an error.
    pub(crate) tells: Option<Told>,
    /// Whether it carries records.
    pub(crate) has_records: bool,
    /// Whether it belongs in the answer.
    pub(crate) keep: bool,
}

impl Session {
    fn in_order(&self) -> Vec<Target> {
        let after = self.first.as_ref();
        let later = self.partitions.iter().filter(|(key, _)| after.is_none_or(|first| *key > first));
        let earlier = self.partitions.iter().filter(|(key, _)| after.is_some_and(|first| *key <= first));
        later.chain(earlier).map(|(_, (target, _))| target.clone()).collect()
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// Partitions in all sessions together.
fn remembered(sessions: &HashMap<i32, Session>) -> usize {
    sessions.values().map(|session| session.partitions.len()).sum()
}

/// Makes a session if there is a slot, or one that has not been used for long; 0 when there is none.
fn new_session(sessions: &mut HashMap<i32, Session>, request: &SessionRequest, now_ms: i64) -> i32 {
    if remembered(sessions) + request.targets.len() > MAX_FETCH_SESSION_PARTITIONS {
        return 0;
    }
    if sessions.len() >= MAX_FETCH_SESSIONS {
        let stale = sessions
            .iter()
            .min_by_key(|(_, session)| session.used_at_ms)
            .map(|(id, session)| (*id, session.used_at_ms));
        match stale {
            Some((id, used_at_ms)) if now_ms - used_at_ms > FETCH_SESSION_EVICTION_MS => sessions.remove(&id),
            _ => return 0,
        };
    }
    let mut random = rand::rng();
    let id = loop {
        let id: i32 = random.random_range(1..=i32::MAX);
        if !sessions.contains_key(&id) {
            break id;
        }
    };
    let partitions = request
        .targets
        .iter()
        .map(|target| ((target.topic.clone(), target.partition), (target.clone(), None)))
        .collect();
    sessions.insert(
        id,
        Session { epoch: 1, uses_ids: request.uses_ids, used_at_ms: now_ms, partitions, first: None },
    );
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(partition: i32, offset: i64) -> Target {
        let topic = TopicKey::Id(TopicId([3; 16]));
        Target { topic, partition, offset, max_bytes: 1, current_leader_epoch: -1, last_fetched_epoch: -1 }
    }

    fn request(id: i32, epoch: i32, targets: Vec<Target>) -> SessionRequest {
        SessionRequest { id, epoch, uses_ids: true, targets, forgotten: Vec::new() }
    }

    fn outcome(partition: i32, high_watermark: i64, has_records: bool) -> SessionOutcome {
        let tells = Some(Told { high_watermark, ..Told::default() });
        SessionOutcome { key: (TopicKey::Id(TopicId([3; 16])), partition), tells, has_records, keep: true }
    }

    #[test]
    fn a_session_remembers_partitions_and_tells_only_what_changed() {
        let sessions = FetchSessions::default();
        let begun = sessions.begin(request(0, 0, vec![target(0, 5), target(1, 5)]), 0).unwrap();
        assert!(begun.session_id > 0 && !begun.incremental);
        let mut outcomes = [outcome(0, 5, false), outcome(1, 5, false)];
        sessions.finish(begun.session_id, false, &mut outcomes);
        assert!(outcomes.iter().all(|outcome| outcome.keep));

        let next = sessions.begin(request(begun.session_id, 1, vec![target(1, 6)]), 0).unwrap();
        assert!(next.incremental);
        assert_eq!(next.targets, [target(0, 5), target(1, 6)]);
        let mut outcomes = [outcome(0, 5, false), outcome(1, 6, true)];
        sessions.finish(begun.session_id, true, &mut outcomes);
        assert_eq!(outcomes.map(|outcome| outcome.keep), [false, true]);

        // The partition that had data comes last now, and a forgotten one not at all.
        let mut forgetting = request(begun.session_id, 2, Vec::new());
        forgetting.forgotten.push((TopicKey::Id(TopicId([3; 16])), 0));
        assert_eq!(sessions.begin(forgetting, 0).unwrap().targets, [target(1, 6)]);
    }

    #[test]
    fn wrong_ids_and_epochs_are_refused() {
        let sessions = FetchSessions::default();
        let code = |result: Result<Fetching, ErrorCode>| result.unwrap_err();
        assert_eq!(code(sessions.begin(request(77, 1, vec![]), 0)), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        let id = sessions.begin(request(0, 0, vec![target(0, 0)]), 0).unwrap().session_id;
        assert_eq!(code(sessions.begin(request(id, 2, vec![]), 0)), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        let by_name = SessionRequest { uses_ids: false, ..request(id, 1, vec![]) };
        assert_eq!(code(sessions.begin(by_name, 0)), ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        sessions.begin(request(id, -1, vec![]), 0).unwrap();
        assert_eq!(code(sessions.begin(request(id, 1, vec![]), 0)), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }

    #[test]
    fn what_all_sessions_remember_is_bounded() {
        let sessions = FetchSessions::default();
        let id = sessions.begin(request(0, 0, vec![]), 0).unwrap().session_id;
        let per_request = MAX_FETCH_SESSION_PARTITIONS as i32 / 4;
        let invented =
            |round: i32| (round * per_request..(round + 1) * per_request).map(|each| target(each, 0));
        for round in 0..4 {
            sessions.begin(request(id, round + 1, invented(round).collect()), 0).unwrap();
        }
        let more = sessions.begin(request(0, 0, vec![target(0, 0)]), 0).unwrap();
        assert_eq!((more.session_id, more.targets.len()), (0, 1), "served, without a session");
        let code = sessions.begin(request(id, 5, vec![target(-1, 0)]), 0).unwrap_err();
        assert_eq!(code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        assert!(sessions.begin(request(0, 0, vec![target(0, 0)]), 0).unwrap().session_id > 0);
    }

    #[test]
    fn slots_are_bounded_and_stale_ones_are_taken() {
        let sessions = FetchSessions::default();
        for _ in 0..MAX_FETCH_SESSIONS {
            assert!(sessions.begin(request(0, 0, vec![]), 0).unwrap().session_id > 0);
        }
        assert_eq!(sessions.begin(request(0, 0, vec![]), 1).unwrap().session_id, 0);
        assert!(sessions.begin(request(0, 0, vec![]), FETCH_SESSION_EVICTION_MS + 1).unwrap().session_id > 0);
    }
}
