//! What is wrong with a topology file, said so that it can be mended without a manual.
//!
//! Owns: the fault, its line, and the nearest-name suggestion.
//! Does not own: the rules; those stand in `read`, `check` and `loops`.

use std::fmt;
use std::ops::Range;

/// One fault of a topology file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Line in the file, from 1.
    pub line: usize,
    /// What is wrong, naming the section and the key.
    pub reason: String,
    /// What to write instead, where one is known.
    pub suggestion: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " ({suggestion})"),
            None => Ok(()),
        }
    }
}

/// All faults of a file, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The faults, in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Where in the file a value stands, as a byte range.
pub(crate) type Span = Range<usize>;

/// Collects faults while a file is read and checked.
pub(crate) struct Sink {
    line_starts: Vec<usize>,
    faults: Vec<Fault>,
}

impl Sink {
    pub(crate) fn new(text: &str) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(position, _)| position + 1)).collect();
        Self { line_starts, faults: Vec::new() }
    }

    pub(crate) fn report(&mut self, span: &Span, reason: impl Into<String>) {
        self.push(span, reason.into(), None);
    }

    pub(crate) fn suggest(&mut self, span: &Span, reason: impl Into<String>, suggestion: impl Into<String>) {
        self.push(span, reason.into(), Some(suggestion.into()));
    }

    fn push(&mut self, span: &Span, reason: String, suggestion: Option<String>) {
        let line = self.line_starts.partition_point(|&start| start <= span.start);
        self.faults.push(Fault { line, reason, suggestion });
    }

    pub(crate) fn finish<T>(mut self, value: T) -> Result<T, Faults> {
        if self.faults.is_empty() {
            return Ok(value);
        }
        self.faults.sort();
        self.faults.dedup();
        Err(Faults(self.faults))
    }
}

/// The known name that is nearest to a mistyped one, if one is near enough to be meant.
pub(crate) fn nearest<'a>(mistyped: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = 1 + mistyped.chars().count() / 4;
    known
        .into_iter()
        .map(|name| (edit_distance(mistyped, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// `did you mean "x"?`, or the list of what is known.
pub(crate) fn did_you_mean<'a>(mistyped: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(mistyped, known.clone()) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => {
            let all: Vec<&str> = known.into_iter().collect();
            if all.is_empty() { "none is declared".to_owned() } else { format!("known: {}", all.join(", ")) }
        }
    }
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
