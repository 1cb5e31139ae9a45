//! Whether one name can meet several lists of patterns, each with one of its own: how a ring is seen before it runs.
//!
//! Owns: the decision. Does not own: what a pattern matches (`pattern`), which flows are asked about (`loops`).
//!
//! Trying every choice of one pattern a list would take as many tries as the lengths of the lists multiplied. Here a look at
//! each pattern for each pattern does (for a third time each where many heads begin with one another, and many tails end
//! so), because a name that meets all lists is of one of two kinds:
//!
//! - Some list is met by a pattern without a wildcard. Then it is that name, and there are only so many.
//! - All are met by patterns with a wildcard. Such patterns have a name in common exactly if of any two of their heads (what
//!   stands before the first wildcard) one begins with the other, and of any two tails one ends with the other: the
//!   longest head, all their middles one after the other, and the longest tail are that name. So the choice of a longest
//!   head and a longest tail decides which patterns may stand beside them.

use std::collections::BTreeSet;

use crate::pattern::Pattern;

/// A demand on a name: with `prefix` put before it, it has to match one of `patterns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demand<'a> {
    pub(crate) prefix: String,
    pub(crate) patterns: &'a [Pattern],
}

/// Whether one name meets every demand. Adds to `compared` how often a name or a part of one was held against a list or
/// against a pattern.
pub(crate) fn can_meet(demands: &[Demand<'_>], compared: &mut usize) -> bool {
    let repeats = |index: usize| demands[..index].contains(&demands[index]);
    let all: Vec<Rests> =
        (0..demands.len()).filter(|&index| !repeats(index)).map(|index| Rests::of(&demands[index])).collect();
    for name in all.iter().flat_map(|rests| &rests.names) {
        if all.iter().all(|rests| rests.has(name, compared)) {
            return true;
        }
    }
    can_meet_by_wildcards(&all, compared)
}

/// Whether one name meets every demand by a pattern with a wildcard.
fn can_meet_by_wildcards(all: &[Rests], compared: &mut usize) -> bool {
    let heads: BTreeSet<&str> =
        all.iter().flat_map(|rests| &rests.wild).map(|wild| wild.head.as_str()).collect();
    heads.into_iter().any(|head| {
        let mut beside: Vec<Vec<&Wild>> = Vec::with_capacity(all.len());
        for rests in all {
            *compared += rests.wild.len();
            let wilds = rests.wild.iter().filter(|wild| head.starts_with(wild.head.as_str()));
            beside.push(wilds.collect());
        }
        !beside.iter().any(Vec::is_empty) && have_tails_in_common(&beside, compared)
    })
}

/// Whether one pattern can be taken of each list so that their tails go together.
fn have_tails_in_common(lists: &[Vec<&Wild>], compared: &mut usize) -> bool {
    let tails: BTreeSet<&str> = lists.iter().flatten().map(|wild| wild.tail.as_str()).collect();
    tails.into_iter().any(|tail| {
        lists.iter().all(|wilds| {
            *compared += wilds.len();
            wilds.iter().any(|wild| tail.ends_with(wild.tail.as_str()))
        })
    })
}

/// What may follow a demand's prefix.
struct Rests {
    /// Names, where no wildcard is left.
    names: BTreeSet<String>,
    wild: BTreeSet<Wild>,
}

impl Rests {
    fn of(demand: &Demand<'_>) -> Self {
        let (mut names, mut wild) = (BTreeSet::new(), BTreeSet::new());
        for rest in demand.patterns.iter().flat_map(|pattern| pattern.rests_after(&demand.prefix)) {
            match Wild::of(&rest) {
                Some(found) => wild.insert(found),
                None => names.insert(rest),
            };
        }
        Self { names, wild }
    }

    fn has(&self, name: &str, compared: &mut usize) -> bool {
        *compared += 1 + self.wild.len();
        self.names.contains(name) || self.wild.iter().any(|wild| wild.matches(name))
    }
}

/// A pattern with at least one wildcard.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Wild {
    /// What stands before the first wildcard.
    head: String,
    /// What stands between two wildcards, in order.
    middles: Vec<String>,
    /// What stands after the last wildcard.
    tail: String,
}

impl Wild {
    /// None if the text has no wildcard.
    fn of(text: &str) -> Option<Self> {
        let (head, rest) = text.split_once('*')?;
        let (middles, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middles = middles.split('*').filter(|middle| !middle.is_empty()).map(str::to_owned).collect();
        Some(Self { head: head.to_owned(), middles, tail: tail.to_owned() })
    }

    /// Whether the name has the head, then all middles in order, then the tail, none over another.
    fn matches(&self, name: &str) -> bool {
        let headless = name.strip_prefix(self.head.as_str());
        let Some(mut rest) = headless.and_then(|rest| rest.strip_suffix(self.tail.as_str())) else {
            return false;
        };
        // The first place for each middle leaves the most room for those after it.
        self.middles.iter().all(|middle| match rest.split_once(middle.as_str()) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    }
}
