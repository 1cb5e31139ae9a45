//! Whole files in, the model or every fault out.

use proptest::prelude::*;

use crate::pattern::{Demand, can_all_match};
use crate::{Pattern, Rename, Secret, Start, StoreUrl, parse};

const WHOLE: &str = r#"
[store.lake]
url = "s3://longhaul/prod/"
endpoint = "http://127.0.0.1:9000"
access_key = { env = "LAKE_ACCESS" }
secret_key = { file = "secrets/lake" }

[cluster.west]
datacenter = "dc-west"
listen = "127.0.0.1:9092"
data = "data/west"
store = "lake"

[cluster.legacy]
datacenter = "dc-old"
bootstrap = ["127.0.0.1:9292"]

[topic.flights]
clusters = ["west"]
partitions = 6
config = { "retention.ms" = "-1", "local.retention.bytes" = "64MiB", "segment.ms" = "12h", "cleanup.policy" = "delete" }

[flow.legacy-to-west]
from = "legacy"
to = "west"
topics = ["orders", "audit.*"]
groups = ["*"]
start = "latest"
rename = { prefix = "legacy." }
"#;

#[test]
fn a_whole_file_is_understood() {
    let topology = parse(WHOLE).unwrap();
    let lake = &topology.stores["lake"];
    assert_eq!(lake.url, StoreUrl::S3 { bucket: "longhaul".into(), prefix: "prod".into() });
    assert_eq!(lake.access_key, Some(Secret::Environment("LAKE_ACCESS".into())));
    let west = topology.clusters["west"].ours().unwrap();
    assert_eq!(west.admin.to_string(), "127.0.0.1:10092");
    let config = &topology.topics["flights"].config;
    assert_eq!(config["local.retention.bytes"], (64 << 20).to_string());
    assert_eq!(config["segment.ms"], "43200000");
    assert_eq!(config["retention.ms"], "-1");
    let flow = &topology.flows["legacy-to-west"];
    assert_eq!((flow.datacenter.as_str(), flow.start), ("dc-west", Start::Latest));
    assert_eq!(flow.rename, Rename::Prefix("legacy.".into()));
    assert!(flow.topics[1].matches("audit.login") && !flow.topics[1].matches("audits"));
}

#[track_caller]
fn check_faults(text: &str, expected: &[&str]) {
    let faults = parse(text).expect_err("the file has faults");
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(shown, expected, "{shown:#?}");
}

#[test]
fn all_faults_are_reported_at_once_with_their_lines() {
    check_faults(
        r#"[cluster.west]
datacentre = "dc-west"
listen = "0.0.0.0:9092"
data = "data/west"
store = "lake"
[cluster.east]
datacenter = "dc-east"
listen = "127.0.0.1"
data = 7
[topics.orders]
clusters = ["west"]
[topic.orders]
clusters = ["wast"]
config = { "retention.ms" = "7 weeks" }
[flow.copy]
from = "west"
to = "eats"
topics = ["orders$"]
start = "first"
"#,
        &[
            "line 1: cluster.west: `datacenter` is missing (give the name of the place where it stands)",
            "line 2: cluster.west: unknown key \"datacentre\" (did you mean \"datacenter\"?)",
            "line 3: cluster.west.listen: 0.0.0.0:9092 can be reached from other machines, and nothing is encrypted or \
             authenticated yet (listen on 127.0.0.1, or accept the risk with insecure_listen = true)",
            "line 8: cluster.east.listen: \"127.0.0.1\" (an address is HOST:PORT, and the port is missing)",
            "line 9: cluster.east.data: expected text in quotes, found integer (write text in quotes)",
            "line 10: unknown section \"topics\" (did you mean \"topic\"?)",
            "line 14: topic.orders.config: \"7 weeks\" is no value of retention.ms (write ms, s, m, h or d)",
            "line 18: flow.copy.topics: \"orders$\" ('$' is neither a letter, a digit, '.', '_', '-' nor the wildcard '*')",
            "line 19: flow.copy.start: \"first\" is no start (write \"earliest\" or \"latest\")",
        ],
    );
}

const THREE: &str = r#"[cluster.a]
datacenter = "a"
bootstrap = ["127.0.0.1:1"]
[cluster.b]
datacenter = "b"
bootstrap = ["127.0.0.1:2"]
[cluster.c]
datacenter = "c"
bootstrap = ["127.0.0.1:3"]
"#;

fn flows(flows: &[(&str, &str, &str, &str)]) -> String {
    let mut text = THREE.to_owned();
    for (index, (from, to, topics, rest)) in flows.iter().enumerate() {
        text +=
            &format!("[flow.f{index}]\nfrom = \"{from}\"\nto = \"{to}\"\ntopics = [\"{topics}\"]\n{rest}\n");
    }
    text
}

#[test]
fn a_pair_of_flows_is_no_loop() {
    parse(&flows(&[("a", "b", "*", ""), ("b", "a", "*", "")])).unwrap();
}

#[test]
fn a_ring_of_three_is_refused_once() {
    let faults =
        parse(&flows(&[("a", "b", "x.*", ""), ("b", "c", "*.y", ""), ("c", "a", "*", "")])).unwrap_err();
    assert_eq!(faults.iter().count(), 1);
    assert!(faults.to_string().contains("f0, f1, f2 form a ring"), "{faults}");
}

#[test]
fn a_ring_that_no_topic_can_pass_is_fine() {
    parse(&flows(&[("a", "b", "x.*", ""), ("b", "c", "y.*", ""), ("c", "a", "*", "")])).unwrap();
    // Renamed on the way, nothing matches a second time.
    let renamed = "rename = { prefix = \"far.\" }";
    parse(&flows(&[("a", "b", "x.*", renamed), ("b", "c", "*", ""), ("c", "a", "*", "")])).unwrap();
}

#[test]
fn a_rename_that_matches_again_is_still_a_ring() {
    let renamed = "rename = { prefix = \"x.\" }";
    parse(&flows(&[("a", "b", "x.*", renamed), ("b", "c", "*", ""), ("c", "a", "*", "")])).unwrap_err();
}

#[test]
fn a_flow_onto_its_own_cluster_needs_a_rename() {
    parse(&flows(&[("a", "a", "x", "")])).unwrap_err();
    parse(&flows(&[("a", "a", "x", "rename = { prefix = \"copy.\" }")])).unwrap();
    parse(&flows(&[("a", "a", "*", "rename = { prefix = \"copy.\" }")])).unwrap_err();
}

#[test]
fn two_flows_of_one_topic_to_one_place_are_refused() {
    parse(&flows(&[("a", "b", "x*", ""), ("a", "b", "*y", "")])).unwrap_err();
    parse(&flows(&[("a", "b", "x*", ""), ("a", "b", "y*", "")])).unwrap();
}

#[test]
fn addresses_and_folders_are_not_shared() {
    check_faults(
        r#"[cluster.a]
datacenter = "d"
listen = "127.0.0.1:9092"
data = "data"
[cluster.b]
datacenter = "d"
listen = "127.0.0.1:10092"
data = "data"
"#,
        &[
            "line 5: cluster.b.listen: 127.0.0.1:10092 is used by cluster.a.admin already (choose another port)",
            "line 5: cluster.b: the folder data is used by a already (give each its own folder)",
        ],
    );
}

#[test]
fn a_secret_never_stands_in_the_file() {
    check_faults(
        "[store.s]\nurl = \"s3://abc\"\naccess_key = \"AKIA\"\nsecret_key = { env = \"S\" }\n",
        &[
            "line 3: store.s.access_key: a secret does not stand in this file (write { env = \"NAME\" } or { file = \"PATH\" })",
            "line 3: store.s.access_key: access_key and secret_key go together (give both, or neither)",
        ],
    );
}

#[test]
fn a_syntax_error_does_not_hide_the_rest() {
    let faults = parse("[cluster.a\ndatacenter = \"a\"\n[store.x]\nurl = \"ftp://x\"\n").unwrap_err();
    let shown = faults.to_string();
    assert!(shown.contains("line 1") && shown.contains("a store is"), "{shown}");
}

fn pattern() -> impl Strategy<Value = Pattern> {
    "[ab*]{1,5}".prop_map(|text| text.parse().unwrap())
}

proptest! {
    #[test]
    fn hostile_text_is_never_a_panic(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn mutilated_files_are_never_a_panic(cut in 0..WHOLE.len(), with in "[\\[\\]={}\".a1\n]{0,3}") {
        let _ = parse(&format!("{}{with}{}", &WHOLE[..cut], &WHOLE[(cut + 1).min(WHOLE.len())..]));
    }

    #[test]
    fn patterns_meet_where_some_name_matches_them_all(patterns in prop::collection::vec(pattern(), 1..4)) {
        let demands: Vec<_> =
            patterns.iter().map(|pattern| Demand { prefix: String::new(), pattern }).collect();
        // Over two letters every meeting of such short patterns shows in a name of at most 12 letters; shorter
        // names are tried first because most meetings are short.
        let found = (0..=12_u32).any(|length| (0..1_u32 << length).any(|bits| {
            let name: String = (0..length).map(|bit| if bits >> bit & 1 == 0 { 'a' } else { 'b' }).collect();
            patterns.iter().all(|pattern| pattern.matches(&name))
        }));
        prop_assert_eq!(can_all_match(&demands), found);
    }
}
