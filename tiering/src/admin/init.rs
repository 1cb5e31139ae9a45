//! `longhaul tier init`: a store made ready, and proof that it can be used.
//!
//! Owns: the bucket's making, and the checks of rights, conditional writes and lifecycle rules.
//! Does not own: the bucket's settings; rules that would delete our data, or put it where it cannot be read, are named,
//! not changed.

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{
    BucketLocationConstraint, CreateBucketConfiguration, ExpirationStatus, LifecycleRule,
    LifecycleRuleFilter, TransitionStorageClass,
};
use bytes::Bytes;
use serde::Serialize;

use crate::keys;
use crate::seams::Seams;
use crate::store::{
    ListPage, OpenStoreError, ProbeError, Store, StoreError, StoreLocation, StoreUrl, open_store,
    probe_conditional_put, read_range,
};

const DEFAULT_REGION: &str = "us-east-1";

/// What was done and found.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct InitReport {
    /// The store.
    pub store: String,
    /// Whether the bucket or folder was made just now.
    pub created: bool,
    /// Rights that were proved, by trying them.
    pub rights: Vec<String>,
    /// Whether conditional writes are honoured; always, since `init` fails otherwise.
    pub conditional_put: bool,
    /// What an operator should know or change; empty when all is well.
    pub advice: Vec<String>,
}

/// Why a store cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenStoreError),
    /// The bucket cannot be made.
    #[error("bucket {bucket} cannot be made: {detail}; make it by other means, or use credentials that may")]
    Create {
        /// The bucket.
        bucket: String,
        /// What the store said.
        detail: String,
    },
    /// Credentials are missing for the administrative calls.
    #[error("no credentials for {url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")]
    Credentials {
        /// The store.
        url: String,
    },
    /// A right is missing.
    #[error("the right to {right} is missing: {source}")]
    Right {
        /// What was tried.
        right: &'static str,
        /// What the store said.
        source: StoreError,
    },
    /// Conditional writes are not honoured.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A rule deletes our data behind our back.
    #[error(
        "lifecycle rule {rule:?} of bucket {bucket} expires objects below {prefix:?}: tiered data would vanish; remove \
         it, or limit it to another prefix"
    )]
    Expires {
        /// The bucket.
        bucket: String,
        /// The rule's id.
        rule: String,
        /// Our prefix.
        prefix: String,
    },
    /// A rule puts our data where it must be asked for hours before it can be read.
    #[error(
        "lifecycle rule {rule:?} of bucket {bucket} moves objects below {prefix:?} to {class}: tiered data there could \
         not be read; remove it, or limit it to another prefix"
    )]
    Freezes {
        /// The bucket.
        bucket: String,
        /// The rule's id.
        rule: String,
        /// Our prefix.
        prefix: String,
        /// The storage class.
        class: String,
    },
}

/// Makes a store ready: its bucket or folder, then proof of every right and promise that a broker needs.
///
/// # Errors
/// See [`InitError`].
pub async fn init(url: &StoreUrl) -> Result<InitReport, InitError> {
    let seams = Seams::system();
    let mut report = InitReport { store: url.to_string(), ..InitReport::default() };
    let client = match &url.location {
        StoreLocation::Folder(folder) => {
            report.created = !folder.exists();
            None
        }
        StoreLocation::S3 { bucket, .. } => {
            let client = s3_client(url)?;
            report.created = make_bucket(&client, bucket, region(url)).await?;
            Some((client, bucket))
        }
    };
    let store = open_store(url)?;
    prove_rights(&store, &seams, &mut report).await?;
    probe_conditional_put(&*store, &seams).await?;
    report.conditional_put = true;
    if let Some((client, bucket)) = client {
        check_lifecycle(&client, bucket, url, &mut report).await?;
    }
    Ok(report)
}

/// Tries each right on a throw-away object.
async fn prove_rights(
    store: &Arc<dyn Store>,
    seams: &Seams,
    report: &mut InitReport,
) -> Result<(), InitError> {
    let key = keys::probe(seams.attempt());
    let body = vec![Bytes::from_static(b"longhaul")];
    let put = match store.put_if_absent(&key, body).await {
        crate::store::PutOutcome::Failed(source) | crate::store::PutOutcome::Unknown(source) => Err(source),
        _ => Ok(()),
    };
    let mut prove = |right: &'static str, result: Result<(), StoreError>| {
        report.rights.push(right.to_owned());
        result.map_err(|source| InitError::Right { right, source })
    };
    prove("write", put)?;
    prove("read", read_range(&**store, &key, 0..8).await.map(|_| ()))?;
    prove("ask for size", store.head(&key).await.map(|_| ()))?;
    let page = ListPage { folder: "probe", start_after: None, limit: 1 };
    prove("list", store.list(page).await.map(|_| ()))?;
    prove("delete", store.delete(&key).await)
}

fn region(url: &StoreUrl) -> String {
    let environment =
        || ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| std::env::var(name).ok());
    url.region.clone().or_else(environment).unwrap_or_else(|| DEFAULT_REGION.to_owned())
}

fn s3_client(url: &StoreUrl) -> Result<Client, InitError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (key, secret) = match &url.credentials {
        Some((key, secret)) => (key.clone(), secret.reveal().to_owned()),
        None => match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(key), Some(secret)) => (key, secret),
            _ => return Err(InitError::Credentials { url: url.to_string() }),
        },
    };
    let credentials = Credentials::new(key, secret, variable("AWS_SESSION_TOKEN"), None, "longhaul");
    let mut config = Builder::new()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(region(url)))
        .credentials_provider(credentials);
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].into_iter().find_map(variable);
    if let Some(endpoint) = url.endpoint.clone().or(endpoint) {
        config = config.endpoint_url(endpoint).force_path_style(url.path_style.unwrap_or(true));
    }
    Ok(Client::from_conf(config.build()))
}

/// Makes the bucket unless it is there; says whether it did.
async fn make_bucket(client: &Client, bucket: &str, region: String) -> Result<bool, InitError> {
    if client.head_bucket().bucket(bucket).send().await.is_ok() {
        return Ok(false);
    }
    let mut create = client.create_bucket().bucket(bucket);
    if region != DEFAULT_REGION {
        let place = BucketLocationConstraint::from(region.as_str());
        create = create.create_bucket_configuration(
            CreateBucketConfiguration::builder().location_constraint(place).build(),
        );
    }
    match create.send().await {
        Ok(_) => Ok(true),
        // Made by somebody between the two calls.
        Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(false),
        Err(error) => Err(InitError::Create {
            bucket: bucket.to_owned(),
            detail: error.message().or(error.code()).map_or_else(|| format!("{error:?}"), str::to_owned),
        }),
    }
}

async fn check_lifecycle(
    client: &Client,
    bucket: &str,
    url: &StoreUrl,
    report: &mut InitReport,
) -> Result<(), InitError> {
    let StoreLocation::S3 { prefix, .. } = &url.location else { return Ok(()) };
    let rules = match client.get_bucket_lifecycle_configuration().bucket(bucket).send().await {
        Ok(answer) => answer.rules.unwrap_or_default(),
        Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => Vec::new(),
        Err(error) => {
            let code = error.code().unwrap_or("no answer").to_owned();
            report.advice.push(format!(
                "lifecycle rules could not be read ({code}): make sure that none expires objects"
            ));
            return Ok(());
        }
    };
    report.advice.extend(judge_rules(&rules, (bucket, prefix.as_str()))?);
    Ok(())
}

/// What lifecycle rules mean for the objects below a prefix of a bucket: a rule that takes them away is an error, the
/// rest is advice. Pure.
fn judge_rules(rules: &[LifecycleRule], (bucket, prefix): (&str, &str)) -> Result<Option<String>, InitError> {
    let applies =
        |rule: &&LifecycleRule| *rule.status() == ExpirationStatus::Enabled && reaches(rule, prefix);
    for rule in rules.iter().filter(applies) {
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        let id = rule.id().unwrap_or_default().to_owned();
        if rule.expiration().is_some() {
            return Err(InitError::Expires { bucket, rule: id, prefix });
        }
        if let Some(class) = cold_class(rule) {
            return Err(InitError::Freezes { bucket, rule: id, prefix, class: class.as_str().to_owned() });
        }
    }
    let aborts = |rule: &LifecycleRule| rule.abort_incomplete_multipart_upload().is_some();
    let advice = "no lifecycle rule aborts incomplete multipart uploads: add one of a few days, so that uploads that died \
                  cost nothing";
    Ok((!rules.iter().filter(applies).any(aborts)).then(|| advice.to_owned()))
}

/// The storage class that a rule moves objects to and that gives them out only hours after they were asked back. The
/// other classes are as readable as the first.
fn cold_class(rule: &LifecycleRule) -> Option<&TransitionStorageClass> {
    let is_cold = |class: &&TransitionStorageClass| {
        matches!(class, TransitionStorageClass::Glacier | TransitionStorageClass::DeepArchive)
    };
    rule.transitions().iter().filter_map(|transition| transition.storage_class()).find(is_cold)
}

/// Whether a rule touches objects below our prefix. Theirs is a prefix of keys, which need not end at a slash; ours is a
/// folder.
fn reaches(rule: &LifecycleRule, ours: &str) -> bool {
    let from_filter = rule.filter().and_then(LifecycleRuleFilter::prefix);
    let and_filter = rule.filter().and_then(|filter| filter.and()).and_then(|and| and.prefix());
    #[allow(deprecated, reason = "rules of old still say it there")]
    let theirs = from_filter.or(and_filter).or(rule.prefix()).unwrap_or_default();
    let ours = if ours.is_empty() { String::new() } else { format!("{ours}/") };
    ours.starts_with(theirs) || theirs.starts_with(&ours)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::builders::LifecycleRuleBuilder;
    use aws_sdk_s3::types::{
        AbortIncompleteMultipartUpload, LifecycleExpiration, LifecycleRuleAndOperator, Transition,
    };

    use super::*;

    fn rule(prefix: &str) -> LifecycleRuleBuilder {
        let filter = LifecycleRuleFilter::builder().prefix(prefix).build();
        LifecycleRule::builder().id("theirs").status(ExpirationStatus::Enabled).filter(filter)
    }

    fn judge(rule: LifecycleRuleBuilder, prefix: &str) -> Result<Option<String>, String> {
        let judged = judge_rules(&[rule.build().unwrap()], ("lake", prefix));
        judged.map_err(|error| error.to_string())
    }

    fn expires(theirs: &str, ours: &str) -> bool {
        let expiration = LifecycleExpiration::builder().days(30).build();
        judge(rule(theirs).expiration(expiration), ours).is_err_and(|told| told.contains("expires"))
    }

    #[test]
    fn a_rule_reaches_the_folders_that_its_prefix_begins() {
        for theirs in ["", "p", "prod", "prod/", "prod/we", "prod/west", "prod/west/", "prod/west/cluster"] {
            assert!(expires(theirs, "prod/west"), "{theirs:?}");
        }
        for theirs in ["prod/west-old/", "prod/west-old", "prod/western", "prod/east/", "production/", "x"] {
            assert!(!expires(theirs, "prod/west"), "{theirs:?}");
        }
        for theirs in ["", "anything/"] {
            assert!(expires(theirs, ""), "{theirs:?}: the whole bucket is ours");
        }
    }

    #[test]
    fn a_prefix_is_found_wherever_a_rule_says_it() {
        let expiration = || LifecycleExpiration::builder().days(30).build();
        let and = LifecycleRuleAndOperator::builder().prefix("logs/").build();
        let of_and = LifecycleRule::builder().filter(LifecycleRuleFilter::builder().and(and).build());
        #[allow(deprecated, reason = "rules of old say it there")]
        let of_old = LifecycleRule::builder().prefix("logs/");
        for rule in [of_and, of_old] {
            let rule = rule.status(ExpirationStatus::Enabled).expiration(expiration());
            assert!(judge(rule.clone(), "logs/lake").is_err());
            assert!(judge(rule, "prod/west").is_ok());
        }
    }

    #[test]
    fn a_rule_that_freezes_our_objects_is_named() {
        let moved = |class: TransitionStorageClass, prefix: &str| {
            let transition = Transition::builder().days(30).storage_class(class).build();
            judge(rule(prefix).transitions(transition), "prod/west")
        };
        for class in [TransitionStorageClass::Glacier, TransitionStorageClass::DeepArchive] {
            let told = moved(class.clone(), "prod/").unwrap_err();
            assert!(told.contains(class.as_str()) && told.contains("theirs"), "{told}");
            assert!(moved(class, "prod/west-old/").is_ok());
        }
        for class in [TransitionStorageClass::GlacierIr, TransitionStorageClass::StandardIa] {
            assert!(moved(class, "prod/").is_ok(), "objects of this class are read at once");
        }
        let off = rule("prod/").status(ExpirationStatus::Disabled);
        let off = off.expiration(LifecycleExpiration::builder().days(30).build());
        assert!(judge(off, "prod/west").is_ok());
    }

    #[test]
    fn a_rule_for_dead_uploads_ends_the_advice() {
        let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(3).build();
        assert_eq!(
            judge(rule("prod/").abort_incomplete_multipart_upload(abort.clone()), "prod/west"),
            Ok(None)
        );
        let elsewhere = judge(rule("prod/west-old/").abort_incomplete_multipart_upload(abort), "prod/west");
        assert!(elsewhere.unwrap().is_some());
    }
}
