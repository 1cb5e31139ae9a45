//! The events that the other tests write: rows of the flights table as records, and as many as are asked for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use tests::flights::records;

const ROWS: usize = 336_776;

#[test]
fn a_row_becomes_a_record_at_the_flights_hour() {
    let first = &records(1).unwrap()[0];
    assert_eq!(first.key, "UA1545");
    assert_eq!(first.timestamp_ms, 1_357_034_400_000, "2013-01-01T10:00:00Z");
    let row: Value = serde_json::from_str(&first.value).unwrap();
    assert_eq!(
        (&row["dep_delay"], &row["origin"], &row["air_time"]),
        (&json!(2), &json!("EWR"), &json!(227))
    );
}

#[test]
fn after_its_end_the_table_begins_anew_a_year_earlier() {
    let all = records(ROWS + 1).unwrap();
    let (first, again) = (&all[0], &all[ROWS]);
    assert_eq!((all.len(), &first.key), (ROWS + 1, &again.key));
    assert_eq!(again.timestamp_ms, 1_325_412_000_000, "2012-01-01T10:00:00Z");
    let row: Value = serde_json::from_str(&again.value).unwrap();
    assert_eq!((&row["year"], &row["time_hour"]), (&json!(2012), &json!("2012-01-01T10:00:00Z")));
}
