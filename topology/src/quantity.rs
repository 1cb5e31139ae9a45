//! Sizes and durations as people write them: `64MiB`, `7d`.
//!
//! Owns: the units. Does not own: which keys take which unit.

/// Bytes of a text such as `1048576`, `64KiB`, `1GiB`; `-1` (no limit) passes.
pub fn parse_bytes(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 5] =
        [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];
    parse_with_units(text, &UNITS)
}

/// Milliseconds of a text such as `60000`, `500ms`, `30s`, `15m`, `12h`, `7d`; `-1` (no limit) passes.
pub fn parse_milliseconds(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    parse_with_units(text, &UNITS)
}

fn parse_with_units(text: &str, units: &[(&str, i64)]) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: i64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start();
    if unit.is_empty() {
        return Some(number);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}
