//! The search for rings: the same answers as every choice tried, and an end in sight for long lists of topics.

mod oracle;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;

use crate::fault::Sink;
use crate::meeting::{Demand, can_meet};
use crate::model::Flow;
use crate::pattern::Pattern;
use crate::read::{Draft, read};

/// A flow between two of the clusters: from, to, its topics, and the prefix that it renames with, or none.
type Course = (usize, usize, Vec<String>, String);

fn draft(courses: &[Course]) -> Draft {
    let mut text = String::new();
    let clusters = courses.iter().map(|&(from, to, ..)| from.max(to) + 1).max().unwrap_or(0);
    for cluster in 0..clusters {
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
    let course = |from, to| course(from, to, "orders", "");
    let hub: Vec<Course> = (1..4).flat_map(|leaf| [course(0, leaf), course(leaf, 0)]).collect();
    assert_eq!(found(&hub).0, [""; 0]);
    let also_around = [hub, vec![course(1, 2)]].concat();
    assert!(!found(&also_around).0.is_empty(), "0, 1, 2 and back to 0");
}

#[test]
fn a_pair_that_renames_what_it_renamed_makes_topics_without_end() {
    let pair = |topics: [&str; 2], prefixes: [&str; 2]| {
        let course = |from: usize, to| course(from, to, topics[from], prefixes[from]);
        found(&[course(0, 1), course(1, 0)]).0
    };
    for prefixes in [["s.", "t."], ["s.", ""], ["", "t."], ["s.", "s."]] {
        let faults = pair(["*", "*"], prefixes);
        assert!(faults.len() == 1 && faults[0].contains("ever longer names"), "{prefixes:?}: {faults:?}");
    }
    assert_eq!(pair(["*", "*"], ["", ""]), [""; 0]);
    assert_eq!(pair(["orders*", "*"], ["s.", "t."]), [""; 0], "s.orders goes no further than t.s.orders");
    assert_eq!(pair(["orders*", "orders*"], ["s.", "t."]), [""; 0]);
    assert_eq!(pair(["orders", "orders"], ["s.", ""]), [""; 0]);
    let listed = [
        (0, 1, vec!["*".to_owned()], "a.".to_owned()),
        (1, 0, vec!["a.t".to_owned(), "a.a.t".to_owned()], String::new()),
    ];
    assert_eq!(found(&listed).0, [""; 0], "t, a.t, a.a.t and a.a.a.t, and no more");
}

/// A pair between two clusters that renames, or does not.
fn pairs() -> impl Strategy<Value = Vec<Course>> {
    let prefix = || prop_oneof![1 => Just(String::new()), 2 => "[ab]{1,2}"];
    let rest = || (prop::collection::vec(pattern(), 1..3), prefix());
    (rest(), rest()).prop_map(|((topics, prefix), (back, back_prefix))| {
        vec![(0, 1, topics, prefix), (1, 0, back, back_prefix)]
    })
}

fn course(from: usize, to: usize, topics: &str, prefix: &str) -> Course {
    (from, to, topics.split(' ').map(str::to_owned).collect(), prefix.to_owned())
}

/// What is found, which is but walks that make topics without end: their flows.
fn walks_found(courses: &[Course]) -> Vec<String> {
    found(courses)
        .0
        .iter()
        .map(|reason| walk(reason).unwrap_or_else(|| panic!("{reason}")).to_owned())
        .collect()
}

/// The flows of which it is said that they make topics without end.
fn walk(reason: &str) -> Option<&str> {
    Some(reason.strip_prefix("flows ")?.split_once(" make topics without end")?.0)
}

/// A hub, of which each leaf has what the next one made of its own: once round, all have renamed a topic.
fn hub_of_readers_of_the_next(leaves: usize) -> Vec<Course> {
    let leaf = |leaf: usize| {
        let next = leaf % leaves + 1;
        [course(leaf, 0, "*", &format!("l{leaf}.")), course(0, leaf, &format!("l{next}.*"), "")]
    };
    (1..=leaves).flat_map(leaf).collect()
}

#[test]
fn a_walk_that_turns_round_in_a_hub_makes_topics_without_end() {
    let hub = hub_of_readers_of_the_next(2);
    assert_eq!(walks_found(&hub), ["f0, f3, f2, f1"], "x, l1.x, l2.l1.x and so on");
    let mut with_one_more_prefix = hub.clone();
    with_one_more_prefix[1] = course(0, 1, "l2.*", "via.");
    assert_eq!(
        walks_found(&with_one_more_prefix),
        ["f0, f3, f2, f1"],
        "x, l1.x, l2.l1.x, via.l2.l1.x and so on"
    );
    // Each leaf but takes what the other made of topics of its own.
    let own = |leaf: usize, other: &str| {
        [course(leaf, 0, "orders*", &format!("l{leaf}.")), course(0, leaf, other, "")]
    };
    assert_eq!(found(&[own(1, "l2.*"), own(2, "l1.*")].concat()).0, [""; 0]);
    // The rest of the walk goes no further where one of them is taken away.
    for without in 0..4 {
        let rest: Vec<Course> =
            hub.iter().enumerate().filter(|(index, _)| *index != without).map(|(_, c)| c.clone()).collect();
        assert_eq!(found(&rest).0, [""; 0]);
    }
}

#[test]
fn a_walk_over_many_leaves_is_found_and_found_once() {
    for leaves in [3, 4, 5, 9] {
        let found = walks_found(&hub_of_readers_of_the_next(leaves));
        assert!(found.len() == 1 && found[0].split(", ").count() == 2 * leaves, "{found:?}");
    }
    // With each leaf a reader of all others there are ever so many walks: each flow that renames is in one that is told.
    let others =
        |leaf: usize| (1..=40).filter(move |&other| other != leaf).map(|other| format!("l{other}.*"));
    let leaf = |leaf: usize| {
        [course(leaf, 0, "*", &format!("l{leaf}.")), (0, leaf, others(leaf).collect(), String::new())]
    };
    let hub: Vec<Course> = (1..=40).flat_map(leaf).collect();
    let found = walks_found(&hub);
    assert!((20..=40).contains(&found.len()), "{found:?}");
    let named =
        |flow: usize| found.iter().any(|walk| walk.split(", ").any(|name| name == format!("f{flow}")));
    assert!((0..40).all(|leaf| named(2 * leaf)), "{found:?}");
}

#[test]
fn a_walk_that_takes_a_flow_twice_is_found() {
    let back = |own: &str, other: &str| course(1, 0, &format!("{other}*"), own);
    let courses = [course(0, 1, "*", ""), back("a.", "b."), back("b.", "a.")];
    assert_eq!(walks_found(&courses), ["f0, f1, f0, f2"], "b.x, a.b.x, b.a.b.x and so on");
}

#[test]
fn what_another_rule_reports_is_not_reported_again() {
    let pair = [course(1, 0, "*", "l1."), course(0, 1, "*", "")];
    let onto_itself = [course(0, 0, "*", "s.")];
    let ring = [course(0, 1, "*", "s."), course(1, 2, "*", ""), course(2, 0, "*", "")];
    let cases = [
        (pair.to_vec(), "ever longer names"),
        (onto_itself.to_vec(), "onto itself"),
        (ring.to_vec(), "form a ring"),
    ];
    for (courses, said) in cases {
        let (faults, _) = found(&courses);
        assert!(faults.len() == 1 && faults[0].contains(said), "{faults:?}");
    }
    // A second leaf is part of a walk that the pair is not.
    let (faults, _) =
        found(&[pair.to_vec(), vec![course(2, 0, "*", "l2."), course(0, 2, "l1.*", "")]].concat());
    let walks: Vec<_> = faults.iter().filter_map(|reason| walk(reason)).collect();
    assert_eq!(walks, ["f0, f1", "f0, f3, f2, f1"]);
    assert_eq!(faults.len(), 2, "{faults:?}");
}

#[test]
fn an_ordinary_hub_is_legal_and_soon_decided() {
    const LEAVES: usize = 300;
    let hub = |leaf: &dyn Fn(usize) -> [Course; 2]| (1..=LEAVES).flat_map(leaf).collect::<Vec<Course>>();
    let prefix = |leaf| format!("l{leaf}.");
    let all = |leaf| [course(leaf, 0, "*", ""), course(0, leaf, "*", "")];
    let but_one_alike = |leaf| match leaf {
        LEAVES => [course(leaf, 0, "*", &prefix(leaf)), course(0, leaf, "orders", "")],
        _ => all(leaf),
    };
    let legal: [(&str, Vec<Course>); 6] = [
        ("nothing is renamed", hub(&all)),
        ("one renames, and what goes on from leaf to leaf does not come back to it", hub(&but_one_alike)),
        (
            "named topics to the leaves",
            hub(&|leaf| [course(leaf, 0, "*", &prefix(leaf)), course(0, leaf, "orders", "")]),
        ),
        (
            "one kind to the leaves",
            hub(&|leaf| [course(leaf, 0, "*", &prefix(leaf)), course(0, leaf, "orders*", "")]),
        ),
        (
            "one kind from the leaves",
            hub(&|leaf| [course(leaf, 0, "orders*", &prefix(leaf)), course(0, leaf, "*", "")]),
        ),
        (
            "named from the leaves",
            hub(&|leaf| [course(leaf, 0, "orders", &prefix(leaf)), course(0, leaf, "l*.orders", "")]),
        ),
    ];
    for (kind, courses) in legal {
        let (faults, compared) = found(&courses);
        assert_eq!(faults, [""; 0], "{kind}");
        // Each flow is held against each once at most; of walks over three leaves alone there would be more than 10^7.
        let limit = courses.len() * courses.len();
        assert!(compared <= limit, "{kind}: {compared} comparisons, {limit} allowed");
    }
}

/// A topic's name by its leaf, the side that copies it, and its number.
type Naming = dyn Fn(usize, &str, usize) -> String;

#[test]
fn many_topics_that_are_renamed_in_a_hub_are_soon_decided() {
    const LEAVES: usize = 10;
    const TOPICS: usize = 100;
    let forms: [&Naming; 3] = [
        &|leaf, _, number| format!("t{leaf}.{number}.*"),
        &|leaf, side, number| format!("*.{side}{leaf}.{number}"),
        &|leaf, side, number| format!("{side}{leaf}.{number}.*.v{number}"),
    ];
    for form in forms {
        let topics = |leaf, side| (0..TOPICS).map(|number| form(leaf, side, number)).collect();
        let leaf = |leaf: usize| -> [Course; 2] {
            [
                (leaf, 0, topics(leaf, "leaf"), format!("l{leaf}.")),
                (0, leaf, topics(leaf, "hub"), "back.".to_owned()),
            ]
        };
        let hub: Vec<Course> = (1..=LEAVES).flat_map(leaf).collect();
        assert_eq!(found(&hub).0, [""; 0]);
        let draft = draft(&hub);
        let flows: Vec<&Flow> = draft.flows.values().map(|placed| &placed.value).collect();
        let mut compared = 0;
        let walks = super::endless::walks(&flows, &mut vec![false; flows.len()], &mut compared);
        assert!(walks.is_empty(), "{walks:?}");
        // Each pattern is looked up by each end of its own; none is held against each other.
        let limit = LEAVES * 2 * TOPICS * 25;
        assert!(compared <= limit, "{}: {compared} comparisons, {limit} allowed", form(1, "leaf", 1));
    }
}

/// A hub with two leaves, and another flow anywhere: what stands at the hub is mostly what a leaf has renamed.
fn hubs() -> impl Strategy<Value = Vec<Course>> {
    let prefix = || prop_oneof![1 => Just(String::new()), 2 => "[ab]{1,2}"];
    let topic = || prop_oneof![2 => Just("*".to_owned()), 3 => "[ab]{1,2}[*]", 1 => "[ab*]{1,3}"];
    let rest = move || (prop::collection::vec(topic(), 1..3), prefix());
    let (hub, other) = (prop::collection::vec(rest(), 4), (0..3_usize, 0..3_usize, rest()));
    (hub, prop::option::of(other)).prop_map(|(hub, other)| {
        let hub = hub.into_iter().zip([(1, 0), (0, 1), (2, 0), (0, 2)]);
        let hub = hub.map(|((topics, prefix), (from, to))| (from, to, topics, prefix));
        hub.chain(other.map(|(from, to, (topics, prefix))| (from, to, topics, prefix))).collect()
    })
}

/// Holds what is found against every choice tried. The other rules' faults have to be the same, word for word. Of the walks
/// not each is told: they have to go round for ever, none may be told twice or but of flows that are reported already, and
/// no flow that renames without end may be left out.
fn check_against_every_choice(courses: &[Course]) -> Result<(), TestCaseError> {
    let draft = draft(courses);
    let mut faults = Sink::new("");
    oracle::check(&draft, &mut faults);
    let (walks, others): (Vec<String>, Vec<String>) =
        found(courses).0.into_iter().partition(|reason| walk(reason).is_some());
    prop_assert_eq!(&others, &reasons(faults));

    let oracle = oracle::Walks::of(&draft);
    let endless = oracle.renaming_without_end();
    let without_collisions = others.iter().filter(|reason| !reason.contains("to the same place"));
    let mut left_out: BTreeSet<&str> = endless
        .into_iter()
        .filter(|flow| !without_collisions.clone().any(|reason| reason.contains(flow)))
        .collect();
    let to_tell = left_out.clone();
    for reason in &walks {
        let members: Vec<&str> = walk(reason).unwrap().split(", ").collect();
        prop_assert!(oracle.goes_round(&members), "{}", reason);
        prop_assert_eq!(members.iter().min(), members.first());
        prop_assert!(members.iter().any(|member| to_tell.contains(member)), "{} after {:?}", reason, others);
        left_out.retain(|flow| !members.contains(flow));
    }
    prop_assert!(left_out.is_empty(), "{:?} are in none of {:?}", left_out, walks);
    let apart: BTreeSet<BTreeSet<&str>> =
        walks.iter().map(|reason| walk(reason).unwrap().split(", ").collect()).collect();
    prop_assert_eq!(apart.len(), walks.len(), "{:?}", walks);
    Ok(())
}

proptest! {
    #[test]
    fn pairs_without_end_are_those_that_every_choice_tried_would_find(courses in pairs()) {
        check_against_every_choice(&courses)?;
    }
}

proptest! {
    // The oracle takes up to 2^8 tries for a ring of four.
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rings_are_those_that_every_choice_tried_would_find(courses in courses()) {
        check_against_every_choice(&courses)?;
    }

    #[test]
    fn walks_in_a_hub_are_those_that_every_choice_tried_would_find(courses in hubs()) {
        check_against_every_choice(&courses)?;
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
