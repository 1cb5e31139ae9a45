//! A topology file from the command line: `plan`, `up`, `status`, a child killed and back again, `down`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::clients::java::{self, Tool};
use tests::deadline::Deadline;
use tests::longhaul::{Verb, verb};
use tests::ports::free_port;
use tests::scratch::Scratch;

/// A cluster with one topic, written into the folder.
struct File {
    path: PathBuf,
    listen: String,
}

impl File {
    fn write(scratch: &Scratch, partitions: u32) -> Self {
        let (path, listen) = (scratch.join("one.toml"), format!("127.0.0.1:{}", free_port()));
        let file = Self { path, listen };
        file.rewrite(scratch, partitions, &format!("127.0.0.1:{}", free_port()));
        file
    }

    fn rewrite(&self, scratch: &Scratch, partitions: u32, admin: &str) {
        let text = format!(
            "[cluster.west]\ndatacenter = \"dc\"\nlisten = \"{}\"\nadmin = \"{admin}\"\ndata = \"{}\"\n\
             [topic.flights]\nclusters = [\"west\"]\npartitions = {partitions}\nconfig = {{ \"retention.ms\" = \"-1\" }}\n",
            self.listen,
            scratch.join("west").display(),
        );
        std::fs::write(&self.path, text).unwrap();
    }

    fn answer(&self, name: &str) -> Value {
        let path = self.path.display().to_string();
        let printed = verb(&[name, &path, "--json"]).unwrap().success().unwrap();
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    fn actions(&self) -> Vec<String> {
        let steps = self.answer("plan");
        steps.as_array().unwrap().iter().map(|step| step["action"].as_str().unwrap().to_owned()).collect()
    }
}

/// The children of `up` outlive it when it is killed, so a test that fails takes them down itself.
impl Drop for File {
    fn drop(&mut self) {
        let _ = verb(&["down", &self.path.display().to_string()]);
    }
}

fn pid(state: &Path, child: &str) -> Option<i32> {
    let text = std::fs::read_to_string(state.join(format!("{child}.pid"))).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

#[test]
fn a_file_is_planned_brought_up_kept_up_and_taken_down() {
    let scratch = Scratch::new().unwrap();
    let file = File::write(&scratch, 3);
    let state = scratch.join(".longhaul/one");
    assert_eq!(file.actions(), ["start-broker", "ensure-topic"]);
    let text = verb(&["plan", &file.path.display().to_string()]).unwrap().success().unwrap();
    assert!(text.contains("west is not running, so what it has cannot be compared"), "{text}");
    let down = verb(&["status", &file.path.display().to_string()]).unwrap();
    assert_eq!(down.status.code(), Some(1), "{}", down.stdout);
    assert!(down.stdout.contains("DOWN") && down.stderr.contains("cluster west is down"), "{}", down.stderr);

    let up = ["up".to_owned(), file.path.display().to_string()];
    let mut supervisor = Verb::start(&up, scratch.join("up.log")).unwrap();
    Deadline::seconds(60)
        .wait_for("everything to be as the file says", || {
            supervisor.process().ensure_running()?;
            Ok(file.actions().is_empty().then_some(()))
        })
        .unwrap();
    let status = file.answer("status");
    let partitions = &status["clusters"]["west"]["topics"]["flights"]["partitions"];
    assert_eq!(partitions.as_array().map(Vec::len), Some(3), "{status}");

    let again = verb(&up).unwrap();
    assert!(!again.status.success() && again.stderr.contains("longhaul down"), "{}", again.stderr);

    let first = pid(&state, "broker-west").unwrap();
    let victim = rustix::process::Pid::from_raw(first).unwrap();
    rustix::process::kill_process(victim, rustix::process::Signal::KILL).unwrap();
    Deadline::seconds(30)
        .wait_for("another broker process to serve", || {
            supervisor.process().ensure_running()?;
            let is_new = pid(&state, "broker-west").is_some_and(|pid| pid != first);
            Ok((is_new && file.actions().is_empty()).then_some(()))
        })
        .unwrap();
    let listed = java::call(Tool::Topics, &["--bootstrap-server", &file.listen, "--list"], &[]).unwrap();
    assert!(listed.lines().any(|topic| topic == "flights"), "{listed}");

    let down = verb(&["down", &file.path.display().to_string()]).unwrap().success().unwrap();
    assert!(down.contains("stopping up"), "{down}");
    let ended = supervisor.process().wait(Deadline::seconds(10)).unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(pid(&state, "broker-west"), None, "no child is left");
    TcpListener::bind(&file.listen).expect("the broker's port is free");
}

#[test]
fn a_bad_file_names_every_fault_at_once() {
    let scratch = Scratch::new().unwrap();
    let path = scratch.join("bad.toml");
    let text = "[cluster.west]\ndatacentre = \"dc\"\nlisten = \"127.0.0.1\"\ndata = 7\nstore = \"lake\"\n\
                [topic.flights]\nclusters = [\"west\", \"west\"]\nconfig = { \"retentoin.ms\" = \"1d\" }\n";
    std::fs::write(&path, text).unwrap();
    for name in ["plan", "up", "status"] {
        let output = verb(&[name, &path.display().to_string()]).unwrap();
        assert!(!output.status.success());
        let lines = ["line 1", "line 2", "line 3", "line 4", "line 5", "line 7", "line 8"];
        let suggestions = ["did you mean \"datacenter\"?", "named twice", "did you mean \"retention.ms\"?"];
        for expected in lines.iter().chain(&suggestions) {
            assert!(output.stderr.contains(expected), "{name}: no {expected} in {}", output.stderr);
        }
    }
}

/// Every line that a verb says of an error names the cause once.
fn says_once(arguments: &[&str], cause: &str) -> String {
    let output = verb(arguments).unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    assert_eq!(output.stderr.matches(cause).count(), 1, "{arguments:?}: {}", output.stderr);
    output.stderr
}

#[test]
fn an_error_says_its_cause_once() {
    let scratch = Scratch::new().unwrap();
    let missing = scratch.join("nofile.toml").display().to_string();
    for name in ["plan", "up", "status"] {
        says_once(&[name, &missing], "os error 2");
    }
    says_once(&["down", &missing], "was never brought up");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = scratch.join("data").display().to_string();
    let said = says_once(&["broker", "--data", &data, "--listen", &address], "os error");
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
    let (listen, admin) = (format!("127.0.0.1:{}", free_port()), address);
    let arguments = ["broker", "--data", &data, "--listen", &listen, "--admin", &admin];
    assert!(says_once(&arguments, "os error").contains("choose another (--admin"));
}

#[test]
fn a_store_that_is_mistyped_is_not_made() {
    let scratch = Scratch::new().unwrap();
    let folder = scratch.join("lkae");
    let store = format!("file:{}", folder.display());
    let data = scratch.join("data").display().to_string();
    for more in [&["inspect"][..], &["verify"], &["recover", "--data", &data]] {
        let output = verb(&[&["tier"][..], more, &["--store", &store]].concat()).unwrap();
        assert!(!output.status.success() && output.stderr.contains("there is no store"), "{}", output.stderr);
        assert!(!folder.exists(), "{more:?}");
    }
}

#[test]
fn whoever_opens_the_admin_address_is_warned() {
    let scratch = Scratch::new().unwrap();
    let data = scratch.join("data").display().to_string();
    let (listen, admin) = (format!("127.0.0.1:{}", free_port()), format!("0.0.0.0:{}", free_port()));
    let arguments = ["broker", "--data", &data, "--listen", &listen, "--admin", &admin];
    let refused = verb(&arguments).unwrap();
    assert!(!refused.status.success() && refused.stderr.contains("--insecure-listen"), "{}", refused.stderr);
    let log = scratch.join("broker.log");
    let mut broker = Verb::start(&[&arguments[..], &["--insecure-listen"]].concat(), log).unwrap();
    Deadline::seconds(30)
        .wait_for("the warning", || {
            broker.process().ensure_running()?;
            let log = broker.process().log();
            Ok((log.contains("INSECURE") && log.contains("--admin")).then_some(()))
        })
        .unwrap();
}
