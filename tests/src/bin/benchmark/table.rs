//! The table at the end: one row for each thing measured on each side, and the ratios that count.
//!
//! Owns: medians and layout. Does not own: the figures.

use std::fmt;

/// One measured side of one piece of work.
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) side: String,
    pub(crate) figures: Vec<(&'static str, f64)>,
}

/// A ratio between two rows, with the mark that it should meet.
pub(crate) struct Ratio {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) mark: Mark,
}

#[derive(Clone, Copy)]
pub(crate) enum Mark {
    AtMost(f64),
    AtLeast(f64),
}

impl Ratio {
    fn holds(&self) -> bool {
        match self.mark {
            Mark::AtMost(limit) => self.value <= limit,
            Mark::AtLeast(limit) => self.value >= limit,
        }
    }
}

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    ratios: Vec<Ratio>,
}

impl Table {
    pub(crate) fn row(&mut self, row: Row) {
        eprintln!("  {row}");
        self.rows.push(row);
    }

    pub(crate) fn ratio(&mut self, what: impl Into<String>, value: f64, mark: Mark) {
        self.ratios.push(Ratio { what: what.into(), value, mark });
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<34} {:<28}", self.work, self.side)?;
        for (unit, value) in &self.figures {
            write!(f, " {value:>9.2} {unit}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nMedians; compare only within this run.")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        writeln!(f)?;
        for ratio in &self.ratios {
            let (word, limit) = match ratio.mark {
                Mark::AtMost(limit) => ("at most", limit),
                Mark::AtLeast(limit) => ("at least", limit),
            };
            let verdict = if ratio.holds() { "holds" } else { "MISSED" };
            writeln!(f, "{:<64} {:>6.2}x  mark: {word} {limit}x  {verdict}", ratio.what, ratio.value)?;
        }
        Ok(())
    }
}

/// The middle value; of an even number the lower of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median needs a run");
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}
