//! Walks of flows on which a topic is made again and again, each time under a longer name.
//!
//! Owns: finding them, also where they turn round or use a flow twice. Does not own: what is said of them (`loops`), and
//! records, which do not turn round.
//!
//! The walks themselves are not tried: between a hub and its leaves there are more of them than anybody waits for. Nor would
//! those do that use each flow once: of two flows back, one may need what the other made. What is searched is a graph of
//! places, a place being a cluster and as much as matters of how a name begins there. It is small, and exact all the same:
//!
//! - A name that goes on for ever grows for ever. So a pattern without a wildcard, which is one name, is of no use to it.
//! - It grows at its front. So its end, and what it has in the middle, stay: it may have been given all middles from the
//!   start, and of any two tails of the patterns that it meets one ends with the other. Each tail that no other ends with
//!   is taken for the longest of them once; that decides which patterns there are.
//! - What is left is whether a name begins with a pattern's head. Of its beginning there matters the longest part that is an
//!   end of some head: a prefix may still stand before that and make it whole.
//!
//! So topics are made without end exactly if a flow that renames leads from one place to another from which some way leads
//! back. (But the limit on a name's length, and that wildcards leave out internal topics, are not looked at.) For each such
//! tail this takes a look at each place for each flow from there, and there are at most as many places as clusters times
//! ends of heads; most often there are a few for each prefix.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::{Flow, Rename};

/// The walks by the flows' indices, each from its lowest flow on. Each flow that renames and that is part of such a walk is
/// in one of them, unless it is `named` already. Not every walk is given: there may be as many as ways through a hub.
///
/// Adds to `compared` how often a beginning or an end was looked up, and how often a flow's patterns were.
pub(super) fn walks(flows: &[&Flow], named: &mut [bool], compared: &mut usize) -> Vec<Vec<usize>> {
    let courses = courses(flows);
    let by_tail = by_tail(&courses);
    let mut walks = Vec::new();
    for tail in longest_tails(&by_tail) {
        let ahead = Search::new(&courses, &by_tail, tail, compared).explore(compared);
        let components = components(&ahead);
        let mut renamings: Vec<(usize, usize, usize)> = Vec::new();
        for (place, steps) in ahead.iter().enumerate() {
            let back = steps.iter().filter(|step| components[step.to] == components[place]);
            renamings.extend(back.map(|step| (step.flow, place, step.to)));
        }
        renamings.retain(|&(flow, ..)| flows[flow].rename != Rename::Same);
        renamings.sort_unstable();
        for (flow, place, next) in renamings {
            if !named[flow] {
                let walk = [vec![flow], shortest_way(&ahead, next, place)].concat();
                walk.iter().for_each(|&member| named[member] = true);
                walks.push(from_the_lowest(walk));
            }
        }
    }
    walks
}

/// A flow that may be part of a walk back to where it began.
struct Course<'f> {
    flow: usize,
    from: usize,
    to: usize,
    prefix: &'f str,
    topics: &'f Flow,
}

/// The flows between clusters from each of which some way leads to the other, on one of which something is renamed.
fn courses<'f>(flows: &[&'f Flow]) -> Vec<Course<'f>> {
    let mut clusters: BTreeMap<&str, usize> = BTreeMap::new();
    let mut number = |name: &'f str| {
        let next = clusters.len();
        *clusters.entry(name).or_insert(next)
    };
    let mut courses: Vec<Course<'f>> = Vec::new();
    for (flow, topics) in flows.iter().enumerate() {
        let (from, to) = (number(&topics.from), number(&topics.to));
        let prefix = if let Rename::Prefix(prefix) = &topics.rename { prefix.as_str() } else { "" };
        courses.push(Course { flow, from, to, prefix, topics });
    }
    let mut ahead: Graph = Vec::new();
    ahead.resize_with(clusters.len(), Vec::new);
    for course in &courses {
        ahead[course.from].push(Step { flow: course.flow, to: course.to });
    }
    let components = components(&ahead);
    courses.retain(|course| components[course.from] == components[course.to]);
    let renaming = courses.iter().filter(|course| !course.prefix.is_empty());
    let renaming: BTreeSet<usize> = renaming.map(|course| components[course.from]).collect();
    courses.retain(|course| renaming.contains(&components[course.from]));
    courses
}

/// Of each tail of a pattern with a wildcard, the heads that stand with it, each with the number of its course.
type ByTail<'f> = BTreeMap<&'f str, BTreeSet<(usize, &'f str)>>;

fn by_tail<'f>(courses: &[Course<'f>]) -> ByTail<'f> {
    let mut by_tail = ByTail::new();
    for (number, course) in courses.iter().enumerate() {
        for pattern in &course.topics.topics {
            if let (Some((head, _)), Some((_, tail))) =
                (pattern.as_str().split_once('*'), pattern.as_str().rsplit_once('*'))
            {
                by_tail.entry(tail).or_default().insert((number, head));
            }
        }
    }
    by_tail
}

/// The tails that no other tail ends with: what may stand beside a shorter one may stand beside these.
fn longest_tails<'f>(by_tail: &ByTail<'f>) -> Vec<&'f str> {
    let shorter: BTreeSet<&str> = by_tail.keys().flat_map(|tail| ends(tail).skip(1)).collect();
    by_tail.keys().copied().filter(|tail| !shorter.contains(tail)).collect()
}

/// The ends of a text: itself first, nothing last.
fn ends(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(position, _)| &text[position..]).chain([""])
}

/// From each place, the steps that a topic takes there.
type Graph = Vec<Vec<Step>>;

struct Step {
    flow: usize,
    to: usize,
}

/// The search for places, where one tail is the longest.
struct Search<'s, 'f> {
    courses: &'s [Course<'f>],
    /// Of each course, the heads of its patterns.
    heads: Vec<BTreeSet<&'f str>>,
    /// Every end of a head: as much of a name's beginning as can matter.
    beginnings: BTreeSet<&'f str>,
    /// The courses from each cluster.
    leaving: BTreeMap<usize, Vec<usize>>,
    places: BTreeMap<(usize, &'f str), usize>,
    open: VecDeque<(usize, &'f str)>,
}

impl<'s, 'f> Search<'s, 'f> {
    fn new(courses: &'s [Course<'f>], by_tail: &ByTail<'f>, tail: &str, compared: &mut usize) -> Self {
        let mut heads = vec![BTreeSet::new(); courses.len()];
        for end in ends(tail) {
            let found = by_tail.get(end);
            *compared += 1 + found.map_or(0, BTreeSet::len);
            for &(number, head) in found.into_iter().flatten() {
                heads[number].insert(head);
            }
        }
        let beginnings = heads.iter().flatten().flat_map(|head| ends(head)).collect();
        let mut leaving: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, course) in courses.iter().enumerate().filter(|(number, _)| !heads[*number].is_empty()) {
            leaving.entry(course.from).or_default().push(number);
        }
        Self { courses, heads, beginnings, leaving, places: BTreeMap::new(), open: VecDeque::new() }
    }

    /// All places that a topic can come to after it was renamed.
    fn explore(mut self, compared: &mut usize) -> Graph {
        for number in 0..self.courses.len() {
            let course = &self.courses[number];
            if course.prefix.is_empty() || self.heads[number].is_empty() {
                continue;
            }
            // Whatever the name was before: as if each beginning had been there that makes a longer one.
            let longer = self.beginnings.range(course.prefix..);
            let longer: Vec<&str> =
                longer.copied().take_while(|longer| longer.starts_with(course.prefix)).collect();
            let (to, own) = (course.to, self.beginning(course.prefix.to_owned(), compared));
            *compared += longer.len();
            for beginning in longer.into_iter().chain([own]) {
                self.place(to, beginning);
            }
        }
        let mut ahead = Vec::new();
        while let Some((cluster, beginning)) = self.open.pop_front() {
            let leaving = self.leaving.get(&cluster).cloned().unwrap_or_default();
            let mut steps = Vec::new();
            for number in leaving {
                if self.passes(number, beginning, compared) {
                    let course = &self.courses[number];
                    let renamed = self.beginning(format!("{}{beginning}", course.prefix), compared);
                    steps.push(Step { flow: course.flow, to: self.place(course.to, renamed) });
                }
            }
            ahead.push(steps);
        }
        ahead
    }

    /// A place's number; places are numbered in the order in which they are found, and gone on from in that order.
    fn place(&mut self, cluster: usize, beginning: &'f str) -> usize {
        let next = self.places.len();
        *self.places.entry((cluster, beginning)).or_insert_with(|| {
            self.open.push_back((cluster, beginning));
            next
        })
    }

    /// As much of a name as matters of it.
    fn beginning(&self, mut name: String, compared: &mut usize) -> &'f str {
        loop {
            *compared += 1;
            match self.beginnings.get(name.as_str()) {
                Some(beginning) => return beginning,
                None if name.pop().is_none() => return "",
                None => {}
            }
        }
    }

    /// Whether a name that begins so begins with a head of the course.
    fn passes(&self, number: usize, beginning: &str, compared: &mut usize) -> bool {
        let mut lengths = beginning.char_indices().map(|(position, _)| position).chain([beginning.len()]);
        lengths.any(|length| {
            *compared += 1;
            self.heads[number].contains(&beginning[..length])
        })
    }
}

/// Of each place a mark, the same for two exactly if some way leads from each to the other.
fn components(ahead: &[Vec<Step>]) -> Vec<usize> {
    let mut behind: Vec<Vec<usize>> = vec![Vec::new(); ahead.len()];
    for (place, steps) in ahead.iter().enumerate() {
        for step in steps {
            behind[step.to].push(place);
        }
    }
    let mut marks: Vec<Option<usize>> = vec![None; ahead.len()];
    for start in in_order_of_leaving(ahead).into_iter().rev() {
        let mut open = vec![start];
        while let Some(place) = open.pop() {
            if marks[place].is_none() {
                marks[place] = Some(start);
                open.extend(behind[place].iter().filter(|&&before| marks[before].is_none()));
            }
        }
    }
    marks.into_iter().flatten().collect()
}

/// The places in the order in which a search in depth is done with them. It keeps its own stack, because a way through a
/// long file is longer than the thread's would hold.
fn in_order_of_leaving(ahead: &[Vec<Step>]) -> Vec<usize> {
    let mut seen = vec![false; ahead.len()];
    let mut order = Vec::with_capacity(ahead.len());
    for start in 0..ahead.len() {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let mut way = vec![(start, 0)];
        while let Some((place, taken)) = way.last_mut() {
            if let Some(step) = ahead[*place].get(*taken) {
                *taken += 1;
                if !std::mem::replace(&mut seen[step.to], true) {
                    way.push((step.to, 0));
                }
            } else {
                order.push(*place);
                way.pop();
            }
        }
    }
    order
}

/// The flows of a shortest way from one place to another, which there is; none if they are the same.
fn shortest_way(ahead: &[Vec<Step>], from: usize, to: usize) -> Vec<usize> {
    let mut came_by: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut open = VecDeque::from([from]);
    while let Some(place) = open.pop_front().filter(|&place| place != to) {
        for step in &ahead[place] {
            if step.to != from && !came_by.contains_key(&step.to) {
                came_by.insert(step.to, (place, step.flow));
                open.push_back(step.to);
            }
        }
    }
    let mut way = Vec::new();
    let mut place = to;
    while let Some(&(before, flow)) = came_by.get(&place).filter(|_| place != from) {
        way.push(flow);
        place = before;
    }
    way.reverse();
    way
}

/// The same walk, begun where its flows stand lowest in the file's order.
fn from_the_lowest(walk: Vec<usize>) -> Vec<usize> {
    let turned = |by: usize| [&walk[by..], &walk[..by]].concat();
    (0..walk.len()).map(turned).min().unwrap_or_default()
}
