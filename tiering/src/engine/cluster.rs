//! The cluster side: whose prefix it is, the writer epoch, and the cluster manifest.
//!
//! Owns: the connect sequence and its refusals, the task that commits what the broker wants recorded, and the removal of
//! deleted topics. Does not own: the records' truth, how group offsets get there (`groups`).

mod groups;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use wire::ids::TopicId;

use self::groups::GroupNotes;
use super::Engine;
use crate::cluster_record::{GroupSnapshot, TopicRecord};
use crate::keys;
use crate::limits::{COMMIT_TRIES, DELETE_GRACE, READ_STALL, TOPICS_PER_RECORD};
use crate::manifest::{ClusterEdit, ClusterManifest, CommitError, ManifestError, Register};
use crate::owner_mark::{store_fault, take_prefix};
use crate::seams::{Backoff, Seams};
use crate::store::{ProbeError, Right, Store, StoreError, StoreUrl, list_all, probe_conditional_put};
use crate::tier::{OpenTierError, TierOptions};

/// How often the cluster side looks for something to do unasked (topics to purge).
const CLUSTER_TICK: Duration = Duration::from_secs(5);

/// What the broker wants the cluster manifest to say; the newest wish counts. A deletion leaves it once it is recorded.
#[derive(Debug, Default)]
pub(crate) struct Desired {
    pub(crate) topics: BTreeMap<TopicId, TopicRecord>,
    pub(crate) next_producer_id: Option<i64>,
    pub(crate) groups: Option<Arc<GroupSnapshot>>,
}

/// The cluster manifest, claimed.
#[derive(Debug)]
pub(crate) struct ClusterSide {
    register: Register<ClusterManifest>,
    groups: GroupNotes,
}

impl ClusterSide {
    pub(super) fn writer_epoch(&self) -> u64 {
        self.register.state().writer_epoch
    }

    /// What of the manifest could not be read or written for its size, until newer group offsets are in their place.
    fn left_out(&self) -> Option<String> {
        let notes = self.register.notes();
        (!notes.is_empty() && !self.groups.are_noted()).then(|| notes.join("; "))
    }

    pub(super) fn live_topics(&self) -> BTreeSet<TopicId> {
        let topics = self.register.state().topics.values();
        topics.filter(|topic| topic.deleted_at_ms.is_none()).map(|topic| topic.topic_id).collect()
    }
}

/// Proves that the store can fence, takes or checks the prefix, and raises the writer epoch.
pub(super) async fn connect(
    probed: &dyn Store,
    store: Arc<dyn Store>,
    options: &TierOptions,
    seams: &Seams,
) -> Result<ClusterSide, OpenTierError> {
    let url = &options.store;
    probe_conditional_put(probed, seams).await.map_err(|error| match error {
        ProbeError::Store(error) => store_fault(url, &error),
        ProbeError::NotConditional => {
            OpenTierError::Unusable { url: url.to_string(), detail: error.to_string() }
        }
    })?;
    let identity = &options.identity;
    take_prefix(probed, options, seams).await?;
    let folder = keys::cluster_folder(&identity.cluster_id);
    let register = Register::open(store, folder, ClusterManifest::default(), seams.clone()).await;
    let mut register = register.map_err(|error| manifest_fault(url, &error))?;
    let mut current = register.state().recovery_generation;
    let claimed = register
        .claim(|manifest, epoch| {
            current = manifest.recovery_generation;
            if current != identity.recovery_generation && epoch > 1 {
                // Wanting nothing ends the claim without a record.
                return Err(crate::manifest::Violation {
                    name: "recovery-generation",
                    detail: String::new(),
                });
            }
            let claim = ClusterEdit::Claim {
                writer_epoch: epoch,
                recovery_generation: identity.recovery_generation,
                cluster_name: identity.cluster_name.clone(),
            };
            Ok(vec![claim])
        })
        .await;
    match claimed {
        Ok(_) => Ok(ClusterSide { register, groups: GroupNotes::default() }),
        Err(CommitError::Violation(_)) if current != identity.recovery_generation => {
            Err(superseded(options, current))
        }
        Err(CommitError::Manifest(error)) => Err(manifest_fault(url, &error)),
        Err(error) => Err(OpenTierError::Unusable { url: url.to_string(), detail: error.to_string() }),
    }
}

/// The cluster was recovered into another folder, as often as the bucket says.
fn superseded(options: &TierOptions, current: u32) -> OpenTierError {
    OpenTierError::Superseded {
        url: options.store.to_string(),
        cluster_id: options.identity.cluster_id.clone(),
        current,
        found: options.identity.recovery_generation,
    }
}

fn manifest_fault(url: &StoreUrl, error: &ManifestError) -> OpenTierError {
    match error {
        ManifestError::Store(error) => store_fault(url, error),
        error => OpenTierError::Unusable { url: url.to_string(), detail: error.to_string() },
    }
}

/// Connects if that is still to be done, then commits wishes as they come.
pub(super) async fn run(engine: Arc<Engine>, side: Option<ClusterSide>) {
    let mut side = match side {
        Some(side) => side,
        None => match reconnect(&engine).await {
            Some(side) => side,
            None => return,
        },
    };
    let mut backoff = Backoff::for_partition(&engine.seams);
    loop {
        match follow_wishes(&engine, &mut side).await {
            Ok(()) => {
                engine.show_cluster_trouble(side.left_out());
                backoff = Backoff::for_partition(&engine.seams);
                let changed = engine.desired_changed.notified();
                let _ = crate::timers::timeout(CLUSTER_TICK, changed).await;
                engine.replay.release_idle();
                try_to_read(&engine).await;
            }
            Err(CommitError::Fenced { .. }) => {
                let current = side.register.state().recovery_generation;
                match current == engine.options.identity.recovery_generation {
                    true => engine
                        .refuse("another broker or a recovery has taken over this cluster's prefix".into()),
                    false => engine.supersede(superseded(&engine.options, current)),
                }
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the cluster manifest waits");
                engine.show_cluster_trouble(Some(format!("the cluster manifest waits: {error}")));
                crate::timers::sleep(backoff.next_pause()).await;
            }
        }
    }
}

/// Whatever else fails is tried again by itself; reading, only while somebody reads.
async fn try_to_read(engine: &Engine) {
    if engine.watched.fails(Right::Read) {
        let owner = keys::owner();
        // Noted by the watched store, whatever comes of it.
        let _ = crate::timers::timeout(READ_STALL, engine.store.head(&owner)).await;
    }
}

async fn reconnect(engine: &Arc<Engine>) -> Option<ClusterSide> {
    let mut backoff = Backoff::for_partition(&engine.seams);
    loop {
        crate::timers::sleep(backoff.next_pause()).await;
        match connect(&*engine.store, engine.store.clone(), &engine.options, &engine.seams).await {
            Ok(side) => {
                engine.connected(&side);
                return Some(side);
            }
            // What makes a store unusable (rights, a bucket that is not there) is mended there, not here.
            Err(OpenTierError::Unavailable { detail, .. } | OpenTierError::Unusable { detail, .. }) => {
                tracing::warn!(store = %engine.options.store, %detail, "the store cannot be used yet");
                engine.state.send_replace(super::TierState::Connecting { last_error: detail });
            }
            Err(error @ OpenTierError::Superseded { .. }) => {
                engine.supersede(error);
                return None;
            }
            Err(error) => {
                engine.refuse(error.to_string());
                return None;
            }
        }
    }
}

/// Whether the manifest says of a topic what is wished. A deleted topic that it does not know is purged already, or was
/// never there.
fn is_recorded(manifest: &ClusterManifest, topic: &TopicRecord) -> bool {
    manifest.topic(topic.topic_id).map_or(topic.deleted_at_ms.is_some(), |known| known == topic)
}

/// The edits that turn the manifest into what is wished, group offsets left aside; as many as one record takes. Pure.
fn wished_edits(manifest: &ClusterManifest, desired: &Desired, now_ms: i64) -> Vec<ClusterEdit> {
    let mut edits = Vec::new();
    for topic in desired.topics.values() {
        if !is_recorded(manifest, topic) {
            edits.push(ClusterEdit::PutTopic(topic.clone()));
        }
    }
    // A name that moved to a new topic is free only once the old one is marked.
    edits.sort_by_key(|edit| matches!(edit, ClusterEdit::PutTopic(topic) if topic.deleted_at_ms.is_none()));
    edits.truncate(TOPICS_PER_RECORD);
    if let Some(next) = desired.next_producer_id.filter(|next| *next > manifest.next_producer_id) {
        edits.push(ClusterEdit::ProducerIds { next, at_ms: now_ms });
    }
    edits
}

/// Does all that is wished: first what a recovery cannot do without, then the group offsets, which may be many. Topics are new
/// or purged whatever becomes of those, unless another writer has taken over.
async fn follow_wishes(engine: &Engine, side: &mut ClusterSide) -> Result<(), CommitError> {
    commit_wishes(engine, side).await?;
    engine.note_topics(side);
    let noted = groups::commit(engine, side).await;
    if !matches!(noted, Err(CommitError::Fenced { .. })) {
        purge_deleted(engine, side).await;
    }
    noted
}

/// Commits what is wished, group offsets left aside.
async fn commit_wishes(engine: &Engine, side: &mut ClusterSide) -> Result<(), CommitError> {
    let now_ms = engine.seams.now_ms();
    let mut is_done = false;
    while !is_done {
        let manifest = side
            .register
            .commit(|manifest| {
                let desired = engine.desired.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(wished_edits(manifest, &desired, now_ms))
            })
            .await?;
        let mut desired = engine.desired.lock().unwrap_or_else(PoisonError::into_inner);
        desired.topics.retain(|_, topic| topic.deleted_at_ms.is_none() || !is_recorded(&manifest, topic));
        is_done = wished_edits(&manifest, &desired, now_ms).is_empty();
    }
    Ok(())
}

/// Deletes everything that topics deleted long enough ago still have, then forgets them.
async fn purge_deleted(engine: &Engine, side: &mut ClusterSide) {
    let now_ms = engine.seams.now_ms();
    let grace_ms = DELETE_GRACE.as_millis() as i64;
    let due: Vec<TopicId> = side
        .register
        .state()
        .topics
        .values()
        .filter(|topic| topic.deleted_at_ms.is_some_and(|deleted| deleted + grace_ms <= now_ms))
        .map(|topic| topic.topic_id)
        .take(COMMIT_TRIES as usize)
        .collect();
    for topic_id in due {
        if let Err(error) = purge_topic(engine, topic_id).await {
            tracing::warn!(%topic_id, %error, "objects of a deleted topic wait for their delete");
            return;
        }
        let topic_id = topic_id.to_string();
        let dropped = side
            .register
            .commit(|manifest| match manifest.topics.contains_key(&topic_id) {
                true => Ok(vec![ClusterEdit::DropTopic { topic_id: topic_id.clone() }]),
                false => Ok(Vec::new()),
            })
            .await;
        if let Err(error) = dropped {
            tracing::warn!(%topic_id, %error, "a purged topic is not forgotten yet");
            return;
        }
    }
}

async fn purge_topic(engine: &Engine, topic_id: TopicId) -> Result<(), StoreError> {
    let folder = keys::topic_folder(&engine.options.identity.cluster_id, topic_id);
    for entry in list_all(&*engine.store, &folder).await? {
        super::status::Counters::add(&engine.metrics.delete_requests, 1);
        engine.store.delete(&entry.key).await?;
    }
    Ok(())
}
