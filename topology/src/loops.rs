//! Flows that would feed each other for ever.
//!
//! Owns: seeing, from the file alone, that a record could come back to where it was.
//! Does not own: provenance at run time.
//!
//! A pair of flows in opposite directions is no loop: the way back leaves out what came by the way there. So no record
//! turns round, and a ring in which it would have to, as between a hub and two others, is none either. Any other ring is
//! one, and so are a flow onto its own cluster and two flows that copy the same topic between the same two
//! clusters, because then nothing at run time tells a copy from an original.
//!
//! What a pair leaves out are records. Topics it makes all the same, and where one of the two renames what both copy it
//! makes them without end, though empty: x, s.x, t.s.x and so on. So does any longer walk that turns round, as over a hub
//! from leaf to leaf and back (`endless`).

mod endless;

use crate::fault::Sink;
use crate::meeting::{Demand, can_meet};
use crate::model::{Flow, Rename};
use crate::read::{Draft, Placed};

/// The longest ring of flows that is looked for.
const LONGEST_RING: usize = 8;

/// What decides which records go where; a flow of which one of these is not known is no part of any ring.
const COURSE: [&str; 4] = ["from", "to", "topics", "rename"];

/// Reports what would go on for ever. Gives how often a name was held against a list or a pattern, for tests to hold it to a
/// limit: a legal file must not keep anybody waiting.
pub(crate) fn check(draft: &Draft, faults: &mut Sink) -> usize {
    let mut compared = 0;
    let flows: Vec<(&String, &Placed<Flow>)> =
        draft.flows.iter().filter(|(_, placed)| COURSE.iter().all(|key| placed.says(key))).collect();
    let mut named = vec![false; flows.len()];
    for (index, (name, flow)) in flows.iter().enumerate() {
        if flow.value.from == flow.value.to && returns(&[&flow.value], &mut compared) {
            let reason = format!("flow.{name}: copies \"{}\" onto itself, without end", flow.value.from);
            faults.suggest(flow.head(), reason, "rename with a prefix that its topics do not match");
            named[index] = true;
        }
        for (other_name, other) in &flows[..index] {
            if collide(&flow.value, &other.value, &mut compared) {
                let reason =
                    format!("flow.{name}: copies topics that flow.{other_name} copies to the same place");
                faults.suggest(flow.at("topics"), reason, "keep their topics apart");
            }
        }
    }
    let mut rings = Rings { flows: &flows, named, compared, faults };
    for start in 0..flows.len() {
        rings.extend(&mut vec![start]);
    }
    let Rings { mut named, mut compared, .. } = rings;
    let courses: Vec<&Flow> = flows.iter().map(|(_, placed)| &placed.value).collect();
    for walk in endless::walks(&courses, &mut named, &mut compared) {
        let reason = format!(
            "flows {} make topics without end: what comes back to the first is copied again, under ever longer names",
            names(&flows, &walk)
        );
        faults.suggest(flows[walk[0]].1.head(), reason, "name topics that their prefixes do not match");
    }
    compared
}

fn names(flows: &[(&String, &Placed<Flow>)], indices: &[usize]) -> String {
    let names: Vec<&str> = indices.iter().map(|&index| flows[index].0.as_str()).collect();
    names.join(", ")
}

/// The search for rings.
struct Rings<'s, 'd> {
    flows: &'s [(&'d String, &'d Placed<Flow>)],
    /// Of each flow, whether it was reported as one of those that go on without end.
    named: Vec<bool>,
    compared: usize,
    faults: &'s mut Sink,
}

impl<'d> Rings<'_, 'd> {
    /// Looks for rings whose first flow by name is the ring's first, so that each is reported once.
    fn extend(&mut self, ring: &mut Vec<usize>) {
        let first = ring[0];
        let last = *ring.last().expect("a ring holds its first flow");
        for next in first..self.flows.len() {
            let [behind, ahead] = [last, next].map(|index| &self.flows[index].1.value);
            if ahead.from != behind.to || turns_round(behind, ahead) {
                continue;
            }
            if next == first && ring.len() >= 3 {
                if returns(&self.members(ring), &mut self.compared) {
                    self.report(ring);
                }
            } else if !ring.contains(&next) && ring.len() < LONGEST_RING {
                ring.push(next);
                // What no topic can pass once, none passes twice, however it goes on.
                if can_meet(&demands(self.members(ring)), &mut self.compared) {
                    self.extend(ring);
                }
                ring.pop();
            }
        }
    }

    fn members(&self, ring: &[usize]) -> Vec<&'d Flow> {
        ring.iter().map(|&index| &self.flows[index].1.value).collect()
    }

    fn report(&mut self, ring: &[usize]) {
        ring.iter().for_each(|&index| self.named[index] = true);
        let reason = format!(
            "flows {} form a ring: a record would come back and go round again",
            names(self.flows, ring)
        );
        let at = self.flows[ring[0]].1.head();
        self.faults.suggest(at, reason, "leave out one of them, or rename with a prefix");
    }
}

/// Whether the second flow leaves out what comes by the first.
fn turns_round(behind: &Flow, ahead: &Flow) -> bool {
    ahead.from == behind.to && ahead.to == behind.from
}

fn collide(flow: &Flow, other: &Flow, compared: &mut usize) -> bool {
    let both = [flow, other].map(|flow| Demand { prefix: String::new(), patterns: flow.topics.as_slice() });
    flow.from == other.from && flow.to == other.to && flow.rename == other.rename && can_meet(&both, compared)
}

/// Whether a topic could pass every flow of the ring twice.
fn returns(ring: &[&Flow], compared: &mut usize) -> bool {
    can_meet(&demands(ring.iter().chain(ring).copied()), compared)
}

/// What a topic's name has to meet at the first of these flows, so that it passes them all, one after the other.
fn demands<'f>(flows: impl IntoIterator<Item = &'f Flow>) -> Vec<Demand<'f>> {
    let mut prefix = String::new();
    let mut demands = Vec::new();
    for flow in flows {
        demands.push(Demand { prefix: prefix.clone(), patterns: &flow.topics });
        if let Rename::Prefix(added) = &flow.rename {
            prefix.insert_str(0, added);
        }
    }
    demands
}

#[cfg(test)]
mod tests;
