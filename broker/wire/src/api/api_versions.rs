//! ApiVersions (key 18): which requests a broker answers, in which versions.
//!
//! Served: versions 0 to 4.
//! Behaviour: the response always has header version 0, since a client sends this request before it knows anything. A
//! version that is not served gets the answer of version 0 with `UNSUPPORTED_VERSION` and the ranges (KIP-511).
//! Versions: 1 throttle; 3 flexible, the client's name and version, features (KIP-584); 4 features may begin at 0.
//! Does not own: the ranges announced (`header`), the choice among them (`client::versions`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 18, name: "ApiVersions", served: (0, 4), advertised_since: 0, flexible_since: 3 };

messages! {
    flexible API.flexible_since;

    /// Asks what is served, and says who asks.
    ApiVersionsRequest {
        client_software_name: Text { since: 3, ignorable: true },
        client_software_version: Text { since: 3, ignorable: true },
    }

    /// What is served.
    ApiVersionsResponse {
        error_code: ErrorCode,
        api_keys: Vec<ApiVersion>,
        throttle_time_ms: i32 { since: 1, ignorable: true },
        supported_features: Vec<SupportedFeatureKey> { since: 3, tag: 0, ignorable: true },
        /// -1 where no features are finalized.
        finalized_features_epoch: i64 { since: 3, tag: 1, ignorable: true } = -1,
        finalized_features: Vec<FinalizedFeatureKey> { since: 3, tag: 2, ignorable: true },
        zk_migration_ready: bool { since: 3, tag: 3, ignorable: true },
    }

    /// The versions of one request.
    ApiVersion {
        api_key: i16,
        min_version: i16,
        max_version: i16,
    }

    /// A feature, and the levels that the broker can work at.
    SupportedFeatureKey {
        name: Text,
        min_version: i16,
        max_version: i16,
    }

    /// A feature, and the levels that the cluster works at.
    FinalizedFeatureKey {
        name: Text,
        max_version_level: i16,
        min_version_level: i16,
    }
}
