//! Names of topics and groups with `*` for any run of characters.
//!
//! Owns: matching, also of a name whose beginning is known. Does not own: which names exist, whether several patterns can be
//! met by one name (`meeting`).

use std::collections::BTreeSet;
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

    /// What may follow `prefix` in a name that matches: any of these, as patterns; the empty one stands for nothing. They are no
    /// whole names, so that what holds for internal topics is left out.
    pub(crate) fn rests_after(&self, prefix: &str) -> Vec<String> {
        let tokens = self.tokens();
        let begin = closure(&tokens, BTreeSet::from([0]));
        let states = prefix.chars().fold(begin, |states, c| step(&tokens, &states, c));
        // Behind a wildcard stands what the wildcard itself allows too, and it is always there with it.
        let own = states.into_iter().filter(|&position| position == 0 || tokens[position - 1] != '*');
        own.map(|position| tokens[position..].iter().collect()).collect()
    }

    /// The pattern's characters; its matching is at one or several positions among them.
    pub(crate) fn tokens(&self) -> Vec<char> {
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

/// The positions reachable without consuming a character: a wildcard may stand for nothing.
pub(crate) fn closure(tokens: &[char], mut states: BTreeSet<usize>) -> BTreeSet<usize> {
    let mut open: Vec<usize> = states.iter().copied().collect();
    while let Some(position) = open.pop() {
        if tokens.get(position) == Some(&'*') && states.insert(position + 1) {
            open.push(position + 1);
        }
    }
    states
}

/// The positions after one more character of a name; none if the pattern does not match it there.
pub(crate) fn step(tokens: &[char], states: &BTreeSet<usize>, c: char) -> BTreeSet<usize> {
    let moved = states.iter().filter_map(|&position| match tokens.get(position) {
        Some('*') => Some(position),
        Some(&token) if token == c => Some(position + 1),
        _ => None,
    });
    closure(tokens, moved.collect())
}
