//! DescribeConfigs (key 32): configs of topics and brokers, with where each value comes from.
//!
//! Served: versions 1 to 4.
//! Behaviour: null keys mean all; every config is returned, defaults too; sensitive values are null.
//! Versions: 1 synonyms and sources; 3 types and documentation; 4 flexible.
//! Does not own: which configs a topic has (`broker::topic_config`), and a broker
//! (`broker::api::describe_configs`).

use super::Api;
use crate::codec::Text;
use crate::error_code::ErrorCode;
use crate::message::messages;

/// How it is announced and framed.
pub const API: Api =
    Api { key: 32, name: "DescribeConfigs", served: (1, 4), advertised_since: 1, flexible_since: 4 };

messages! {
    flexible API.flexible_since;

    /// Asks for configs.
    DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>,
        include_synonyms: bool,
        include_documentation: bool { since: 3 },
    }

    /// One resource whose configs to tell.
    DescribeConfigsResource {
        /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8,
        resource_name: Text,
        configuration_keys: Option<Vec<Text>> { null_since: 0 } = Some(Vec::new()),
    }

    /// The configs asked for.
    DescribeConfigsResponse {
        throttle_time_ms: i32,
        results: Vec<DescribeConfigsResult>,
    }

    /// The configs of one resource.
    DescribeConfigsResult {
        error_code: ErrorCode,
        error_message: Option<Text> { null_since: 0 } = Some(Text::EMPTY),
        resource_type: i8,
        resource_name: Text,
        configs: Vec<DescribeConfigsResourceResult>,
    }

    /// One config.
    DescribeConfigsResourceResult {
        name: Text,
        value: Option<Text> { null_since: 0 } = Some(Text::EMPTY),
        read_only: bool,
        /// 1 topic, 2 this broker, 3 all brokers, 4 static, 5 default.
        config_source: i8 { ignorable: true } = -1,
        is_sensitive: bool,
        synonyms: Vec<DescribeConfigsSynonym> { ignorable: true },
        /// 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password.
        config_type: i8 { since: 3, ignorable: true },
        documentation: Option<Text> { since: 3, null_since: 3, ignorable: true } = Some(Text::EMPTY),
    }

    /// One place where the value could come from, the one in force first.
    DescribeConfigsSynonym {
        name: Text,
        value: Option<Text> { null_since: 1 } = Some(Text::EMPTY),
        source: i8,
    }
}
