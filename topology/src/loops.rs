//! Flows that would feed each other for ever.
//!
//! Owns: seeing, from the file alone, that a record could come back to where it was.
//! Does not own: provenance at run time.
//!
//! A pair of flows in opposite directions is no loop: the way back leaves out what came by the way there. A longer
//! ring is one, and so are a flow onto its own cluster and two flows that copy the same topic between the same two
//! clusters, because then nothing at run time tells a copy from an original.

use crate::fault::Sink;
use crate::model::{Flow, Rename};
use crate::pattern::{Demand, Pattern, can_all_match};
use crate::read::{Draft, Placed};

/// The longest ring of flows that is looked for.
const LONGEST_RING: usize = 8;

/// What decides which records go where; a flow of which one of these is not known is no part of any ring.
const COURSE: [&str; 4] = ["from", "to", "topics", "rename"];

pub(crate) fn check(draft: &Draft, faults: &mut Sink) {
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
        let mut ring = vec![start];
        extend(&flows, &mut ring, faults);
    }
}

/// Looks for rings whose first flow by name is the ring's first, so that each is reported once.
fn extend(flows: &[(&String, &Placed<Flow>)], ring: &mut Vec<usize>, faults: &mut Sink) {
    let first = ring[0];
    let last = *ring.last().expect("a ring holds its first flow");
    for next in first..flows.len() {
        if flows[next].1.value.from != flows[last].1.value.to {
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
        && any_choice(&[flow, other], &mut |choice| {
            let demands: Vec<_> =
                choice.iter().map(|&pattern| Demand { prefix: String::new(), pattern }).collect();
            can_all_match(&demands)
        })
}

/// Whether a topic could pass every flow of the ring twice.
fn returns(ring: &[&Flow]) -> bool {
    let twice: Vec<&Flow> = ring.iter().chain(ring).copied().collect();
    any_choice(&twice, &mut |choice| {
        let mut prefix = String::new();
        let mut demands = Vec::new();
        for (flow, &pattern) in twice.iter().zip(choice) {
            demands.push(Demand { prefix: prefix.clone(), pattern });
            if let Rename::Prefix(added) = &flow.rename {
                prefix.insert_str(0, added);
            }
        }
        can_all_match(&demands)
    })
}

/// Whether some choice of one pattern of each flow fulfils the demand.
fn any_choice<'a>(flows: &[&'a Flow], fulfils: &mut dyn FnMut(&[&'a Pattern]) -> bool) -> bool {
    fn choose<'a>(
        flows: &[&'a Flow],
        chosen: &mut Vec<&'a Pattern>,
        fulfils: &mut dyn FnMut(&[&'a Pattern]) -> bool,
    ) -> bool {
        let Some(flow) = flows.get(chosen.len()) else { return fulfils(chosen) };
        for pattern in &flow.topics {
            chosen.push(pattern);
            if choose(flows, chosen, fulfils) {
                return true;
            }
            chosen.pop();
        }
        false
    }
    choose(flows, &mut Vec::new(), fulfils)
}
