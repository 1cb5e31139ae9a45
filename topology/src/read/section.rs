//! One section's table, read key by key.
//!
//! Owns: which keys were asked for (so that unknown ones are refused), and the wording of type faults.
//! Does not own: what a key means.

use std::fmt::Display;
use std::str::FromStr;

use toml::de::{DeTable, DeValue};

use crate::fault::{Sink, Span, did_you_mean};

pub(super) struct Section<'a> {
    title: String,
    table: &'a DeTable<'a>,
    span: Span,
    known: Vec<&'static str>,
    faults: &'a mut Sink,
    faulty: bool,
}

impl<'a> Section<'a> {
    pub(super) fn new(title: String, table: &'a DeTable<'a>, span: Span, faults: &'a mut Sink) -> Self {
        Self { title, table, span, known: Vec::new(), faults, faulty: false }
    }

    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports a fault at a key, or at the section's head where the key is absent.
    pub(super) fn fault(&mut self, key: &str, reason: String, suggestion: &str) {
        self.faulty = true;
        let span = self.table.get(key).map_or_else(|| self.span.clone(), |value| value.span());
        let place = if key.is_empty() { self.title.clone() } else { format!("{}.{key}", self.title) };
        self.faults.suggest(&span, format!("{place}: {reason}"), suggestion);
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
                None => self.wrong_type(key, item.get_ref(), "text in quotes"),
            }
        }
        Some(parsed)
    }

    /// A table of settings whose values are text, whole numbers or flags.
    pub(super) fn settings(&mut self, key: &'static str) -> Vec<(String, String)> {
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
            settings.push((name.get_ref().to_string(), text));
        }
        settings
    }

    /// Passes a value on, or reports that its key is missing. A key that is there but wrong was reported already.
    pub(super) fn required<T>(&mut self, key: &'static str, form: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.has(key) {
            self.fault("", format!("`{key}` is missing"), &format!("give {form}"));
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

    /// The finished section, unless it has faults; keys that nobody asked for are faults.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Option<T> {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if !self.known.contains(&name) {
                self.faulty = true;
                let reason = format!("{}: unknown key \"{name}\"", self.title);
                self.faults.suggest(&key.span(), reason, did_you_mean(name, self.known.iter().copied()));
            }
        }
        value.filter(|_| !self.faulty)
    }

    fn wrong_type(&mut self, key: &str, value: &DeValue<'_>, wanted: &str) {
        self.fault(key, format!("expected {wanted}, found {}", value.type_str()), &format!("write {wanted}"));
    }
}
