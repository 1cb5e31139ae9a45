//! The house: what holds for the whole repository and no compiler checks.
//!
//! Owns: the arrows between crates, the map, the shape of files, words that do not belong.
//! Does not own: style that rustfmt and clippy judge.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::installed::repository;

/// What each crate may use of the others: `wire <- hotlog <- tiering <- broker`, `wire <- client <- mirror`,
/// `topology, control <- broker, mirror`. What is not listed may use all.
const ARROWS: [(&str, &[&str]); 8] = [
    ("topology", &[]),
    ("control", &[]),
    ("wire", &[]),
    ("hotlog", &["wire"]),
    ("tiering", &["wire", "hotlog"]),
    ("broker", &["wire", "hotlog", "tiering", "topology", "control"]),
    ("client", &["wire"]),
    ("mirror", &["wire", "client", "topology", "control"]),
];

/// Foreign crates that only some of ours may use: what does no I/O has no runtime, and one crate names buckets.
const RESTRICTED: [(&str, &[&str]); 5] = [
    ("tokio", &["tiering", "broker", "client", "mirror", "control", "longhaul", "tests"]),
    ("object_store", &["tiering"]),
    ("aws-sdk-s3", &["tiering"]),
    ("tonic", &["control", "longhaul"]),
    ("anyhow", &["longhaul", "tests"]),
];

/// Non-test lines of a source file.
const FILE_LINES: usize = 500;
/// Files argued to be longer, with the length that they may not pass.
const LONGER_FILES: [(&str, usize); 0] = [];

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(repository()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every file that is, or is about to be, part of the repository.
fn files() -> Vec<PathBuf> {
    let listed = run("git", &["ls-files", "--cached", "--others", "--exclude-standard"]);
    listed.lines().map(PathBuf::from).filter(|path| repository().join(path).is_file()).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rust_files() -> Vec<(String, String)> {
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    files().into_iter().filter(is_rust).map(|path| (path.display().to_string(), read(&path))).collect()
}

/// Fails with all complaints at once.
#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Crate name, and per dependency its name and kind (`None` is a normal one).
fn dependencies() -> BTreeMap<String, Vec<(String, Option<String>)>> {
    let metadata = run(env!("CARGO"), &["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let used = package["dependencies"].as_array().unwrap();
            let used = used.iter().map(|each| (text(&each["name"]).unwrap(), text(&each["kind"])));
            (text(&package["name"]).unwrap(), used.collect())
        })
        .collect()
}

#[test]
fn crates_point_only_along_the_arrows() {
    let all = dependencies();
    let mut complaints = Vec::new();
    for (name, used) in &all {
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| from == name) else { continue };
        for (other, kind) in used {
            // Tests may look at more, save that the mirror's tests too must do without the broker.
            let judged = kind.as_deref() != Some("dev") || name == "mirror" || name == "client";
            if all.contains_key(other) && judged && !allowed.contains(&other.as_str()) {
                complaints.push(format!("{name} uses {other}; it may use {allowed:?}"));
            }
        }
    }
    none(&complaints);
    for (name, _) in ARROWS {
        assert!(all.contains_key(name), "the arrows name {name}, which is no crate");
    }
}

#[test]
fn foreign_crates_stay_in_their_rooms() {
    let mut complaints = Vec::new();
    for (name, used) in dependencies() {
        for (other, kind) in used {
            let restricted = RESTRICTED.iter().find(|(crate_name, _)| *crate_name == other);
            if let (Some((_, allowed)), None) = (restricted, kind)
                && !allowed.contains(&name.as_str())
            {
                complaints.push(format!("{name} uses {other}; only {allowed:?} may"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn pure_crates_do_no_io_and_read_no_clock() {
    let pure = ["topology/src/", "broker/wire/src/"];
    let forbidden = [
        "std::fs::read",
        "std::fs::write",
        "std::net::Tcp",
        "std::net::Udp",
        "ToSocketAddrs",
        "SystemTime",
        "Instant::",
        "std::env",
        "std::process",
    ];
    let no_socket = ["std::net", "TcpStream", "UnixStream"];
    let mut complaints = Vec::new();
    for (path, text) in rust_files().into_iter().filter(|(path, _)| !is_test(path)) {
        let words: &[&str] = if pure.iter().any(|folder| path.starts_with(folder)) {
            &forbidden
        } else if path.starts_with("broker/hotlog/src/") {
            &no_socket
        } else {
            continue;
        };
        let code = without_tests(&text);
        complaints
            .extend(words.iter().filter(|word| code.contains(**word)).map(|word| format!("{path}: {word}")));
    }
    none(&complaints);
}

#[test]
fn the_map_names_every_room_and_only_rooms_that_exist() {
    let map = read("ARCHITECTURE.md");
    let mut rooms = BTreeSet::from(["wire", "hotlog", "client"].map(str::to_owned));
    for path in files() {
        let mut parts = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let (first, second) = (parts.next().unwrap(), parts.next());
        if second.is_some() && !first.starts_with('.') {
            rooms.insert(first);
        }
    }
    let is_named = |room: &String| map.contains(&format!("{room}/"));
    let mut complaints: Vec<String> = rooms
        .iter()
        .filter(|room| !is_named(room))
        .map(|room| format!("ARCHITECTURE.md does not name {room}/"))
        .collect();
    // Anything in code quotes that looks like a path of ours must be one.
    let quoted = map.split('`').skip(1).step_by(2);
    for path in quoted.filter(|text| text.ends_with('/') && !text.contains(char::is_whitespace)) {
        if !repository().join(path).is_dir() {
            complaints.push(format!("ARCHITECTURE.md names {path}, which is no folder"));
        }
    }
    none(&complaints);
}

#[test]
fn every_source_file_opens_by_saying_what_it_is() {
    let silent = |(path, text): (String, String)| (!text.starts_with("//! ")).then_some(path);
    none(&rust_files().into_iter().filter_map(silent).collect::<Vec<_>>());
}

#[test]
fn no_room_is_a_junk_drawer() {
    let junk = ["utils", "util", "common", "helpers", "misc"];
    let is_junk = |path: &PathBuf| {
        path.components()
            .any(|part| junk.contains(&part.as_os_str().to_string_lossy().trim_end_matches(".rs")))
    };
    none(&files().into_iter().filter(is_junk).map(|path| path.display().to_string()).collect::<Vec<_>>());
}

fn is_test(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    path.contains("/tests/")
        || path.starts_with("tests/")
        || path.contains("/fuzz/")
        || file.contains("tests.rs")
}

fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

#[test]
fn files_stay_short_enough_to_read() {
    let mut complaints = Vec::new();
    for (path, text) in rust_files().into_iter().filter(|(path, _)| !is_test(path)) {
        let lines = without_tests(&text).lines().count();
        let argued = LONGER_FILES.iter().find(|(file, _)| *file == path);
        let limit = argued.map_or(FILE_LINES, |(_, limit)| *limit);
        if lines > limit {
            complaints.push(format!("{path}: {lines} lines, {limit} allowed: find the second thing it does"));
        }
    }
    none(&complaints);
}

#[test]
fn local_data_is_released_only_by_the_manifest_committer() {
    // The mirror has an event of the same name, and cannot link the crate that the proof belongs to.
    let makers = ["Committed::", "Committed {", "Committed("];
    let (definition, committer) =
        ("broker/hotlog/src/partition/retain.rs", "tiering/src/archiver/committer.rs");
    let (mut complaints, mut made) = (Vec::new(), false);
    let links_hotlog = |path: &str| path.starts_with("broker/") || path.starts_with("tiering/");
    for (path, text) in rust_files().into_iter().filter(|(path, _)| !is_test(path) && links_hotlog(path)) {
        for (index, line) in without_tests(&text).lines().enumerate() {
            let mut uses = makers.iter().flat_map(|maker| line.match_indices(maker));
            let is_word = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if line.trim_start().starts_with("//") || !uses.any(|(at, _)| is_word(at)) {
                continue;
            }
            made |= path.starts_with(committer);
            if !path.starts_with(definition) && !path.starts_with(committer) {
                complaints.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    none(&complaints);
    assert!(made, "{committer} makes no `Committed`: this test looks in the wrong place");
}

#[test]
fn the_quick_start_is_two_lines() {
    let readme = read("README.md");
    let section = readme.split("\n## ").find(|section| section.starts_with("Quick start"));
    let section = section.expect("a section called Quick start");
    let blocks: Vec<&str> = section.split("```").skip(1).step_by(2).collect();
    assert_eq!(blocks.len(), 1, "the quick start has one code block");
    let lines: Vec<&str> = blocks[0].lines().skip(1).collect();
    assert_eq!(lines, ["cargo run --release -- demo", "tests/run"]);
    for toolchain in ["Rust 1.95", "C compiler", "JDK 17", "Maven", "Node", "Go", "Python"] {
        assert!(readme.contains(toolchain), "the README does not name {toolchain}, which tests/run expects");
    }
}

#[test]
fn words_that_do_not_belong_are_absent() {
    // Written in halves, so that this file does not hold them itself.
    let halves = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X:"],
        ["todo", "!("],
        ["unimplemented", "!("],
        ["#[ig", "nore"],
        ["allow(dead", "_code"],
        ["/wo", "rk/"],
        ["/fa", "rm/"],
        ["/ro", "ot/."],
        ["://ind", "ex."],
        ["://reg", "istry."],
        ["://pro", "xy."],
        ["://sta", "tic."],
        ["://re", "po."],
        ["://de", "b."],
    ];
    let words = halves.map(|halves| halves.concat());
    let mut complaints = Vec::new();
    for path in files() {
        let name = path.display().to_string();
        if matches!(name.as_str(), "Cargo.lock" | "LICENSE") {
            continue;
        }
        // What is not text has no words.
        let Ok(text) = std::fs::read_to_string(repository().join(&path)) else { continue };
        for (index, line) in text.lines().enumerate() {
            let found = words.iter().filter(|word| line.contains(word.as_str()));
            complaints.extend(found.map(|word| format!("{name}:{}: {word}", index + 1)));
        }
    }
    none(&complaints);
}
