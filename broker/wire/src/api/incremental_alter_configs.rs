//! IncrementalAlterConfigs (key 44): changes single configs (KIP-339).
//!
//! Served: versions 0 to 1.
//! Behaviour: operation 0 sets, 1 deletes, 2 appends to a list, 3 takes from a list.
//! Versions: 1 flexible.
//! Does not own: what an operation does to a value (`broker::metadata::changes`), which values are valid
//! (`broker::topic_config`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 44, name: "IncrementalAlterConfigs", served: (0, 1), advertised_since: 0, flexible_since: 1 };

messages! {
    flexible API.flexible_since;

    /// Configs to change.
    IncrementalAlterConfigsRequest {
        resources: Vec<AlterConfigsResource>,
        validate_only: bool,
    }

    /// One resource to change.
    AlterConfigsResource {
        /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8,
        resource_name: Text,
        configs: Vec<AlterableConfig>,
    }

    /// One change.
    AlterableConfig {
        name: Text,
        /// 0 set, 1 delete, 2 append, 3 subtract.
        config_operation: i8,
        value: Option<Text> { null_since: 0 } = Some(Text::EMPTY),
    }

    /// What became of each resource.
    IncrementalAlterConfigsResponse {
        throttle_time_ms: i32,
        responses: Vec<AlterConfigsResourceResponse>,
    }

    /// What became of one resource.
    AlterConfigsResourceResponse {
        error_code: ErrorCode,
        error_message: Option<Text> { null_since: 0 } = Some(Text::EMPTY),
        resource_type: i8,
        resource_name: Text,
    }
}
