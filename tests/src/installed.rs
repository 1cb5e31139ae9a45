//! Where `tests/run` put the real peers, read from the environment that `tests/peers/env.bash` sets.
//!
//! Owns: the variables' names and the message for a missing one. Does not own: installing.

use std::path::PathBuf;

use anyhow::Context;

/// The release binary under test (`LONGHAUL_BIN`).
///
/// # Errors
/// When it has not been built.
pub fn longhaul() -> anyhow::Result<PathBuf> {
    place("LONGHAUL_BIN", "target/release/longhaul", "tests/run build")
}

/// Folder with the jars of Apache Kafka's broker, tools and MirrorMaker 2 (`LONGHAUL_KAFKA_LIBS`).
///
/// # Errors
/// When it has not been installed.
pub fn kafka_libs() -> anyhow::Result<PathBuf> {
    place("LONGHAUL_KAFKA_LIBS", "kafka-4.3.1/libs", "tests/peers/install kafka")
}

/// The MinIO server (`LONGHAUL_MINIO`).
///
/// # Errors
/// When it has not been installed.
pub fn minio() -> anyhow::Result<PathBuf> {
    place("LONGHAUL_MINIO", "bin/minio", "tests/peers/install minio")
}

/// The Python that has the clients (`LONGHAUL_PYTHON`).
///
/// # Errors
/// When it has not been installed.
pub fn python() -> anyhow::Result<PathBuf> {
    place("LONGHAUL_PYTHON", "python/bin/python", "tests/peers/install python")
}

/// The flights table as CSV (`LONGHAUL_FLIGHTS`).
///
/// # Errors
/// When it has not been installed.
pub fn flights() -> anyhow::Result<PathBuf> {
    place("LONGHAUL_FLIGHTS", "flights/flights.csv", "tests/peers/install flights")
}

/// kcat (`LONGHAUL_KCAT`), a name on the PATH unless the variable holds a path.
pub fn kcat() -> PathBuf {
    std::env::var_os("LONGHAUL_KCAT").unwrap_or_else(|| "kcat".into()).into()
}

/// The repository's root.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the repository").to_owned()
}

/// The variable's place; without the variable, the place below the repository (our binary) or the cache (the rest).
fn place(variable: &str, otherwise: &str, made_by: &str) -> anyhow::Result<PathBuf> {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None if otherwise.starts_with("target/") => repository().join(otherwise),
        None => cache()?.join(otherwise),
    };
    anyhow::ensure!(path.exists(), "{variable}: {} is missing: run {made_by}", path.display());
    Ok(path)
}

fn cache() -> anyhow::Result<PathBuf> {
    if let Some(cache) = std::env::var_os("LONGHAUL_CACHE") {
        return Ok(cache.into());
    }
    let home = std::env::var_os("HOME").context("neither LONGHAUL_CACHE nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/longhaul"))
}
