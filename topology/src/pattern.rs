//! Names of topics and groups with `*` for any run of characters.
//!
//! Owns: matching, and whether several patterns can be met by one name (which is how a loop is seen before it runs).
//! Does not own: which names exist.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;

/// A name in which `*` stands for any run of characters, the empty one too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(String);

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// The pattern is empty.
    Empty,
    /// A character that the name of a topic can't have.
    Character(char),
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the pattern is empty"),
            Self::Character(c) => {
                write!(f, "'{c}' is neither a letter, a digit, '.', '_', '-' nor the wildcard '*'")
            }
        }
    }
}

impl std::error::Error for PatternError {}

/// Topic names that start so belong to a cluster's own machinery; only a pattern that spells one out matches it.
const INTERNAL_PREFIX: &str = "__";

impl Pattern {
    /// A pattern for topic names, whose characters Kafka limits to letters, digits, `.`, `_` and `-`.
    pub fn for_topics(text: &str) -> Result<Self, PatternError> {
        match text.chars().find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*'))) {
            Some(c) => Err(PatternError::Character(c)),
            None => text.parse(),
        }
    }

    /// Whether the name is meant. Internal topics (`__consumer_offsets`) are met only by their full name.
    pub fn matches(&self, name: &str) -> bool {
        if self.0 == name {
            return true;
        }
        if name.starts_with(INTERNAL_PREFIX) && !self.0.starts_with(INTERNAL_PREFIX) {
            return false;
        }
        let tokens = self.tokens();
        let mut states = closure(&tokens, BTreeSet::from([0]));
        for c in name.chars() {
            states = step(&tokens, &states, c);
        }
        states.contains(&tokens.len())
    }

    /// Whether the pattern has no wildcard, so that it is one name.
    pub fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn tokens(&self) -> Vec<char> {
        self.0.chars().collect()
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() { Err(PatternError::Empty) } else { Ok(Self(text.to_owned())) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A demand on a name: with `prefix` put before it, it has to match `pattern`.
pub(crate) struct Demand<'a> {
    pub(crate) prefix: String,
    pub(crate) pattern: &'a Pattern,
}

/// Whether one non-internal name meets every demand.
///
/// The patterns run side by side as automata. Their alphabet is their own characters and one that none of them names.
pub(crate) fn can_all_match(demands: &[Demand<'_>]) -> bool {
    let tokens: Vec<Vec<char>> = demands.iter().map(|demand| demand.pattern.tokens()).collect();
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

/// The positions reachable without consuming a character: a wildcard may stand for nothing.
fn closure(tokens: &[char], mut states: BTreeSet<usize>) -> BTreeSet<usize> {
    let mut open: Vec<usize> = states.iter().copied().collect();
    while let Some(position) = open.pop() {
        if tokens.get(position) == Some(&'*') && states.insert(position + 1) {
            open.push(position + 1);
        }
    }
    states
}

fn step(tokens: &[char], states: &BTreeSet<usize>, c: char) -> BTreeSet<usize> {
    let moved = states.iter().filter_map(|&position| match tokens.get(position) {
        Some('*') => Some(position),
        Some(&token) if token == c => Some(position + 1),
        _ => None,
    });
    closure(tokens, moved.collect())
}
