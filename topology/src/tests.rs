//! Whole files in, the model or every fault out.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::meeting::{Demand, can_meet};
use crate::{Pattern, Rename, Secret, Start, StoreUrl, TopicSettings, parse, parse_with};

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
            "line 5: cluster.west.store: no store is called \"lake\" (none is declared)",
            "line 8: cluster.east.listen: \"127.0.0.1\" (an address is HOST:PORT, and the port is missing)",
            "line 9: cluster.east.data: expected text in quotes, found integer (write text in quotes)",
            "line 10: unknown section \"topics\" (did you mean \"topic\"?)",
            "line 13: topic.orders.clusters: no cluster is called \"wast\" (did you mean \"east\"?)",
            "line 14: topic.orders.config: \"7 weeks\" is no value of retention.ms (write ms, s, m, h or d)",
            "line 17: flow.copy.to: no cluster is called \"eats\" (did you mean \"east\"?)",
            "line 18: flow.copy.topics: \"orders$\" ('$' is neither a letter, a digit, '.', '_', '-' nor the wildcard '*')",
            "line 19: flow.copy.start: \"first\" is no start (write \"earliest\" or \"latest\")",
        ],
    );
}

#[test]
fn a_section_with_a_fault_of_its_own_is_checked_against_the_others_all_the_same() {
    check_faults(
        r#"[cluster.a]
datacenter = "d"
listen = "127.0.0.1:9092"
admin = "127.0.0.1:9600"
data = "data"
[cluster.b]
datacenter = "d"
listen = "127.0.0.1:9092"
admin = "127.0.0.1:9600"
data = "data"
store = "lake"
flush = "never"
[topic.orders]
clusters = ["a", "c"]
partitions = 0
"#,
        &[
            "line 8: cluster.b.listen: 127.0.0.1:9092 is used by cluster.a.listen already (choose another port)",
            "line 9: cluster.b.admin: 127.0.0.1:9600 is used by cluster.a.admin already (choose another port)",
            "line 10: cluster.b.data: the folder data is used by cluster.a already (give each its own folder)",
            "line 11: cluster.b.store: no store is called \"lake\" (none is declared)",
            "line 12: cluster.b.flush: \"never\" (write \"ack\" (durable) or \"os\")",
            "line 14: topic.orders.clusters: no cluster is called \"c\" (did you mean \"a\"?)",
            "line 15: topic.orders.partitions: 0 partitions (write a number from 1 to 10000)",
        ],
    );
}

#[test]
fn what_stands_in_for_an_unreadable_key_is_no_fault_of_its_own() {
    // Both listeners, both folders, both flows, the store and the clusters would be the same.
    check_faults(
        r#"[store.s]
url = "ftp://x"
[store.t]
[cluster.a]
listen = 9092
data = 1
store = "s"
[cluster.b]
listen = "9092"
data = 2
store = "t"
insecure_listen = "yes"
admin = "0.0.0.0:1"
[cluster.c]
bootstrap = [1]
datacenter = "d"
[topic.orders]
clusters = ["a", "b"]
[flow.there]
from = "a"
to = "b"
topics = "orders"
[flow.too]
from = "a"
to = "b"
topics = ["orders"]
renam = { prefix = "x." }
[flow.back]
form = "a"
to = "a"
topics = ["orders"]
"#,
        &[
            "line 2: store.s.url: \"ftp://x\" (a store is \"file:DIR\" or \"s3://BUCKET/PREFIX\")",
            "line 3: store.t: `url` is missing (give \"s3://BUCKET/PREFIX\" or \"file:DIR\")",
            "line 4: cluster.a: `datacenter` is missing (give the name of the place where it stands)",
            "line 5: cluster.a.listen: expected text in quotes, found integer (write text in quotes)",
            "line 6: cluster.a.data: expected text in quotes, found integer (write text in quotes)",
            "line 8: cluster.b: `datacenter` is missing (give the name of the place where it stands)",
            "line 9: cluster.b.listen: \"9092\" (an address is HOST:PORT, and the port is missing)",
            "line 10: cluster.b.data: expected text in quotes, found integer (write text in quotes)",
            "line 12: cluster.b.insecure_listen: expected true or false, found string (write true or false)",
            "line 15: cluster.c.bootstrap: expected text in quotes, found integer (write text in quotes)",
            "line 22: flow.there.topics: expected a list in brackets, found string (write a list in brackets)",
            "line 27: flow.too: unknown key \"renam\" (did you mean \"rename\"?)",
            "line 28: flow.back: `from` is missing (give the name of the source cluster)",
            "line 29: flow.back: unknown key \"form\" (did you mean \"from\"?)",
        ],
    );
}

/// What a flow called `f0` has.
const F0_PORT: u16 = 29_187;

/// Knows two settings; the second must not stand without the first, nor the first alone without a store.
struct TwoSettings;

impl TopicSettings for TwoSettings {
    fn names(&self) -> Vec<&'static str> {
        vec!["cleanup.policy", "retention.ms"]
    }

    fn check(&self, name: &str, value: &str) -> Result<(), String> {
        match (name, value.parse::<i64>()) {
            ("retention.ms", Ok(-1..)) => Ok(()),
            ("cleanup.policy", _) if value == "delete" => Ok(()),
            _ => Err("must be another".to_owned()),
        }
    }

    fn check_together(&self, settings: &BTreeMap<String, String>, has_store: bool) -> Result<(), String> {
        let has = |name| settings.contains_key(name);
        match (has("retention.ms"), has("cleanup.policy")) {
            (true, false) => Err("retention.ms needs cleanup.policy".to_owned()),
            (false, true) if !has_store => Err("cleanup.policy needs a store".to_owned()),
            _ => Ok(()),
        }
    }
}

fn with_topics(topics: &[&str]) -> String {
    let mut text = String::from("[cluster.a]\ndatacenter = \"a\"\nlisten = \"127.0.0.1:1\"\ndata = \"d\"\n");
    for (index, config) in topics.iter().enumerate() {
        text += &format!("[topic.t{index}]\nclusters = [\"a\"]\nconfig = {{ {config} }}\n");
    }
    text
}

#[test]
fn settings_are_judged_by_those_who_know_them() {
    let good = with_topics(&[r#""retention.ms" = "7d", "cleanup.policy" = "delete""#, ""]);
    let topology = parse_with(&good, &TwoSettings).unwrap();
    assert_eq!(topology.topics["t0"].config["retention.ms"], "604800000");
    let bad = with_topics(&[
        r#""retentoin.ms" = "7 weeks""#,
        r#""cleanup.policy" = "shred""#,
        r#""retention.ms" = -2, "cleanup.policy" = "delete""#,
        r#""retention.ms" = "1d""#,
        r#""cleanup.policy" = "delete""#,
    ]);
    let faults = parse_with(&bad, &TwoSettings).unwrap_err();
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "line 7: topic.t0.config: a topic has no setting \"retentoin.ms\" (did you mean \"retention.ms\"?)",
            "line 10: topic.t1.config: \"shred\" is no value of cleanup.policy (it must be another)",
            "line 13: topic.t2.config: \"-2\" is no value of retention.ms (it must be another)",
            "line 16: topic.t3.config: retention.ms needs cleanup.policy (change one of them)",
            "line 19: topic.t4.config: on a: cleanup.policy needs a store (change it, or the section of a)",
        ]
    );
    // Without them, only the units are judged.
    assert_eq!(parse(&bad).unwrap_err().iter().count(), 1);
}

#[test]
fn a_cluster_holds_a_topic_once() {
    check_faults(
        &with_topics(&[]).replace("[cluster", "[topic.t]\nclusters = [\"a\", \"a\", \"a\"]\n[cluster"),
        &["line 2: topic.t.clusters: \"a\" is named twice (name each cluster once)"],
    );
}

#[test]
fn a_low_port_has_an_admin_port_too() {
    let topology = parse(&with_topics(&[])).unwrap();
    assert_eq!(topology.clusters["a"].ours().unwrap().admin.port, 1_001);
    let high = parse(&with_topics(&[]).replace("127.0.0.1:1", "127.0.0.1:65535")).unwrap();
    assert_eq!(high.clusters["a"].ours().unwrap().admin.port, 64_535);
}

#[test]
fn a_flows_admin_port_is_its_own_whatever_else_is_declared() {
    let port = |text: &str, flow: &str| parse(text).unwrap().flows[flow].admin.port;
    let two = flows(&[("a", "b", "x", ""), ("a", "b", "y", "")]);
    let three = format!("{two}[flow.e9]\nfrom = \"b\"\nto = \"c\"\ntopics = [\"z\"]\n");
    assert_eq!(port(&two, "f1"), port(&three, "f1"));
    assert_ne!(port(&two, "f0"), port(&two, "f1"));
    // A port that somebody wrote down must not move with a version of the program.
    assert_eq!(port(&two, "f0"), F0_PORT);

    let admin = format!("topics = [\"y\"]\nadmin = \"127.0.0.1:{F0_PORT}\"");
    let expected = format!(
        "line 19: flow.f1.admin: 127.0.0.1:{F0_PORT} is used by flow.f0.admin already (choose another port)"
    );
    check_faults(&two.replace("topics = [\"y\"]", &admin), &[&expected]);
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
fn a_walk_over_a_hub_that_makes_topics_without_end_is_refused_once() {
    let text = flows(&[
        ("b", "a", "*", "rename = { prefix = \"b.\" }"),
        ("a", "b", "c.*", ""),
        ("c", "a", "*", "rename = { prefix = \"c.\" }"),
        ("a", "c", "b.*", ""),
    ]);
    check_faults(
        &text,
        &[
            "line 10: flows f0, f3, f2, f1 make topics without end: what comes back to the first is copied again, under \
           ever longer names (name topics that their prefixes do not match)",
        ],
    );
    // What the suggestion asks for: each of the two takes but one kind of the other's topics.
    parse(&text.replace("\"*\"", "\"orders*\"")).unwrap();
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
            "line 7: cluster.b.listen: 127.0.0.1:10092 is used by cluster.a.admin already (choose another port)",
            "line 8: cluster.b.data: the folder data is used by cluster.a already (give each its own folder)",
        ],
    );
}

#[test]
fn a_secret_never_stands_in_the_file() {
    check_faults(
        "[store.s]\nurl = \"s3://abc\"\naccess_key = \"AKIA\"\nsecret_key = { env = \"S\" }\n",
        &[
            "line 3: store.s.access_key: a secret does not stand in this file (write { env = \"NAME\" } or { file = \"PATH\" })",
        ],
    );
    check_faults(
        "[store.s]\nurl = \"s3://abc\"\naccess_key = { env = \"A\" }\n",
        &["line 3: store.s.access_key: access_key and secret_key go together (give both, or neither)"],
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
        let demand = |pattern| Demand { prefix: String::new(), patterns: std::slice::from_ref(pattern) };
        let demands: Vec<_> = patterns.iter().map(demand).collect();
        // Over two letters every meeting of such short patterns shows in a name of at most 12 letters; shorter
        // names are tried first because most meetings are short.
        let found = (0..=12_u32).any(|length| (0..1_u32 << length).any(|bits| {
            let name: String = (0..length).map(|bit| if bits >> bit & 1 == 0 { 'a' } else { 'b' }).collect();
            patterns.iter().all(|pattern| pattern.matches(&name))
        }));
        prop_assert_eq!(can_meet(&demands, &mut 0), found);
    }
}
