//! Group offsets on their way into the bucket: in the cluster manifest, or in files that it names.
//!
//! Owns: which snapshot is there already, and the delete of files that a newer one replaced. Does not own: the files
//! (`manifest`), how often the broker takes a snapshot.
//!
//! A process that dies between its files and the record that names them, or between that record and the deletes, leaves
//! those few files behind. Nobody else may delete what no record names: it may be a newer writer's.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::ClusterSide;
use crate::cluster_record::GroupSnapshot;
use crate::engine::Engine;
use crate::keys;
use crate::manifest::{ClusterEdit, CommitError, ManifestError, NotedGroups, is_small, write_groups};

/// What this process knows of the snapshots that it wrote.
#[derive(Debug, Default)]
pub(super) struct GroupNotes {
    /// The newest that is committed.
    noted: Option<Arc<GroupSnapshot>>,
    /// The newest that is in files, committed or about to be, and the files.
    written: Option<(Arc<GroupSnapshot>, Vec<String>)>,
    /// Files that no record names any more.
    replaced: Vec<String>,
    /// Files that were written, or may be, for a snapshot that did not get into the manifest. A commit whose answer was lost may
    /// name them all the same: only the next one that is known to be there tells.
    abandoned: Vec<String>,
}

impl GroupNotes {
    /// Whether a snapshot of this process is committed.
    pub(super) fn are_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// Gives up on files of which it is not known whether a record names them.
    fn abandon_written(&mut self) {
        self.abandoned.extend(self.written.take().into_iter().flat_map(|(_, parts)| parts));
    }

    /// A snapshot is committed, and the manifest names only `parts`: what was given up on can go.
    fn settle(&mut self, parts: &[String], replaced: Vec<String>) {
        let left = replaced.into_iter().chain(std::mem::take(&mut self.abandoned));
        for part in left.filter(|part| !parts.contains(part)) {
            if !self.replaced.contains(&part) {
                self.replaced.push(part);
            }
        }
    }

    fn has(&self, wished: &Arc<GroupSnapshot>) -> bool {
        self.noted.as_ref().is_some_and(|noted| Arc::ptr_eq(noted, wished))
    }
}

/// Commits the newest snapshot, unless it is there.
pub(super) async fn commit(engine: &Engine, side: &mut ClusterSide) -> Result<(), CommitError> {
    let wished = engine.desired.lock().unwrap_or_else(PoisonError::into_inner).groups.clone();
    if let Some(wished) = wished.filter(|wished| !side.groups.has(wished)) {
        let noted = noted_as(engine, side, &wished).await?;
        let mut replaced = Vec::new();
        let state = side
            .register
            .commit(|manifest| {
                let before = manifest.groups.iter().flat_map(|groups| &groups.parts);
                replaced = before.filter(|part| !noted.parts.contains(part)).cloned().collect();
                Ok(vec![ClusterEdit::Groups(noted.clone())])
            })
            .await?;
        side.groups.noted = Some(wished);
        let named = state.groups.as_ref().map_or(&[] as &[String], |groups| groups.parts.as_slice());
        side.groups.settle(named, replaced);
    }
    delete_replaced(engine, side).await;
    Ok(())
}

/// How the manifest is to have a snapshot: as it is, or as files, which are written unless they have the very same.
async fn noted_as(
    engine: &Engine,
    side: &mut ClusterSide,
    wished: &Arc<GroupSnapshot>,
) -> Result<NotedGroups, ManifestError> {
    let taken_at_ms = wished.taken_at_ms;
    if is_small(wished) {
        // The files of the one before go with the commit: nobody may name them again.
        side.groups.abandon_written();
        return Ok(NotedGroups { taken_at_ms, groups: wished.groups.clone(), parts: Vec::new() });
    }
    let written = side.groups.written.as_ref().filter(|(written, _)| written.groups == wished.groups);
    let parts = match written.map(|(_, parts)| parts.clone()) {
        Some(parts) => parts,
        None => {
            side.groups.abandon_written();
            let folder = keys::cluster_folder(&engine.options.identity.cluster_id);
            match write_groups(&*engine.store, &folder, wished, &engine.seams).await {
                Ok(parts) => parts,
                Err((error, parts)) => {
                    side.groups.abandoned.extend(parts);
                    return Err(error);
                }
            }
        }
    };
    side.groups.written = Some((wished.clone(), parts.clone()));
    Ok(NotedGroups { taken_at_ms, groups: BTreeMap::new(), parts })
}

async fn delete_replaced(engine: &Engine, side: &mut ClusterSide) {
    let folder = keys::cluster_folder(&engine.options.identity.cluster_id);
    while let Some(part) = side.groups.replaced.last() {
        let key = keys::group_part(&folder, part);
        if let Err(error) = engine.store.delete(&key).await {
            tracing::debug!(%key, %error, "a file of older group offsets stays for now");
            return;
        }
        side.groups.replaced.pop();
    }
}
