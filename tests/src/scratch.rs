//! A folder of one test, removed when it passed and kept, by name, when it failed.
//!
//! Owns: the folder. Does not own: what processes write there.

use std::path::{Path, PathBuf};

/// A temporary folder that outlives a failed test.
pub struct Scratch {
    folder: Option<tempfile::TempDir>,
}

impl Scratch {
    /// Makes an empty folder.
    ///
    /// # Errors
    /// When the temporary folder of the machine cannot be written.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("longhaul-test-").tempdir()?;
        Ok(Self { folder: Some(folder) })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.as_ref().expect("the folder lives as long as its owner").path()
    }

    /// A path below the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("kept for a look: {}", folder.keep().display());
        }
    }
}
