//! The search for rings: the same answers as every choice tried, and an end in sight for long lists of topics.

mod oracle;

use std::fmt::Write as _;

use proptest::prelude::*;

use crate::fault::Sink;
use crate::meeting::{Demand, can_meet};
use crate::pattern::Pattern;
use crate::read::{Draft, read};

/// A flow between two of the clusters: from, to, its topics, and the prefix that it renames with, or none.
type Course = (usize, usize, Vec<String>, String);

fn draft(courses: &[Course]) -> Draft {
    let mut text = String::new();
    for cluster in 0..4 {
        writeln!(text, "[cluster.c{cluster}]\ndatacenter = \"d\"\nbootstrap = [\"127.0.0.1:1\"]").unwrap();
    }
    for (index, (from, to, topics, prefix)) in courses.iter().enumerate() {
        writeln!(text, "[flow.f{index}]\nfrom = \"c{from}\"\nto = \"c{to}\"\ntopics = {topics:?}").unwrap();
        if !prefix.is_empty() {
            writeln!(text, "rename = {{ prefix = \"{prefix}\" }}").unwrap();
        }
    }
    let mut faults = Sink::new(&text);
    let draft = read(&text, None, &mut faults);
    faults.finish(draft).unwrap()
}

/// What is found, and how often something was held against something for that.
fn found(courses: &[Course]) -> (Vec<String>, usize) {
    let mut faults = Sink::new("");
    let compared = super::check(&draft(courses), &mut faults);
    (reasons(faults), compared)
}

fn reasons(faults: Sink) -> Vec<String> {
    let faults = faults.finish(()).err();
    faults.iter().flat_map(|faults| faults.iter()).map(|fault| fault.reason.clone()).collect()
}

/// Topics for a ring of flows: any but one of the flows have topics in common, and no topic passes all of them.
fn all_but_one(flows: usize, form: impl Fn(usize) -> String) -> Vec<Course> {
    const TOPICS: usize = 200;
    let topics = |flow: usize| (0_usize..).filter(move |number| number % flows != flow).take(TOPICS);
    let course = |flow: usize| -> Course {
        (flow, (flow + 1) % flows, topics(flow).map(&form).collect(), String::new())
    };
    (0..flows).map(course).collect()
}

#[test]
fn a_legal_ring_of_many_topics_is_soon_decided() {
    for flows in [3, 4] {
        // Each of the topics is held against each flow, at most once for each flow that a ring may begin with.
        let limit = 200 * flows * flows * flows;
        let (faults, compared) = found(&all_but_one(flows, |number| format!("orders.{number}")));
        assert_eq!(faults, [""; 0]);
        assert!(compared <= limit, "{flows} flows: {compared} comparisons, {limit} allowed");

        // No name is given: each pattern is held against each.
        let limit = (200 * flows) * (200 * flows) * flows;
        let (faults, compared) = found(&all_but_one(flows, |number| format!("team{number}.*.v1")));
        assert_eq!(faults.len(), 0, "{faults:?}");
        assert!(compared <= limit, "{flows} flows: {compared} comparisons, {limit} allowed");
    }
}

#[test]
fn one_topic_in_hundreds_that_goes_round_is_found() {
    for flows in [3, 4] {
        let mut courses = all_but_one(flows, |number| format!("orders.{number}"));
        for (_, _, topics, _) in &mut courses {
            topics.push("lost".to_owned());
        }
        let (faults, compared) = found(&courses);
        assert!(faults.len() == 1 && faults[0].contains("form a ring"), "{faults:?}");
        assert!(compared <= 200 * flows * flows * flows, "{flows} flows: {compared} comparisons");
    }
}

fn pattern() -> impl Strategy<Value = String> {
    "[ab*]{1,4}"
}

/// A ring of three clusters, and another flow anywhere.
fn courses() -> impl Strategy<Value = Vec<Course>> {
    let prefix = || prop_oneof![3 => Just(String::new()), 1 => "[ab]{1,2}"];
    let rest = || (prop::collection::vec(pattern(), 1..3), prefix());
    let (ring, other) = (prop::collection::vec(rest(), 3), (0..3_usize, 0..3_usize, rest()));
    (ring, prop::option::of(other)).prop_map(|(ring, other)| {
        let ring = ring.into_iter().enumerate();
        let ring = ring.map(|(from, (topics, prefix))| (from, (from + 1) % 3, topics, prefix));
        ring.chain(other.map(|(from, to, (topics, prefix))| (from, to, topics, prefix))).collect()
    })
}

#[test]
fn pairs_that_meet_in_a_hub_are_no_ring() {
    let course = |from, to| (from, to, vec!["orders".to_owned()], String::new());
    let hub: Vec<Course> = (1..4).flat_map(|leaf| [course(0, leaf), course(leaf, 0)]).collect();
    assert_eq!(found(&hub).0, [""; 0]);
    let also_around = [hub, vec![course(1, 2)]].concat();
    assert!(!found(&also_around).0.is_empty(), "0, 1, 2 and back to 0");
}

proptest! {
    // The oracle takes up to 2^8 tries for a ring of four.
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rings_are_those_that_every_choice_tried_would_find(courses in courses()) {
        let mut faults = Sink::new("");
        oracle::check(&draft(&courses), &mut faults);
        prop_assert_eq!(found(&courses).0, reasons(faults));
    }
}

proptest! {
    #[test]
    fn demands_meet_where_some_choice_of_patterns_does(
        demands in prop::collection::vec(("[ab]{0,3}", prop::collection::vec("[ab*]{1,5}", 0..4)), 1..5),
    ) {
        let demands: Vec<(String, Vec<Pattern>)> = demands
            .into_iter()
            .map(|(prefix, texts)| (prefix, texts.iter().map(|text| text.parse().unwrap()).collect()))
            .collect();
        let demands: Vec<Demand<'_>> = demands
            .iter()
            .map(|(prefix, patterns)| Demand { prefix: prefix.clone(), patterns })
            .collect();
        prop_assert_eq!(can_meet(&demands, &mut 0), oracle::can_meet(&demands));
    }
}
