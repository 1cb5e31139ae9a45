//! The table, what is refused and by which words, and what a change may do to tiering.

use super::*;

fn overrides(pairs: &[(&str, &str)]) -> Overrides {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_table_is_sorted_and_every_default_is_valid() {
    assert!(SETTINGS.windows(2).all(|pair| pair[0].name < pair[1].name));
    for setting in SETTINGS {
        setting.check(setting.default).unwrap();
    }
    let config = TopicConfig::resolve(&Overrides::new()).unwrap();
    assert_eq!(config.retention_ms, Some(604_800_000));
    assert_eq!(config.local_retention_ms, Some(604_800_000));
    assert_eq!(config.retention_bytes, None);
    assert!(config.delete && !config.compact && !config.tiered);
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (name, value) in [
        ("retention.ms", "-2"),
        ("retention.ms", "soon"),
        ("segment.bytes", "1000"),
        ("max.message.bytes", "2147483648"),
        ("cleanup.policy", "shred"),
        ("compression.type", "zstd"),
        ("message.timestamp.type", "Whenever"),
        ("remote.storage.enable", "maybe"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("min.insync.replicas", "2"),
        ("min.insync.replicas", "0"),
        ("remote.log.delete.on.disable", "true"),
        ("no.such.thing", "1"),
    ] {
        let error = TopicConfig::resolve(&overrides(&[(name, value)])).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn contradictions_are_refused() {
    for pairs in [
        [("remote.storage.enable", "true"), ("cleanup.policy", "compact")],
        [("retention.ms", "1000"), ("local.retention.ms", "2000")],
        [("retention.ms", "1000"), ("local.retention.ms", "-1")],
        [("retention.bytes", "1000"), ("local.retention.bytes", "1001")],
    ] {
        assert!(TopicConfig::resolve(&overrides(&pairs)).is_err(), "{pairs:?}");
    }
    let whole = overrides(&[
        ("retention.ms", "-1"),
        ("local.retention.bytes", "1048576"),
        ("cleanup.policy", "compact,delete"),
    ]);
    let config = TopicConfig::resolve(&whole).unwrap();
    assert_eq!((config.retention_ms, config.local_retention_bytes), (None, Some(1_048_576)));
    assert!(config.compact && config.delete);
}

#[test]
fn one_replica_is_what_there_is() {
    assert!(TopicConfig::resolve(&overrides(&[("min.insync.replicas", "1")])).is_ok());
    let refused = TopicConfig::resolve(&overrides(&[("min.insync.replicas", "2")])).unwrap_err();
    assert!(refused.to_string().contains("one broker so far"), "{refused}");
}

#[test]
fn a_stored_setting_that_is_not_understood_leaves_the_others_in_force() {
    let stored = overrides(&[
        ("min.insync.replicas", "2"),
        ("remote.log.delete.on.disable", "true"),
        ("remote.storage.enable", "true"),
        ("retention.ms", "-1"),
    ]);
    let (config, refused) = TopicConfig::in_force(&stored);
    assert_eq!((config.retention_ms, config.tiered, config.delete), (None, true, true));
    assert_eq!(refused.len(), 2, "{refused:?}");
    for (name, value) in [("retention.ms", "a week"), ("cleanup.policy", "delete,archive")] {
        let (config, refused) = TopicConfig::in_force(&overrides(&[(name, value)]));
        assert!(!config.delete && refused.len() == 1, "{name}={value} is not understood: nothing goes");
    }
    assert!(TopicConfig::in_force(&Overrides::new()).1.is_empty());
}

#[test]
fn tiering_needs_a_store_and_stays() {
    let plain = TopicConfig::resolve(&Overrides::new()).unwrap();
    let tiered = TopicConfig::resolve(&overrides(&[("remote.storage.enable", "true")])).unwrap();
    for (config, before, has_store, expected) in [
        (tiered, None, true, Ok(())),
        (tiered, None, false, Err(InvalidConfig::NoStore)),
        (tiered, Some(plain), false, Err(InvalidConfig::NoStore)),
        (tiered, Some(tiered), false, Ok(())),
        (plain, Some(tiered), true, Err(InvalidConfig::TieringStays)),
        (plain, Some(tiered), false, Err(InvalidConfig::TieringStays)),
        (plain, Some(plain), false, Ok(())),
    ] {
        assert_eq!(config.check_tiering(before.as_ref(), has_store), expected);
    }
    assert!(InvalidConfig::TieringStays.to_string().contains("remote.log.copy.disable=true"));
}
