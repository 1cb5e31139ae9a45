//! Topic configurations: Kafka's names, types, defaults and bounds, and what this broker makes of them.
//!
//! Owns: the table of settings, their validation, which changes of tiering are possible, and [`TopicConfig`], the resolved
//! values.
//! Does not own: where overrides are stored (`metadata`), nor who acts on a value (`partition`, `housekeeping`).

use std::collections::BTreeMap;

/// Overrides of one topic: only what was set explicitly.
pub(crate) type Overrides = BTreeMap<String, String>;

/// The type of a setting, with the code DescribeConfigs gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Boolean,
    /// One word of a fixed set.
    Word(&'static [&'static str]),
    /// A 32-bit integer and its least value.
    Int(i64),
    /// A 64-bit integer and its least value.
    Long(i64),
    /// A fraction between 0 and 1.
    Fraction,
    /// Comma-separated words of a fixed set; an empty set takes any.
    List(&'static [&'static str]),
    /// A number of replicas, of which there is one while a cluster has one broker.
    Replicas,
}

impl Kind {
    /// The type's code in DescribeConfigs.
    pub(crate) fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Word(_) => 2,
            Self::Int(_) | Self::Replicas => 3,
            Self::Long(_) => 5,
            Self::Fraction => 6,
            Self::List(_) => 7,
        }
    }
}

/// One setting a topic may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Kafka's name.
    pub(crate) name: &'static str,
    /// Its type and bounds.
    pub(crate) kind: Kind,
    /// The value of a topic that says nothing.
    pub(crate) default: &'static str,
    /// What it does here.
    pub(crate) documentation: &'static str,
    /// Kafka's name for the same setting of a whole broker, shown as a synonym.
    pub(crate) broker_synonym: Option<&'static str>,
}

/// No limit, as Kafka writes it.
const MAX: &str = "9223372036854775807";

macro_rules! settings {
    ($($name:literal $kind:expr, $default:expr, $synonym:expr, $documentation:literal;)*) => {
        /// Every setting, by name.
        pub(crate) const SETTINGS: &[Setting] = &[$(Setting {
            name: $name, kind: $kind, default: $default, documentation: $documentation, broker_synonym: $synonym,
        }),*];
    };
}

settings! {
    "cleanup.policy" Kind::List(&["compact", "delete"]), "delete", Some("log.cleanup.policy"),
        "What happens to old data: delete by retention, or compact. Nothing of a compacted topic is deleted by retention; compaction itself is not done yet.";
    "compression.gzip.level" Kind::Int(-1), "-1", Some("compression.gzip.level"),
        "Accepted for compatibility: batches are stored as the producer compressed them.";
    "compression.lz4.level" Kind::Int(1), "9", Some("compression.lz4.level"),
        "Accepted for compatibility: batches are stored as the producer compressed them.";
    "compression.type" Kind::Word(&["producer"]), "producer", Some("compression.type"),
        "Batches are stored as the producer compressed them, so 'producer' is the only value.";
    "compression.zstd.level" Kind::Int(-131_072), "3", Some("compression.zstd.level"),
        "Accepted for compatibility: batches are stored as the producer compressed them.";
    "delete.retention.ms" Kind::Long(0), "86400000", Some("log.cleaner.delete.retention.ms"),
        "How long tombstones of compacted topics are kept.";
    "file.delete.delay.ms" Kind::Long(0), "60000", Some("log.segment.delete.delay.ms"),
        "Accepted for compatibility.";
    "flush.messages" Kind::Long(1), MAX, Some("log.flush.interval.messages"),
        "Accepted for compatibility: durability is set for the whole broker by --flush.";
    "flush.ms" Kind::Long(0), MAX, Some("log.flush.interval.ms"),
        "Accepted for compatibility: durability is set for the whole broker by --flush.";
    "follower.replication.throttled.replicas" Kind::List(&[]), "", None,
        "Accepted for compatibility.";
    "index.interval.bytes" Kind::Int(0), "4096", Some("log.index.interval.bytes"),
        "Accepted for compatibility: the index keeps its own spacing.";
    "leader.replication.throttled.replicas" Kind::List(&[]), "", None,
        "Accepted for compatibility.";
    "local.retention.bytes" Kind::Long(-2), "-2", Some("log.local.retention.bytes"),
        "How many bytes of a tiered partition stay on local disk; -2 means as retention.bytes, -1 no limit.";
    "local.retention.ms" Kind::Long(-2), "-2", Some("log.local.retention.ms"),
        "How long records of a tiered partition stay on local disk; -2 means as retention.ms, -1 no limit.";
    "max.compaction.lag.ms" Kind::Long(1), MAX, Some("log.cleaner.max.compaction.lag.ms"),
        "The longest a record may stay uncompacted.";
    "max.message.bytes" Kind::Int(0), "1048588", Some("message.max.bytes"),
        "The largest batch a producer may send, in bytes.";
    "message.timestamp.after.max.ms" Kind::Long(0), "3600000", Some("log.message.timestamp.after.max.ms"),
        "How far in the future a record's time may be, with message.timestamp.type=CreateTime.";
    "message.timestamp.before.max.ms" Kind::Long(0), MAX, Some("log.message.timestamp.before.max.ms"),
        "How far in the past a record's time may be, with message.timestamp.type=CreateTime.";
    "message.timestamp.type" Kind::Word(&["CreateTime", "LogAppendTime"]), "CreateTime", Some("log.message.timestamp.type"),
        "Whether a record's time is the producer's or the broker's.";
    "min.cleanable.dirty.ratio" Kind::Fraction, "0.5", Some("log.cleaner.min.cleanable.ratio"),
        "How much of a compacted partition must be dirty before it is compacted.";
    "min.compaction.lag.ms" Kind::Long(0), "0", Some("log.cleaner.min.compaction.lag.ms"),
        "The least time a record stays uncompacted.";
    "min.insync.replicas" Kind::Replicas, "1", Some("min.insync.replicas"),
        "How many replicas must have a record before a producer with acks=all is answered: 1, for a cluster has one broker so far.";
    "preallocate" Kind::Boolean, "false", Some("log.preallocate"),
        "Accepted for compatibility.";
    "remote.log.copy.disable" Kind::Boolean, "false", None,
        "Whether a tiered topic stops copying to the store. What is there stays readable; what is not stays on local disk until retention.ms or retention.bytes removes it.";
    "remote.storage.enable" Kind::Boolean, "false", None,
        "Whether sealed segments go to the object store. On for new topics when a store is configured, unless they are compacted. It cannot be turned off again; remote.log.copy.disable stops the copying.";
    "retention.bytes" Kind::Long(-1), "-1", Some("log.retention.bytes"),
        "How many bytes of a partition are kept, local and tiered together; -1 means no limit.";
    "retention.ms" Kind::Long(-1), "604800000", Some("log.retention.ms"),
        "How long records are kept, by their own time; -1 means for ever.";
    "segment.bytes" Kind::Int(1_048_576), "1073741824", Some("log.segment.bytes"),
        "The size at which a segment is sealed.";
    "segment.index.bytes" Kind::Int(4), "10485760", Some("log.index.size.max.bytes"),
        "Accepted for compatibility: the index is part of the sealed sidecar.";
    "segment.jitter.ms" Kind::Long(0), "0", Some("log.roll.jitter.ms"),
        "Accepted for compatibility.";
    "segment.ms" Kind::Long(1), "604800000", Some("log.roll.ms"),
        "The age, by append time, at which a segment is sealed.";
    "unclean.leader.election.enable" Kind::Boolean, "false", Some("unclean.leader.election.enable"),
        "Whether a replica that may lack records may lead.";
    "validation" Kind::Word(&["header", "records"]), "header", None,
        "How batches are checked: by header and checksum, or record by record as Kafka does.";
}

/// The setting of a name.
pub(crate) fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.binary_search_by(|setting| setting.name.cmp(name)).ok().map(|at| &SETTINGS[at])
}

/// Every setting's name, for who checks what a topic is to be before a broker sees it.
pub fn topic_config_names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.name)
}

/// Whether a topic may be made with this value of a setting.
///
/// # Errors
/// The setting is unknown, or the value wrong.
pub fn check_topic_config(name: &str, value: &str) -> Result<(), InvalidConfig> {
    setting(name).ok_or_else(|| InvalidConfig::UnknownName(name.to_owned()))?.check(value)
}

/// Whether a topic may be made with these settings, together, on a broker with or without a store.
///
/// # Errors
/// The first setting that is unknown, wrong, or contradicts another or the broker.
pub fn check_topic_configs(configs: &BTreeMap<String, String>, has_store: bool) -> Result<(), InvalidConfig> {
    TopicConfig::resolve(configs)?.check_tiering(None, has_store)
}

/// Why a configuration is refused (INVALID_CONFIG).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// No such setting.
    #[error("unknown topic config name: {0}")]
    UnknownName(String),
    /// The value is not of the setting's type, or out of its bounds.
    #[error("invalid value {value} for {name}: {reason}")]
    Value {
        /// The setting.
        name: String,
        /// What was given.
        value: String,
        /// What would be right.
        reason: String,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// There is nowhere to tier to.
    #[error(
        "remote.storage.enable=true is not possible: this broker has no object store; start it with --store, or leave \
         remote.storage.enable out"
    )]
    NoStore,
    /// Tiering would be turned off, and with it the readers' way to what only the store has.
    #[error(
        "remote.storage.enable cannot be turned off: what only the store has would be lost; to stop copying and keep it \
         readable, set remote.log.copy.disable=true; to be rid of it, make another topic and delete this one"
    )]
    TieringStays,
}

impl Setting {
    /// Checks one value.
    ///
    /// # Errors
    /// Says what would be right.
    pub(crate) fn check(&self, value: &str) -> Result<(), InvalidConfig> {
        let wrong = |reason: String| InvalidConfig::Value {
            name: self.name.to_owned(),
            value: value.to_owned(),
            reason,
        };
        let integer = |least: i64, most: i64| match value.trim().parse::<i64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(()),
            Ok(_) => Err(wrong(format!("must be at least {least} and at most {most}"))),
            Err(_) => Err(wrong("must be a number".to_owned())),
        };
        match self.kind {
            Kind::Boolean if matches!(value.to_ascii_lowercase().as_str(), "true" | "false") => Ok(()),
            Kind::Boolean => Err(wrong("must be true or false".to_owned())),
            Kind::Word(words) if words.contains(&value) => Ok(()),
            Kind::Word(words) => Err(wrong(format!("must be one of {}", words.join(", ")))),
            Kind::Int(least) => integer(least, i64::from(i32::MAX)),
            Kind::Replicas if value.trim() == "1" => Ok(()),
            Kind::Replicas => {
                Err(wrong("must be 1: a cluster has one broker so far, and so one replica".to_owned()))
            }
            Kind::Long(least) => integer(least, i64::MAX),
            Kind::Fraction => match value.parse::<f64>() {
                Ok(fraction) if (0.0..=1.0).contains(&fraction) => Ok(()),
                _ => Err(wrong("must be between 0 and 1".to_owned())),
            },
            Kind::List([]) => Ok(()),
            Kind::List(words) => match list(value).find(|word| !words.contains(word)) {
                None => Ok(()),
                Some(_) => Err(wrong(format!("must be a list of {}", words.join(", ")))),
            },
        }
    }
}

/// The words of a list value.
pub(crate) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// How producers' batches are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validation {
    /// Header, checksum, bound on the header's largest timestamp.
    Header,
    /// Every record, as Kafka.
    Records,
}

/// The resolved settings of a topic that something in the broker acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicConfig {
    /// `cleanup.policy` holds `compact`.
    pub(crate) compact: bool,
    /// `cleanup.policy` holds `delete`.
    pub(crate) delete: bool,
    /// `retention.ms`; `None` for ever.
    pub(crate) retention_ms: Option<i64>,
    /// `retention.bytes`; `None` without limit.
    pub(crate) retention_bytes: Option<u64>,
    /// `local.retention.ms` resolved against `retention.ms`; `None` for ever.
    pub(crate) local_retention_ms: Option<i64>,
    /// `local.retention.bytes` resolved against `retention.bytes`; `None` without limit.
    pub(crate) local_retention_bytes: Option<u64>,
    /// `remote.storage.enable`.
    pub(crate) tiered: bool,
    /// `remote.log.copy.disable`.
    pub(crate) copy_disabled: bool,
    /// `segment.bytes`.
    pub(crate) segment_bytes: u64,
    /// `segment.ms`.
    pub(crate) segment_ms: i64,
    /// `max.message.bytes`.
    pub(crate) max_message_bytes: usize,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub(crate) log_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub(crate) timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub(crate) timestamp_after_max_ms: i64,
    /// `validation`.
    pub(crate) validation: Validation,
}

/// The value of a setting under these overrides.
pub(crate) fn value_of<'a>(overrides: &'a Overrides, name: &'static str) -> &'a str {
    match overrides.get(name) {
        Some(value) => value,
        None => setting(name).map_or("", |setting| setting.default),
    }
}

impl TopicConfig {
    /// Checks overrides and resolves them with the defaults.
    ///
    /// # Errors
    /// The first setting that is unknown, wrong, or contradicts another.
    pub(crate) fn resolve(overrides: &Overrides) -> Result<Self, InvalidConfig> {
        for (name, value) in overrides {
            check_topic_config(name, value)?;
        }
        let config = Self::of_checked(overrides);
        config.check_together(overrides)?;
        Ok(config)
    }

    /// What is in force of overrides that are stored, and why the rest is not: they may come from another version.
    ///
    /// Whatever is not understood of what says which records may go keeps them all.
    pub(crate) fn in_force(stored: &Overrides) -> (Self, Vec<InvalidConfig>) {
        let mut understood = stored.clone();
        let (mut refused, mut may_delete) = (Vec::new(), true);
        for (name, value) in stored {
            if let Err(error) = check_topic_config(name, value) {
                understood.remove(name);
                may_delete &= !name.starts_with("retention.") && name != "cleanup.policy";
                refused.push(error);
            }
        }
        let mut config = Self::of_checked(&understood);
        config.delete &= may_delete;
        (config, refused)
    }

    /// Checks that a topic may become so: `before` is what is in force, `None` for a new topic.
    ///
    /// # Errors
    /// [`InvalidConfig::NoStore`] and [`InvalidConfig::TieringStays`].
    pub(crate) fn check_tiering(&self, before: Option<&Self>, has_store: bool) -> Result<(), InvalidConfig> {
        let was_tiered = before.is_some_and(|before| before.tiered);
        match (was_tiered, self.tiered) {
            (false, true) if !has_store => Err(InvalidConfig::NoStore),
            (true, false) => Err(InvalidConfig::TieringStays),
            _ => Ok(()),
        }
    }

    /// Resolves overrides with the defaults. Each of them is checked.
    fn of_checked(overrides: &Overrides) -> Self {
        let text = |name| value_of(overrides, name);
        let number = |name| text(name).trim().parse::<i64>().expect("checked against the setting's kind");
        let truth = |name: &'static str| text(name).eq_ignore_ascii_case("true");
        let limit = |value: i64| Some(value).filter(|value| *value >= 0);
        let bytes = |value: i64| u64::try_from(value).ok();
        let retention_ms = limit(number("retention.ms"));
        let retention_bytes = bytes(number("retention.bytes"));
        Self {
            compact: list(text("cleanup.policy")).any(|word| word == "compact"),
            delete: list(text("cleanup.policy")).any(|word| word == "delete"),
            retention_ms,
            retention_bytes,
            local_retention_ms: match number("local.retention.ms") {
                -2 => retention_ms,
                value => limit(value),
            },
            local_retention_bytes: match number("local.retention.bytes") {
                -2 => retention_bytes,
                value => bytes(value),
            },
            tiered: truth("remote.storage.enable"),
            copy_disabled: truth("remote.log.copy.disable"),
            segment_bytes: number("segment.bytes").unsigned_abs(),
            segment_ms: number("segment.ms"),
            max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(usize::MAX),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            validation: if text("validation") == "records" {
                Validation::Records
            } else {
                Validation::Header
            },
        }
    }

    fn check_together(&self, overrides: &Overrides) -> Result<(), InvalidConfig> {
        if self.tiered && self.compact {
            return Err(InvalidConfig::Contradiction(
                "a compacted topic cannot be tiered: make it without remote.storage.enable; a topic that is tiered already stays \
                 so, so make another one with cleanup.policy=compact and copy there what it should hold",
            ));
        }
        let beyond = |local: Option<i64>, total: Option<i64>| match (local, total) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(local), Some(total)) => local > total,
        };
        if overrides.contains_key("local.retention.ms") && beyond(self.local_retention_ms, self.retention_ms)
        {
            return Err(InvalidConfig::Contradiction(
                "local.retention.ms must not be more than retention.ms",
            ));
        }
        let signed = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        if overrides.contains_key("local.retention.bytes")
            && beyond(signed(self.local_retention_bytes), signed(self.retention_bytes))
        {
            return Err(InvalidConfig::Contradiction(
                "local.retention.bytes must not be more than retention.bytes",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
