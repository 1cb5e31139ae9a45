//! `down`: stopping what `up` runs.
//!
//! Owns: finding the processes by their pid files. Does not own: how a process stops.

use std::path::{Path, PathBuf};

use crate::supervisor::{PidFile, PidFileError, StateFolder, stop_foreign};

/// The pid file of `up` itself, beside those of its children.
pub(crate) const SUPERVISOR: &str = "up";

/// Why nothing was stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownError {
    #[error("{} was never brought up on this machine: there is no {}; check the name", file.display(), folder.display())]
    NeverUp { folder: PathBuf, file: PathBuf },
    #[error("cannot read {}: {source}", folder.display())]
    Folder { folder: PathBuf, source: std::io::Error },
    #[error(transparent)]
    PidFile(#[from] PidFileError),
}

/// The processes of a state folder that still run: the supervisor first, then flows, then brokers.
pub(crate) fn running(state: &StateFolder) -> Result<Vec<(String, PidFile)>, std::io::Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(state.path())? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        let pid_file = PidFile::read(&path).map_err(std::io::Error::other)?;
        found.extend(pid_file.filter(PidFile::is_alive).map(|pid_file| (name, pid_file)));
    }
    let rank = |name: &str| (name != SUPERVISOR, name.starts_with("broker-"));
    found.sort_by(|(left, _), (right, _)| (rank(left), left).cmp(&(rank(right), right)));
    Ok(found)
}

/// Stops the supervisor, which stops its children; where it died, stops the children it left.
pub(crate) async fn down(file: &Path) -> Result<(), DownError> {
    let state = StateFolder::of(file);
    let unreadable = |source| DownError::Folder { folder: state.path().to_owned(), source };
    if !state.path().exists() {
        return Err(DownError::NeverUp { folder: state.path().to_owned(), file: file.to_owned() });
    }
    let mut stopped = 0;
    // The list is read again after each stop: with the supervisor its children end too.
    while let Some((name, pid_file)) = running(&state).map_err(unreadable)?.into_iter().next() {
        println!("stopping {name} (process {})", pid_file.pid());
        stop_foreign(&pid_file).await;
        stopped += 1;
    }
    if stopped == 0 {
        println!("nothing of {} runs on this machine", file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_was_never_up_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let said = down(&folder.path().join("t.toml")).await.unwrap_err().to_string();
        assert!(said.contains("t.toml was never brought up") && !said.contains("os error"), "{said}");
    }

    #[test]
    fn the_supervisor_comes_first_and_brokers_last() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.toml");
        let state = StateFolder::of(&file);
        state.create().unwrap();
        for name in ["broker-a", "flow-z", "up"] {
            PidFile::write(state.pid_file(name), std::process::id()).unwrap();
        }
        std::fs::write(state.pid_file("flow-dead"), "1 1\n").unwrap();
        let names: Vec<String> = running(&state).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["up", "flow-z", "broker-a"]);
    }
}
