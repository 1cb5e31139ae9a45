//! Where the store is: `file:DIR` or `s3://BUCKET/PREFIX`, and the options that go with it.
//!
//! Owns: the text form and its faults. Does not own: opening, credentials lookup.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A store's address, parsed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreLocation {
    /// A local folder, made when it is not there.
    Folder(PathBuf),
    /// A bucket of an S3-compatible store and the prefix inside it (may be empty).
    S3 {
        /// The bucket.
        bucket: String,
        /// Key prefix without slashes at its ends.
        prefix: String,
    },
}

/// A store's address with its options; what they leave out comes from the usual `AWS_*` variables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreUrl {
    /// Where.
    pub location: StoreLocation,
    /// Endpoint of a store that is not AWS, such as `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// Region; `us-east-1` where nothing says otherwise.
    pub region: Option<String>,
    /// Bucket in the path (`true`, the default with an endpoint) or in the host name.
    pub path_style: Option<bool>,
    /// Access key and secret.
    pub credentials: Option<(String, Secret)>,
}

/// A secret that no log line can show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Secret(secret.into())
    }

    /// The secret itself, for the one place that signs with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a text is not a store's address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseStoreUrlError {
    /// Neither `file:` nor `s3://`.
    #[error("store url {url:?} names no known store; write file:DIR or s3://BUCKET/PREFIX")]
    Scheme {
        /// The text.
        url: String,
    },
    /// `file:` without a folder.
    #[error("store url {url:?} names no folder; write file:DIR")]
    NoFolder {
        /// The text.
        url: String,
    },
    /// `s3://` without a usable bucket name.
    #[error(
        "store url {url:?} has no valid bucket name (3 to 63 of a-z, 0-9, '.', '-'); write s3://BUCKET/PREFIX"
    )]
    Bucket {
        /// The text.
        url: String,
    },
    /// A prefix that object stores disagree about.
    #[error(
        "store url {url:?} has a prefix part {part:?}; use letters, digits, '-', '_', '.', '=' and single slashes"
    )]
    Prefix {
        /// The text.
        url: String,
        /// The part at fault.
        part: String,
    },
}

impl FromStr for StoreUrl {
    type Err = ParseStoreUrlError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let text = || url.to_owned();
        let location = if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if !is_bucket_name(bucket) {
                return Err(ParseStoreUrlError::Bucket { url: text() });
            }
            let prefix = prefix.trim_end_matches('/');
            if let Some(part) = prefix.split('/').find(|part| !prefix.is_empty() && !is_prefix_part(part)) {
                return Err(ParseStoreUrlError::Prefix { url: text(), part: part.to_owned() });
            }
            StoreLocation::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
        } else if let Some(rest) = url.strip_prefix("file:") {
            // Both file:DIR and file:///DIR are written in the wild.
            let folder = rest.strip_prefix("//").unwrap_or(rest);
            if folder.is_empty() {
                return Err(ParseStoreUrlError::NoFolder { url: text() });
            }
            StoreLocation::Folder(PathBuf::from(folder))
        } else {
            return Err(ParseStoreUrlError::Scheme { url: text() });
        };
        Ok(StoreUrl { location, endpoint: None, region: None, path_style: None, credentials: None })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            StoreLocation::Folder(folder) => write!(f, "file:{}", folder.display()),
            StoreLocation::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            StoreLocation::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

fn is_bucket_name(name: &str) -> bool {
    let edge =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(byte))
        && edge(bytes.first())
        && edge(bytes.last())
}

fn is_prefix_part(part: &str) -> bool {
    !part.is_empty()
        && part != "."
        && part != ".."
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_were_written() {
        for text in ["file:data/lake", "file:/var/lake", "s3://lake", "s3://lake/prod/west"] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), text);
        }
        assert_eq!("s3://lake/prod/".parse::<StoreUrl>().unwrap().to_string(), "s3://lake/prod");
        assert_eq!("file:///var/lake".parse::<StoreUrl>().unwrap().to_string(), "file:/var/lake");
    }

    #[test]
    fn a_faulty_address_names_its_fault() {
        let fault = |text: &str| text.parse::<StoreUrl>().unwrap_err().to_string();
        assert!(fault("gs://lake").contains("names no known store"));
        assert!(fault("file:").contains("names no folder"));
        assert!(fault("s3://").contains("no valid bucket name"));
        assert!(fault("s3://Lake").contains("no valid bucket name"));
        assert!(fault("s3://lake/a//b").contains("has a prefix part \"\""));
        assert!(fault("s3://lake/../b").contains("has a prefix part \"..\""));
        assert!(fault("s3://lake/a b").contains("has a prefix part \"a b\""));
    }

    #[test]
    fn a_secret_never_prints() {
        let mut url: StoreUrl = "s3://lake".parse().unwrap();
        url.credentials = Some(("key".into(), Secret::new("hunter2")));
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
