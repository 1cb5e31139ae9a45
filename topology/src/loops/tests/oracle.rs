//! Rings, walks without end and meetings found by trying every choice: slow beyond a few patterns, and plain enough to be
//! believed.
//!
//! Owns: the answers that `loops` and `meeting` are held to. Does not own: topologies to ask about.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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

/// Every name there is, as far as any of the flows' patterns can tell one from another, and what each flow makes of each.
///
/// All patterns run side by side as automata, from a name's end to its beginning, so that a prefix is but more of the name.
pub(super) struct Walks<'d> {
    flows: Vec<(&'d str, &'d Flow)>,
    /// By a flow, and by a name as a number: the name it gives to what it copies.
    copies: Vec<BTreeMap<usize, usize>>,
    names: usize,
}

impl<'d> Walks<'d> {
    pub(super) fn of(draft: &'d Draft) -> Self {
        let flows: Vec<(&str, &Flow)> =
            draft.flows.iter().map(|(name, placed)| (name.as_str(), &placed.value)).collect();
        let patterns = || {
            flows
                .iter()
                .enumerate()
                .flat_map(|(flow, (_, of))| of.topics.iter().map(move |topic| (flow, topic)))
        };
        let tokens: Vec<Vec<char>> =
            patterns().map(|(_, pattern)| pattern.tokens().into_iter().rev().collect()).collect();
        let prefixes = flows.iter().map(|(_, flow)| flow.rename.apply(""));
        let mut alphabet: BTreeSet<char> =
            tokens.iter().flatten().copied().chain(prefixes.collect::<String>().chars()).collect();
        alphabet.remove(&'*');
        alphabet.insert('\u{0}');

        let read = |states: &[BTreeSet<usize>], c: char| -> Vec<BTreeSet<usize>> {
            states.iter().zip(&tokens).map(|(states, tokens)| step(tokens, states, c)).collect()
        };
        let nothing: Vec<_> = tokens.iter().map(|tokens| closure(tokens, BTreeSet::from([0]))).collect();
        let mut numbers = BTreeMap::from([(nothing.clone(), 0)]);
        let mut all = vec![nothing];
        let mut longer: Vec<BTreeMap<char, usize>> = Vec::new();
        while let Some(states) = all.get(longer.len()).cloned() {
            let mut by_character = BTreeMap::new();
            for &c in &alphabet {
                let next = read(&states, c);
                let number = *numbers.entry(next.clone()).or_insert(all.len());
                if number == all.len() {
                    all.push(next);
                }
                by_character.insert(c, number);
            }
            longer.push(by_character);
        }

        let copy = |(flow, (_, of)): (usize, &(&str, &Flow))| -> BTreeMap<usize, usize> {
            let own: Vec<usize> = patterns()
                .enumerate()
                .filter(|(_, (owner, _))| *owner == flow)
                .map(|(index, _)| index)
                .collect();
            let met =
                |name: &usize| own.iter().any(|&index| all[*name][index].contains(&tokens[index].len()));
            let prefix = of.rename.apply("");
            let copied = |name| prefix.chars().rev().fold(name, |name: usize, c| longer[name][&c]);
            (0..all.len()).filter(met).map(|name| (name, copied(name))).collect()
        };
        let copies = flows.iter().enumerate().map(copy).collect();
        Self { copies, names: all.len(), flows }
    }

    /// The flows that rename and that some topic passes again and again for ever, whichever others it passes in between.
    pub(super) fn renaming_without_end(&self) -> Vec<&'d str> {
        let is_endless = |flow: &usize| {
            let mut copied: BTreeSet<usize> = self.copies[*flow].keys().copied().collect();
            // Each time, those stay of which another that stays comes; what is left at last goes on.
            loop {
                let source = self.flows[*flow].1.from.as_str();
                let leading = self.leading_to(copied.iter().map(|&name| (source, name)).collect());
                let target = self.flows[*flow].1.to.as_str();
                let before = copied.len();
                copied.retain(|name| leading.contains(&(target, self.copies[*flow][name])));
                if copied.len() == before {
                    return before > 0;
                }
            }
        };
        let renaming = (0..self.flows.len()).filter(|&flow| self.flows[flow].1.rename != Rename::Same);
        renaming.filter(is_endless).map(|flow| self.flows[flow].0).collect()
    }

    /// Where a name has to be, and which, so that it comes to one of these places.
    fn leading_to(&self, mut leading: BTreeSet<(&'d str, usize)>) -> BTreeSet<(&'d str, usize)> {
        loop {
            let before = leading.len();
            for ((_, flow), copies) in self.flows.iter().zip(&self.copies) {
                for (&name, &copy) in copies {
                    if leading.contains(&(flow.to.as_str(), copy)) {
                        leading.insert((flow.from.as_str(), name));
                    }
                }
            }
            if leading.len() == before {
                return leading;
            }
        }
    }

    /// Whether these flows follow one another, the first the last too, one of them renames, and some topic passes them all
    /// more often than there are names that can be told apart, so that one comes again and it goes on for ever.
    pub(super) fn goes_round(&self, walk: &[&str]) -> bool {
        let find = |name: &&str| self.flows.iter().position(|(flow, _)| flow == name).unwrap();
        let walk: Vec<usize> = walk.iter().map(find).collect();
        let follows = |(&flow, &next): (&usize, &usize)| self.flows[flow].1.to == self.flows[next].1.from;
        let mut names: BTreeSet<usize> = (0..self.names).collect();
        for _ in 0..=self.names {
            for &flow in &walk {
                names = names.iter().filter_map(|name| self.copies[flow].get(name).copied()).collect();
            }
        }
        walk.iter().zip(walk.iter().cycle().skip(1)).all(follows)
            && walk.iter().any(|&flow| self.flows[flow].1.rename != Rename::Same)
            && !names.is_empty()
    }
}
