//! The demo's real data: the flights of January 2013, packed into the binary.
//!
//! Owns: unpacking and turning rows into records. Does not own: the data's provenance (`demo-data/README.md`).

use bytes::Bytes;
use serde_json::{Map, Value, json};

static TABLE: &[u8] = include_bytes!("../../demo-data/flights-2013-01.csv.zst");

/// A flight as a record: carrier and number, the row as JSON, the flight's hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) timestamp_ms: i64,
}

/// All flights of the table, years shifted back by `years_back`.
pub(super) fn all(years_back: i64) -> Vec<Flight> {
    let table = zstd::stream::decode_all(TABLE).expect("the table was packed by demo-data/make");
    let table = String::from_utf8(table).expect("the table is text");
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().expect("the table has a header").split(',').collect();
    lines.map(|line| flight(&names, line, years_back)).collect()
}

fn flight(names: &[&str], line: &str, years_back: i64) -> Flight {
    let field = |wanted: &str| {
        let mut pairs = names.iter().zip(line.split(','));
        pairs.find(|(name, _)| **name == wanted).map_or("", |(_, field)| field)
    };
    let row: Map<String, Value> = names
        .iter()
        .zip(line.split(','))
        .map(|(name, field)| {
            let value = match (field, field.parse::<i64>()) {
                ("NA", _) => Value::Null,
                (_, Ok(number)) => json!(number),
                (text, _) => json!(text),
            };
            ((*name).to_owned(), value)
        })
        .collect();
    // `2013-01-31T23:00:00Z`; the last evening of January in New York is February in UTC.
    let time = field("time_hour");
    let number = |range| time.get(range).and_then(|digits: &str| digits.parse::<i64>().ok()).unwrap_or(1);
    let (year, month, day, hour) = (number(0..4), number(5..7), number(8..10), number(11..13));
    let days = days_before_january(year - years_back) + (month - 1) * 31 + day - 1;
    Flight {
        key: Bytes::from(format!("{}{}", field("carrier"), field("flight"))),
        value: Bytes::from(Value::Object(row).to_string()),
        timestamp_ms: (days * 24 + hour) * 3_600_000,
    }
}

/// Days from 1970 to the first of January of a year of the Gregorian calendar.
fn days_before_january(year: i64) -> i64 {
    let last = year - 1;
    365 * (year - 1970) + (last / 4 - last / 100 + last / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let flights = all(0);
        assert_eq!(flights.len(), 27_004);
        assert_eq!(flights[0].key, "UA1545");
        assert_eq!(flights[0].timestamp_ms, 1_357_034_400_000);
        assert!(flights.iter().all(|flight| {
            (1_356_998_400_000..1_359_676_800_000 + 6 * 3_600_000).contains(&flight.timestamp_ms)
        }));
        assert_eq!(all(1)[0].timestamp_ms, 1_357_034_400_000 - 366 * 86_400_000);
    }
}
