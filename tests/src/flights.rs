//! Real events: the flights table, one JSON record per row, record time = the flight's hour.
//!
//! Owns: turning rows into records, and shifting years back for more of them. Does not own: the table
//! (`tests/peers/install flights`).

use std::io::{BufRead, BufReader};

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::installed;

/// One record to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Carrier and flight number, so that one flight stays in one partition.
    pub key: String,
    /// The row as JSON.
    pub value: String,
    /// The flight's hour, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

impl Record {
    /// The line that the client scripts read.
    pub fn to_line(&self) -> String {
        json!({"key": self.key, "value": self.value, "timestamp": self.timestamp_ms}).to_string()
    }
}

/// The first `count` records; after the table's end it starts anew with years one further back.
///
/// # Errors
/// When the table is not installed or not what it was.
pub fn records(count: usize) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::with_capacity(count);
    for years_back in 0.. {
        let file = BufReader::new(std::fs::File::open(installed::flights()?)?);
        let mut lines = file.lines();
        let header = lines.next().context("the flights table is empty")??;
        let names: Vec<&str> = header.split(',').collect();
        for line in lines {
            if records.len() == count {
                return Ok(records);
            }
            records.push(record(&names, &line?, years_back)?);
        }
    }
    Ok(records)
}

fn record(names: &[&str], line: &str, years_back: i64) -> anyhow::Result<Record> {
    let mut row = Map::new();
    for (name, field) in names.iter().zip(line.split(',')) {
        let value = match field {
            "NA" => Value::Null,
            number if number.parse::<i64>().is_ok() => json!(number.parse::<i64>()?),
            text => json!(text),
        };
        row.insert((*name).to_owned(), value);
    }
    let field = |name: &str| row.get(name).with_context(|| format!("a flight without {name}: {line}"));
    let year = field("year")?.as_i64().context("a year is a number")? - years_back;
    let hour = field("time_hour")?.as_str().context("time_hour is text")?.to_owned();
    let key = format!("{}{}", field("carrier")?.as_str().unwrap_or("?"), field("flight")?);
    let shifted = format!("{:04}{}", hour[..4].parse::<i64>()? - years_back, &hour[4..]);
    let timestamp_ms = milliseconds(&shifted).with_context(|| format!("no time: {shifted}"))?;
    row.insert("year".to_owned(), json!(year));
    row.insert("time_hour".to_owned(), json!(shifted));
    Ok(Record { key, value: Value::Object(row).to_string(), timestamp_ms })
}

/// `2013-01-01T10:00:00Z` as milliseconds since 1970.
fn milliseconds(time: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<i64>().ok();
    let (year, month, day, hour) = (number(0..4)?, number(5..7)?, number(8..10)?, number(11..13)?);
    // Days before a date of the Gregorian calendar, with years that begin in March so that leap days come last.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = shifted_year * 365 + shifted_year.div_euclid(4) - shifted_year.div_euclid(100)
        + shifted_year.div_euclid(400)
        + day_of_year
        - 719_468;
    Some((days * 24 + hour) * 3_600_000)
}
