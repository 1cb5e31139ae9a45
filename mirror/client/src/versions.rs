//! Which version of each API a broker and this client have in common.
//!
//! Owns: the intersection.
//! Does not own: what this client speaks (`wire::api`), asking the broker (`connection`), bounds by a feature (who
//! makes the request).

use std::collections::HashMap;

use wire::ApiKey;
use wire::api::api_versions::ApiVersionsResponse;

/// What a broker announced, cut to what this client speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Versions {
    common: HashMap<ApiKey, (i16, i16)>,
}

impl Versions {
    pub(crate) fn new(announced: &ApiVersionsResponse) -> Self {
        let mut common = HashMap::new();
        for api in &announced.api_keys {
            let Some(key) = ApiKey::from_number(api.api_key) else { continue };
            let (first, last) = key.api().served;
            let (first, last) = (first.max(api.min_version), last.min(api.max_version));
            if first <= last {
                common.insert(key, (first, last));
            }
        }
        Self { common }
    }

    /// The highest common version from `first` to `last`.
    pub(crate) fn pick(&self, key: ApiKey, first: i16, last: i16) -> Option<i16> {
        let (common_first, common_last) = *self.common.get(&key)?;
        let version = common_last.min(last);
        (version >= first.max(common_first)).then_some(version)
    }
}

#[cfg(test)]
mod tests {
    use wire::api::api_versions::ApiVersion;

    use super::*;

    #[test]
    fn the_highest_common_version_within_bounds_is_picked() {
        let announced = |api_key, min_version, max_version| ApiVersion { api_key, min_version, max_version };
        let api_keys =
            vec![announced(1, 0, 11), announced(3, 90, 99), announced(999, 0, 1), announced(0, 0, 99)];
        let versions = Versions::new(&ApiVersionsResponse { api_keys, ..Default::default() });
        assert_eq!(versions.pick(ApiKey::Fetch, 4, 18), Some(11));
        assert_eq!(versions.pick(ApiKey::Fetch, 0, 9), Some(9));
        assert_eq!(versions.pick(ApiKey::Fetch, 12, 18), None);
        assert_eq!(versions.pick(ApiKey::Metadata, 0, 99), None);
        assert_eq!(versions.pick(ApiKey::Produce, 3, 99), Some(13));
        assert_eq!(versions.pick(ApiKey::Heartbeat, 0, 4), None);
    }
}
