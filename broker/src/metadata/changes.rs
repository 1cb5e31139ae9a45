//! What someone wishes of the metadata becomes records, or the reason why not. Pure: ids and times are given.
//!
//! Owns: the rules for names, partitions and replicas, those of `__consumer_offsets` among them, and what an operation does to
//! a setting.
//! Does not own: which values a setting takes (`topic_config`), applying a record (`image`), committing it (`log`;
//! `broker` keeps the order).

use wire::ids::TopicId;

use super::image::MetadataImage;
use super::records::MetadataRecord;
use crate::groups::{OFFSETS_PARTITIONS, OFFSETS_TOPIC};
use crate::limits::{MAX_CONFIG_BYTES, MAX_PARTITIONS, MAX_PARTITIONS_PER_TOPIC};
use crate::topic_config::{InvalidConfig, Overrides, TopicConfig, list, setting, value_of};

/// The longest topic name, as Kafka.
const MAX_NAME_BYTES: usize = 249;

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeRefused {
    /// The name breaks Kafka's rules.
    #[error("topic name {name:?} is illegal: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// Which rule.
        reason: String,
    },
    /// There is such a topic.
    #[error("topic '{0}' already exists")]
    TopicExists(String),
    /// There is no such topic.
    #[error("there is no such topic")]
    UnknownTopic,
    /// There is no topic of this id.
    #[error("there is no topic with this id")]
    UnknownTopicId,
    /// The number of partitions is wrong.
    #[error("{0}")]
    InvalidPartitions(String),
    /// One broker holds one replica.
    #[error("replication factor {0} is not possible: the cluster has 1 broker")]
    InvalidReplicationFactor(i16),
    /// Replicas were assigned by hand, to brokers that are not there.
    #[error("{0}")]
    InvalidAssignment(&'static str),
    /// A wish that asks for one thing in two ways.
    #[error("{0}")]
    Contradiction(&'static str),
    /// What groups have committed stands there, and the coordinator holds it in memory too.
    #[error(
        "topic '{OFFSETS_TOPIC}' holds what groups have committed and cannot be deleted: delete groups instead"
    )]
    OffsetsTopicStays,
    /// A setting is wrong.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    /// Settings take too much room.
    #[error("the topic's settings take more than {MAX_CONFIG_BYTES} bytes")]
    ConfigTooLarge,
    /// A bound of the broker is reached.
    #[error("the broker holds at most {MAX_PARTITIONS} partitions")]
    TooManyPartitions,
    /// An operation that does not fit the setting.
    #[error("{0}")]
    InvalidOperation(String),
}

/// A topic someone wishes for.
#[derive(Clone, Debug)]
pub(crate) struct NewTopic {
    /// Its name.
    pub(crate) name: String,
    /// The id it gets.
    pub(crate) topic_id: TopicId,
    /// How many partitions.
    pub(crate) partitions: i32,
    /// How many replicas.
    pub(crate) replication_factor: i16,
    /// What is set explicitly.
    pub(crate) configs: Overrides,
    /// Now.
    pub(crate) created_ms: i64,
}

/// Checks a name by Kafka's rules.
///
/// # Errors
/// Names the rule.
pub(crate) fn check_name(name: &str) -> Result<(), ChangeRefused> {
    let illegal = |reason: &str| {
        Err(ChangeRefused::InvalidName {
            name: name.chars().take(MAX_NAME_BYTES).collect(),
            reason: reason.to_owned(),
        })
    };
    match name {
        "" => illegal("it must not be empty"),
        "." | ".." => illegal("it must not be '.' or '..'"),
        name if name.len() > MAX_NAME_BYTES => illegal("it must not be longer than 249 characters"),
        name if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => {
            illegal("only ASCII letters, digits, '.', '_' and '-' are allowed")
        }
        "__cluster_metadata" => illegal("the metadata log has this name"),
        _ => Ok(()),
    }
}

fn check_config_size(configs: &Overrides) -> Result<(), ChangeRefused> {
    let bytes: usize = configs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_CONFIG_BYTES { Err(ChangeRefused::ConfigTooLarge) } else { Ok(()) }
}

/// Where a group's records stand is a hash of its name modulo this number: with another, groups would not be found.
fn check_offsets_topic(name: &str, partitions: i32) -> Result<(), ChangeRefused> {
    if name == OFFSETS_TOPIC && partitions != OFFSETS_PARTITIONS {
        let reason = format!(
            "topic '{OFFSETS_TOPIC}' has {OFFSETS_PARTITIONS} partitions, never {partitions}: ask for that number, or leave it \
             to the broker, which makes the topic for the first group"
        );
        return Err(ChangeRefused::InvalidPartitions(reason));
    }
    Ok(())
}

fn check_partitions(image: &MetadataImage, partitions: i32, more: i32) -> Result<(), ChangeRefused> {
    if !(1..=MAX_PARTITIONS_PER_TOPIC).contains(&partitions) {
        let reason = format!("the number of partitions must be between 1 and {MAX_PARTITIONS_PER_TOPIC}");
        return Err(ChangeRefused::InvalidPartitions(reason));
    }
    if image.partition_count() + usize::try_from(more).unwrap_or(0) > MAX_PARTITIONS {
        return Err(ChangeRefused::TooManyPartitions);
    }
    Ok(())
}

/// A topic is to be made.
///
/// # Errors
/// When the name, the partitions, the replicas or the settings do not allow it.
pub(crate) fn create_topic(image: &MetadataImage, topic: NewTopic) -> Result<MetadataRecord, ChangeRefused> {
    check_name(&topic.name)?;
    if image.topic(&topic.name).is_some() {
        return Err(ChangeRefused::TopicExists(topic.name));
    }
    // Metric names turn '.' into '_', so two such names would be told apart nowhere.
    let folded = |name: &str| name.replace('.', "_");
    if let Some(other) = image.topics().find(|other| folded(&other.name) == folded(&topic.name)) {
        let reason = format!("it differs from '{}' only in '.' and '_'", other.name);
        return Err(ChangeRefused::InvalidName { name: topic.name, reason });
    }
    check_offsets_topic(&topic.name, topic.partitions)?;
    check_partitions(image, topic.partitions, topic.partitions)?;
    if topic.replication_factor != 1 {
        return Err(ChangeRefused::InvalidReplicationFactor(topic.replication_factor));
    }
    check_config_size(&topic.configs)?;
    TopicConfig::resolve(&topic.configs)?.check_tiering(None, image.has_store)?;
    Ok(MetadataRecord::TopicCreated {
        topic_id: topic.topic_id,
        name: topic.name,
        partitions: topic.partitions,
        configs: topic.configs,
        created_ms: topic.created_ms,
    })
}

/// A topic is to have more partitions.
///
/// # Errors
/// When there is no such topic, or it would not grow.
pub(crate) fn add_partitions(
    image: &MetadataImage,
    name: &str,
    partitions: i32,
) -> Result<MetadataRecord, ChangeRefused> {
    let topic = image.topic(name).ok_or(ChangeRefused::UnknownTopic)?;
    if partitions <= topic.partitions {
        let reason =
            format!("the topic has {} partitions already, and {partitions} is not more", topic.partitions);
        return Err(ChangeRefused::InvalidPartitions(reason));
    }
    check_offsets_topic(name, partitions)?;
    check_partitions(image, partitions, partitions - topic.partitions)?;
    Ok(MetadataRecord::PartitionsAdded { topic_id: topic.topic_id, partitions })
}

/// A topic is to be deleted.
///
/// # Errors
/// When there is no such topic, or it is the broker's own.
pub(crate) fn delete_topic(
    image: &MetadataImage,
    topic_id: TopicId,
    now_ms: i64,
) -> Result<MetadataRecord, ChangeRefused> {
    let topic = image.topic_by_id(topic_id).ok_or(ChangeRefused::UnknownTopicId)?;
    if topic.name == OFFSETS_TOPIC {
        return Err(ChangeRefused::OffsetsTopicStays);
    }
    Ok(MetadataRecord::TopicDeleted { topic_id: topic.topic_id, deleted_ms: now_ms })
}

/// What IncrementalAlterConfigs does to one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigOperation {
    /// The value is replaced.
    Set,
    /// The default is back.
    Delete,
    /// Words are added to a list.
    Append,
    /// Words are taken from a list.
    Subtract,
}

impl ConfigOperation {
    /// The operation of a number in the protocol.
    pub(crate) fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }
}

/// One change of a setting.
#[derive(Clone, Debug)]
pub(crate) struct ConfigChange {
    /// The setting.
    pub(crate) name: String,
    /// What is done.
    pub(crate) operation: ConfigOperation,
    /// The value; `None` only with `Delete`.
    pub(crate) value: Option<String>,
}

/// A topic's settings are to change, all together or not at all.
///
/// # Errors
/// When there is no such topic, or the result would be invalid.
pub(crate) fn alter_configs(
    image: &MetadataImage,
    name: &str,
    changes: &[ConfigChange],
) -> Result<MetadataRecord, ChangeRefused> {
    let topic = image.topic(name).ok_or(ChangeRefused::UnknownTopic)?;
    let (before, _) = TopicConfig::in_force(&topic.configs);
    let mut configs = topic.configs.clone();
    for change in changes {
        // As Kafka: to unset what is not set changes nothing. MirrorMaker 2 unsets every name that is default at its source,
        // those too that are not known here.
        if setting(&change.name).is_none() && change.operation == ConfigOperation::Delete {
            configs.remove(&change.name);
            continue;
        }
        let known = setting(&change.name).ok_or_else(|| InvalidConfig::UnknownName(change.name.clone()))?;
        let value = change.value.as_deref();
        let required = || {
            value.ok_or_else(|| {
                ChangeRefused::InvalidOperation(format!("a value for {} is required", known.name))
            })
        };
        let is_list = matches!(known.kind, crate::topic_config::Kind::List(_));
        if matches!(change.operation, ConfigOperation::Append | ConfigOperation::Subtract) && !is_list {
            let reason =
                format!("{} is not a list: it can be set, not appended to or subtracted from", known.name);
            return Err(ChangeRefused::InvalidOperation(reason));
        }
        match change.operation {
            ConfigOperation::Set => {
                configs.insert(known.name.to_owned(), required()?.to_owned());
            }
            // With a store, tiering is the default. Who copies another cluster's settings unsets what is default there.
            ConfigOperation::Delete if known.name == "remote.storage.enable" && before.tiered => {}
            ConfigOperation::Delete => {
                configs.remove(known.name);
            }
            ConfigOperation::Append => {
                let mut words: Vec<&str> = list(value_of(&configs, known.name)).collect();
                for word in list(required()?) {
                    if !words.contains(&word) {
                        words.push(word);
                    }
                }
                let joined = words.join(",");
                configs.insert(known.name.to_owned(), joined);
            }
            ConfigOperation::Subtract => {
                let gone: Vec<&str> = list(required()?).collect();
                let left: Vec<&str> =
                    list(value_of(&configs, known.name)).filter(|word| !gone.contains(word)).collect();
                let joined = left.join(",");
                configs.insert(known.name.to_owned(), joined);
            }
        }
    }
    check_config_size(&configs)?;
    TopicConfig::resolve(&configs)?.check_tiering(Some(&before), image.has_store)?;
    Ok(MetadataRecord::TopicConfigs { topic_id: topic.topic_id, configs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            topic_id: TopicId([7; 16]),
            partitions: 3,
            replication_factor: 1,
            configs: Overrides::new(),
            created_ms: 5,
        }
    }

    fn image_with(name: &str) -> MetadataImage {
        let mut image = MetadataImage::default();
        let record = create_topic(&image, wish(name)).unwrap();
        image.apply(&record);
        image
    }

    #[test]
    fn names_follow_kafkas_rules() {
        let long = "a".repeat(250);
        for name in ["", ".", "..", "a/b", "a b", "nul\0", "ü", long.as_str(), "__cluster_metadata"] {
            assert!(create_topic(&MetadataImage::default(), wish(name)).is_err(), "{name:?}");
        }
        assert!(create_topic(&MetadataImage::default(), wish(&"a".repeat(249))).is_ok());
        assert_eq!(
            create_topic(&image_with("A.b"), wish("A.b")),
            Err(ChangeRefused::TopicExists("A.b".to_owned()))
        );
        assert!(matches!(
            create_topic(&image_with("A.b"), wish("A_b")),
            Err(ChangeRefused::InvalidName { .. })
        ));
    }

    #[test]
    fn numbers_have_bounds() {
        let image = MetadataImage::default();
        for partitions in [0, -1, 10_001, i32::MAX] {
            assert!(create_topic(&image, NewTopic { partitions, ..wish("t") }).is_err(), "{partitions}");
        }
        for replication_factor in [0, 2, -1, 32_767] {
            let refused = create_topic(&image, NewTopic { replication_factor, ..wish("t") });
            assert_eq!(refused, Err(ChangeRefused::InvalidReplicationFactor(replication_factor)));
        }
        let image = image_with("t");
        assert!(add_partitions(&image, "t", 3).is_err() && add_partitions(&image, "t", 2).is_err());
        assert!(add_partitions(&image, "t", 4).is_ok());
        assert_eq!(add_partitions(&image, "other", 4), Err(ChangeRefused::UnknownTopic));
        let configs: Overrides =
            [("leader.replication.throttled.replicas".to_owned(), "x".repeat(1 << 20))].into();
        assert_eq!(
            create_topic(&MetadataImage::default(), NewTopic { configs, ..wish("t") }),
            Err(ChangeRefused::ConfigTooLarge)
        );
    }

    #[test]
    fn the_topic_of_group_offsets_has_its_number_of_partitions_and_stays() {
        let image = MetadataImage::default();
        let with = |partitions| NewTopic { partitions, ..wish(OFFSETS_TOPIC) };
        for partitions in [1, 49, 51, 60] {
            let refused = create_topic(&image, with(partitions)).unwrap_err();
            assert!(matches!(refused, ChangeRefused::InvalidPartitions(_)), "{partitions}: {refused}");
            assert!(refused.to_string().contains("50"), "it does not say what would do: {refused}");
        }
        let made = |partitions| {
            let MetadataRecord::TopicCreated { topic_id, name, configs, created_ms, .. } =
                create_topic(&image, with(50)).unwrap()
            else {
                panic!("a topic that is made is recorded as such")
            };
            let mut image = MetadataImage::default();
            image.apply(&MetadataRecord::TopicCreated { topic_id, name, partitions, configs, created_ms });
            image
        };
        assert!(matches!(
            add_partitions(&made(50), OFFSETS_TOPIC, 60),
            Err(ChangeRefused::InvalidPartitions(_))
        ));
        // One that was made too small before this rule gets what it lacks, and nothing else.
        assert!(add_partitions(&made(1), OFFSETS_TOPIC, 20).is_err());
        assert!(add_partitions(&made(1), OFFSETS_TOPIC, 50).is_ok());
        assert_eq!(delete_topic(&made(50), TopicId([7; 16]), 9), Err(ChangeRefused::OffsetsTopicStays));
    }

    #[test]
    fn a_deleted_id_stays_known_and_its_name_is_free() {
        let mut image = image_with("t");
        let record = delete_topic(&image, TopicId([7; 16]), 9).unwrap();
        image.apply(&record);
        assert_eq!(image.topics().count(), 0);
        assert_eq!(image.deleted().map(|(id, _)| id).collect::<Vec<_>>(), [TopicId([7; 16])]);
        assert_eq!(delete_topic(&image, TopicId([7; 16]), 9), Err(ChangeRefused::UnknownTopicId));
        assert!(create_topic(&image, NewTopic { topic_id: TopicId([8; 16]), ..wish("t") }).is_ok());
        image.forget_deleted();
        assert_eq!(image.deleted().count(), 0);
        assert_eq!(delete_topic(&image, TopicId([7; 16]), 9), Err(ChangeRefused::UnknownTopicId));
    }

    fn with_configs(pairs: &[(&str, &str)]) -> NewTopic {
        let configs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        NewTopic { configs: configs.collect(), ..wish("t") }
    }

    fn set(image: &MetadataImage, name: &str, value: Option<&str>) -> Result<MetadataRecord, String> {
        let operation = if value.is_some() { ConfigOperation::Set } else { ConfigOperation::Delete };
        let change = ConfigChange { name: name.to_owned(), operation, value: value.map(str::to_owned) };
        alter_configs(image, "t", &[change]).map_err(|refused| refused.to_string())
    }

    /// A broker with a store.
    fn image_of_tiered(topic: NewTopic) -> MetadataImage {
        let mut image = MetadataImage::default();
        image.has_store = true;
        let record = create_topic(&image, topic).unwrap();
        image.apply(&record);
        image
    }

    #[test]
    fn nothing_is_tiered_without_a_store() {
        let tiered = with_configs(&[("remote.storage.enable", "true")]);
        let mut image = image_with("t");
        let other = NewTopic { name: "u".to_owned(), ..tiered.clone() };
        let refused = create_topic(&image, other.clone()).unwrap_err();
        assert_eq!(refused, ChangeRefused::InvalidConfig(InvalidConfig::NoStore));
        assert!(set(&image, "remote.storage.enable", Some("true")).unwrap_err().contains("--store"));
        image.has_store = true;
        assert!(create_topic(&image, other).is_ok());
        assert!(set(&image, "remote.storage.enable", Some("true")).is_ok());
        // Made while there was one: the rest can still be altered.
        let mut image = image_of_tiered(tiered);
        image.has_store = false;
        assert!(set(&image, "retention.ms", Some("1000")).is_ok());
    }

    #[test]
    fn tiering_is_not_turned_off_and_the_refusal_says_what_to_do() {
        let image = image_of_tiered(with_configs(&[("remote.storage.enable", "true")]));
        let refused = set(&image, "remote.storage.enable", Some("false")).unwrap_err();
        assert!(refused.contains("remote.log.copy.disable=true"), "{refused}");
        let MetadataRecord::TopicConfigs { configs, .. } =
            set(&image, "remote.storage.enable", None).unwrap()
        else {
            panic!("a change of settings")
        };
        assert_eq!(configs["remote.storage.enable"], "true", "the default of a tiered topic is to stay so");
        let refused = set(&image, "cleanup.policy", Some("compact")).unwrap_err();
        assert!(refused.contains("make another one with cleanup.policy=compact"), "{refused}");
        assert!(set(&image, "remote.log.copy.disable", Some("true")).is_ok());
        assert!(set(&image, "remote.log.delete.on.disable", Some("true")).is_err());
    }

    #[test]
    fn a_stored_setting_of_another_version_can_be_taken_out() {
        let mut image = image_with("t");
        let configs = [("remote.log.delete.on.disable".to_owned(), "true".to_owned())].into();
        image.apply(&MetadataRecord::TopicConfigs { topic_id: TopicId([7; 16]), configs });
        assert!(set(&image, "retention.ms", Some("1")).unwrap_err().contains("remote.log.delete.on.disable"));
        let record = set(&image, "remote.log.delete.on.disable", None).unwrap();
        image.apply(&record);
        assert!(set(&image, "retention.ms", Some("1")).is_ok());
        assert!(set(&image, "remote.log.delete.on.disable", None).is_ok(), "as a name that was never set");
    }

    fn altered(
        image: &mut MetadataImage,
        name: &str,
        operation: ConfigOperation,
        value: Option<&str>,
    ) -> Option<String> {
        let change = ConfigChange { name: name.to_owned(), operation, value: value.map(str::to_owned) };
        let record = alter_configs(image, "t", &[change]).unwrap();
        image.apply(&record);
        image.topic("t").unwrap().configs.get(name).cloned()
    }

    #[test]
    fn lists_are_appended_to_and_subtracted_from() {
        let mut image = image_with("t");
        let name = "cleanup.policy";
        assert_eq!(
            altered(&mut image, name, ConfigOperation::Append, Some("compact")).unwrap(),
            "delete,compact"
        );
        assert_eq!(
            altered(&mut image, name, ConfigOperation::Append, Some("compact")).unwrap(),
            "delete,compact"
        );
        assert_eq!(altered(&mut image, name, ConfigOperation::Subtract, Some("delete")).unwrap(), "compact");
        assert_eq!(altered(&mut image, name, ConfigOperation::Delete, None), None);
        let wrong = ConfigChange {
            name: "retention.ms".to_owned(),
            operation: ConfigOperation::Append,
            value: Some("1".to_owned()),
        };
        assert!(matches!(alter_configs(&image, "t", &[wrong]), Err(ChangeRefused::InvalidOperation(_))));
        let unset = ConfigChange { name: name.to_owned(), operation: ConfigOperation::Append, value: None };
        assert!(matches!(alter_configs(&image, "t", &[unset]), Err(ChangeRefused::InvalidOperation(_))));
    }
}
