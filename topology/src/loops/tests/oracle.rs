//! Rings and meetings found by trying every choice: slow beyond a few patterns, and plain enough to be believed.
//!
//! Owns: the answers that `loops` and `meeting` are held to. Does not own: topologies to ask about.

use std::collections::{BTreeSet, VecDeque};

use crate::fault::Sink;
use crate::loops::{COURSE, LONGEST_RING};
use crate::meeting::Demand;
use crate::model::{Flow, Rename};
use crate::pattern::{Pattern, closure, step};
use crate::read::{Draft, Placed};

pub(super) fn check(draft: &Draft, faults: &mut Sink) {
    let flows: Vec<(&String, &Placed<Flow>)> =
        draft.flows.iter().filter(|(_, placed)| COURSE.iter().all(|key| placed.says(key))).collect();
    for (index, (name, flow)) in flows.iter().enumerate() {
        if flow.value.from == flow.value.to && returns(&[&flow.value]) {
            let reason = format!("flow.{name}: copies \"{}\" onto itself, without end", flow.value.from);
            faults.suggest(flow.head(), reason, "rename with a prefix that its topics do not match");
        }
        for (other_name, other) in &flows[..index] {
            if collide(&flow.value, &other.value) {
                let reason =
                    format!("flow.{name}: copies topics that flow.{other_name} copies to the same place");
                faults.suggest(flow.at("topics"), reason, "keep their topics apart");
            }
        }
    }
    for start in 0..flows.len() {
        extend(&flows, &mut vec![start], faults);
    }
}

fn extend(flows: &[(&String, &Placed<Flow>)], ring: &mut Vec<usize>, faults: &mut Sink) {
    let first = ring[0];
    let last = *ring.last().unwrap();
    for next in first..flows.len() {
        let [behind, ahead] = [last, next].map(|index| &flows[index].1.value);
        // The last clause: what came by a flow does not go back by another.
        if ahead.from != behind.to || ahead.to == behind.from {
            continue;
        }
        if next == first && ring.len() >= 3 {
            let members: Vec<&Flow> = ring.iter().map(|&index| &flows[index].1.value).collect();
            if returns(&members) {
                let names: Vec<&str> = ring.iter().map(|&index| flows[index].0.as_str()).collect();
                let reason = format!(
                    "flows {} form a ring: a record would come back and go round again",
                    names.join(", ")
                );
                faults.suggest(
                    flows[first].1.head(),
                    reason,
                    "leave out one of them, or rename with a prefix",
                );
            }
        } else if !ring.contains(&next) && ring.len() < LONGEST_RING {
            ring.push(next);
            extend(flows, ring, faults);
            ring.pop();
        }
    }
}

fn collide(flow: &Flow, other: &Flow) -> bool {
    flow.from == other.from
        && flow.to == other.to
        && flow.rename == other.rename
        && can_meet(&[flow, other].map(|flow| Demand { prefix: String::new(), patterns: &flow.topics }))
}

fn returns(ring: &[&Flow]) -> bool {
    let mut prefix = String::new();
    let mut demands = Vec::new();
    for flow in ring.iter().chain(ring) {
        demands.push(Demand { prefix: prefix.clone(), patterns: &flow.topics });
        if let Rename::Prefix(added) = &flow.rename {
            prefix.insert_str(0, added);
        }
    }
    can_meet(&demands)
}

/// Whether some choice of one pattern of each demand can be met by one name.
pub(super) fn can_meet(demands: &[Demand<'_>]) -> bool {
    fn choose<'a>(demands: &[Demand<'a>], chosen: &mut Vec<&'a Pattern>) -> bool {
        let Some(demand) = demands.get(chosen.len()) else { return can_all_match(demands, chosen) };
        demand.patterns.iter().any(|pattern| {
            chosen.push(pattern);
            let met = choose(demands, chosen);
            chosen.pop();
            met
        })
    }
    choose(demands, &mut Vec::new())
}

/// Whether one name, with the demands' prefixes put before it, matches the pattern that was chosen of each.
///
/// The patterns run side by side as automata. Their alphabet is their own characters and one that none of them names.
fn can_all_match(demands: &[Demand<'_>], chosen: &[&Pattern]) -> bool {
    let tokens: Vec<Vec<char>> = chosen.iter().map(|pattern| pattern.tokens()).collect();
    let mut alphabet: BTreeSet<char> = tokens.iter().flatten().copied().filter(|&c| c != '*').collect();
    alphabet.insert('\u{0}');
    let start: Vec<BTreeSet<usize>> = demands
        .iter()
        .zip(&tokens)
        .map(|(demand, tokens)| {
            let begin = closure(tokens, BTreeSet::from([0]));
            demand.prefix.chars().fold(begin, |states, c| step(tokens, &states, c))
        })
        .collect();
    let mut seen = BTreeSet::from([start.clone()]);
    let mut queue = VecDeque::from([start]);
    while let Some(all) = queue.pop_front() {
        if all.iter().zip(&tokens).all(|(states, tokens)| states.contains(&tokens.len())) {
            return true;
        }
        for &c in &alphabet {
            let next: Vec<_> =
                all.iter().zip(&tokens).map(|(states, tokens)| step(tokens, states, c)).collect();
            if next.iter().all(|states| !states.is_empty()) && seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    false
}
