//! One section's table, read key by key.
//!
//! Owns: which keys were asked for (so that unknown ones are refused), which could not be read, and the wording of type
//! faults.
//! Does not own: what a key means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use toml::de::{DeTable, DeValue};

use crate::fault::{Sink, Span, did_you_mean, nearest};

/// What a section says, and where, so that later rules can name its lines.
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    head: Span,
    keys: BTreeMap<&'static str, Span>,
    unread: BTreeSet<&'static str>,
}

impl<T> Placed<T> {
    /// Whether the value holds under this key what the file says, or its default. If not, the key's fault was reported,
    /// the value holds a stand-in, and no rule may conclude anything from that.
    pub(crate) fn says(&self, key: &str) -> bool {
        !self.unread.contains(key)
    }

    /// Whether the key stands in the file.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Where the section begins.
    pub(crate) fn head(&self) -> &Span {
        &self.head
    }

    /// Where a key stands; the section's head where it does not.
    pub(crate) fn at(&self, key: &str) -> &Span {
        self.keys.get(key).unwrap_or(&self.head)
    }
}

/// One setting of a topic, as the file writes it.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) span: Span,
}

pub(super) struct Section<'a> {
    title: String,
    table: &'a DeTable<'a>,
    span: Span,
    known: Vec<&'static str>,
    unread: BTreeSet<&'static str>,
    faults: &'a mut Sink,
}

impl<'a> Section<'a> {
    pub(super) fn new(title: String, table: &'a DeTable<'a>, span: Span, faults: &'a mut Sink) -> Self {
        Self { title, table, span, known: Vec::new(), unread: BTreeSet::new(), faults }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes that what the file says under a key is not known.
    pub(super) fn unread(&mut self, key: &'static str) {
        self.unread.insert(key);
    }

    /// Reports a fault at a key, or at the section's head where the key is absent.
    pub(super) fn fault(&mut self, key: &str, reason: String, suggestion: &str) {
        let span = self.table.get(key).map_or_else(|| self.span.clone(), |value| value.span());
        self.fault_at(&span, key, reason, suggestion);
    }

    /// Reports a fault at a place within what stands under a key.
    pub(super) fn fault_at(&mut self, span: &Span, key: &str, reason: String, suggestion: &str) {
        let place = if key.is_empty() { self.title.clone() } else { format!("{}.{key}", self.title) };
        self.faults.suggest(span, format!("{place}: {reason}"), suggestion);
    }

    /// The raw value of a key, noting that the key is known.
    pub(super) fn take(&mut self, key: &'static str) -> Option<(&'a DeValue<'a>, Span)> {
        self.known.push(key);
        self.table.get(key).map(|value| (value.get_ref(), value.span()))
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let (value, _) = self.take(key)?;
        match value.as_str() {
            Some(text) if !text.is_empty() => Some(text.to_owned()),
            _ => {
                self.wrong_type(key, value, "text in quotes");
                None
            }
        }
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Option<T> {
        let text = self.text(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(key, format!("\"{text}\""), &error.to_string());
                self.unread(key);
                None
            }
        }
    }

    pub(super) fn flag(&mut self, key: &'static str) -> bool {
        let Some((value, _)) = self.take(key) else { return false };
        value.as_bool().unwrap_or_else(|| {
            self.wrong_type(key, value, "true or false");
            false
        })
    }

    pub(super) fn integer(&mut self, key: &'static str) -> Option<i64> {
        let (value, _) = self.take(key)?;
        match value.as_integer().and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok())
        {
            Some(number) => Some(number),
            None => {
                self.wrong_type(key, value, "a whole number");
                None
            }
        }
    }

    pub(super) fn list<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Option<Vec<T>> {
        self.list_by(key, |text| text.parse().map_err(|error: T::Err| error.to_string()))
    }

    /// The items of a list that could be read; rules hold for those as if the others were not there.
    pub(super) fn list_by<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let (value, _) = self.take(key)?;
        let DeValue::Array(items) = value else {
            self.wrong_type(key, value, "a list in brackets");
            return None;
        };
        let mut parsed = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => match parse(text) {
                    Ok(value) => parsed.push(value),
                    Err(error) => self.fault(key, format!("\"{text}\""), &error),
                },
                None => self.fault_type(key, item.get_ref(), "text in quotes"),
            }
        }
        Some(parsed)
    }

    /// A table of settings whose values are text, whole numbers or flags.
    pub(super) fn settings(&mut self, key: &'static str) -> Vec<Setting> {
        let Some((value, _)) = self.take(key) else { return Vec::new() };
        let DeValue::Table(table) = value else {
            self.wrong_type(key, value, "a table, as { \"retention.ms\" = \"-1\" }");
            return Vec::new();
        };
        let mut settings = Vec::new();
        for (name, value) in table {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
                DeValue::Boolean(flag) => flag.to_string(),
                other => {
                    let hint = "text, a whole number, true or false; a name with dots stands in quotes";
                    self.wrong_type(key, other, hint);
                    continue;
                }
            };
            settings.push(Setting { name: name.get_ref().to_string(), value: text, span: value.span() });
        }
        settings
    }

    /// Passes a value on, or reports that its key is missing. A key that is there but wrong was reported already.
    pub(super) fn required<T>(&mut self, key: &'static str, form: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.has(key) {
            self.fault("", format!("`{key}` is missing"), &format!("give {form}"));
            self.unread(key);
        }
        value
    }

    /// Reports a list without items.
    pub(super) fn not_empty(&mut self, key: &str, suggestion: &str) {
        if self
            .table
            .get(key)
            .and_then(|value| value.get_ref().as_array())
            .is_some_and(|items| items.is_empty())
        {
            self.fault(key, "the list is empty".to_owned(), suggestion);
        }
    }

    /// The finished section; keys that nobody asked for are faults.
    pub(super) fn finish<T>(mut self, value: T) -> Placed<T> {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let reason = format!("{}: unknown key \"{name}\"", self.title);
            self.faults.suggest(&key.span(), reason, did_you_mean(name, self.known.iter().copied()));
            // The key that was meant is not absent, and its default says nothing.
            if let Some(meant) = nearest(name, self.known.iter().copied())
                && !self.table.contains_key(meant)
            {
                self.unread.insert(meant);
            }
        }
        let place = |key: &&'static str| Some((*key, self.table.get(*key)?.span()));
        Placed {
            value,
            head: self.span,
            keys: self.known.iter().filter_map(place).collect(),
            unread: self.unread,
        }
    }

    fn wrong_type(&mut self, key: &'static str, value: &DeValue<'_>, wanted: &str) {
        self.fault_type(key, value, wanted);
        self.unread(key);
    }

    fn fault_type(&mut self, key: &str, value: &DeValue<'_>, wanted: &str) {
        self.fault(key, format!("expected {wanted}, found {}", value.type_str()), &format!("write {wanted}"));
    }
}
