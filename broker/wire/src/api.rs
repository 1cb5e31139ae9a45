//! The requests that are served, one file each, and the table of their keys and versions.
//!
//! Owns: which API has which key, which versions are served, and which are announced; each file, the fields of its
//! messages in every version.
//! Does not own: what a broker does with a request (`broker::api`).
//!
//! The versions are those that Apache Kafka 4.3.1 announces, stable ones only, and two more for old clients: Produce
//! is announced from 0 (0 to 2 are refused), and ListOffsets 0 is served.

use std::fmt;
use std::ops::RangeInclusive;

use crate::codec::{DecodeError, EncodeError, Reader, Writer};
use crate::message::Message;

/// How one API is announced and framed.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// Its number.
    pub key: i16,
    /// Kafka's name for it.
    pub name: &'static str,
    /// First and last version that is read and written.
    pub served: (i16, i16),
    /// First version that a broker announces; the last is the last one served.
    pub advertised_since: i16,
    /// First version with flexible bodies and headers.
    pub flexible_since: i16,
}

/// A request that some API defines.
pub trait RequestMessage: Message {
    /// The API.
    const KEY: ApiKey;
    /// What answers it.
    type Response: Message;
}

macro_rules! apis {
    ($( $name:ident in $module:ident: $request:ident, $response:ident; )+) => {
        $( pub mod $module; )+

        /// The key of an API that is served.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(
                #[doc = concat!("See [`", stringify!($module), "`].")]
                $name = $module::API.key,
            )+
        }

        impl ApiKey {
            /// All of them, in the order of this crate's table.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name),+];

            /// What the API's own file says of it.
            pub const fn api(self) -> &'static Api {
                match self {
                    $( ApiKey::$name => &$module::API, )+
                }
            }

            /// The served API with this number.
            pub fn from_number(key: i16) -> Option<ApiKey> {
                match key {
                    $( _ if key == $module::API.key => Some(ApiKey::$name), )+
                    _ => None,
                }
            }
        }

        /// A request of any API.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $(
                #[doc = concat!("See [`", stringify!($module), "`].")]
                $name($module::$request),
            )+
        }

        impl Request {
            /// The API it belongs to.
            pub fn key(&self) -> ApiKey {
                match self {
                    $( Request::$name(_) => ApiKey::$name, )+
                }
            }

            /// Reads a request's body. The version must be one that is served. Bytes that follow are left alone, as
            /// Kafka leaves them: librdkafka sends some behind its Metadata requests of version 13.
            pub fn decode(key: ApiKey, version: i16, reader: &mut Reader) -> Result<Request, DecodeError> {
                Ok(match key {
                    $( ApiKey::$name => Request::$name($module::$request::decode(reader, version)?), )+
                })
            }

            #[cfg(test)]
            pub(crate) fn sample(key: ApiKey, version: i16, source: &mut crate::tests::sample::Source) -> Request {
                match key {
                    $( ApiKey::$name => Request::$name(crate::tests::sample::message(source, version)), )+
                }
            }

            #[cfg(test)]
            pub(crate) fn default_of(key: ApiKey) -> Request {
                match key {
                    $( ApiKey::$name => Request::$name(Default::default()), )+
                }
            }

            /// Appends the request's body.
            pub fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
                match self {
                    $( Request::$name(request) => request.encode(writer, version), )+
                }
            }
        }

        /// A response of any API.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response {
            $(
                #[doc = concat!("See [`", stringify!($module), "`].")]
                $name($module::$response),
            )+
        }

        impl Response {
            /// The API it belongs to.
            pub fn key(&self) -> ApiKey {
                match self {
                    $( Response::$name(_) => ApiKey::$name, )+
                }
            }

            /// Reads a response's body, which must be all that is left. The version must be one that is served.
            pub fn decode(key: ApiKey, version: i16, reader: &mut Reader) -> Result<Response, DecodeError> {
                let response = match key {
                    $( ApiKey::$name => Response::$name($module::$response::decode(reader, version)?), )+
                };
                reader.finish()?;
                Ok(response)
            }

            #[cfg(test)]
            pub(crate) fn sample(key: ApiKey, version: i16, source: &mut crate::tests::sample::Source) -> Response {
                match key {
                    $( ApiKey::$name => Response::$name(crate::tests::sample::message(source, version)), )+
                }
            }

            #[cfg(test)]
            pub(crate) fn default_of(key: ApiKey) -> Response {
                match key {
                    $( ApiKey::$name => Response::$name(Default::default()), )+
                }
            }

            /// Appends the response's body.
            pub fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
                match self {
                    $( Response::$name(response) => response.encode(writer, version), )+
                }
            }
        }

        $(
            impl RequestMessage for $module::$request {
                const KEY: ApiKey = ApiKey::$name;
                type Response = $module::$response;
            }

            impl From<$module::$request> for Request {
                fn from(request: $module::$request) -> Request {
                    Request::$name(request)
                }
            }

            impl From<$module::$response> for Response {
                fn from(response: $module::$response) -> Response {
                    Response::$name(response)
                }
            }
        )+
    };
}

apis! {
    Produce in produce: ProduceRequest, ProduceResponse;
    Fetch in fetch: FetchRequest, FetchResponse;
    ListOffsets in list_offsets: ListOffsetsRequest, ListOffsetsResponse;
    Metadata in metadata: MetadataRequest, MetadataResponse;
    OffsetCommit in offset_commit: OffsetCommitRequest, OffsetCommitResponse;
    OffsetFetch in offset_fetch: OffsetFetchRequest, OffsetFetchResponse;
    FindCoordinator in find_coordinator: FindCoordinatorRequest, FindCoordinatorResponse;
    JoinGroup in join_group: JoinGroupRequest, JoinGroupResponse;
    Heartbeat in heartbeat: HeartbeatRequest, HeartbeatResponse;
    LeaveGroup in leave_group: LeaveGroupRequest, LeaveGroupResponse;
    SyncGroup in sync_group: SyncGroupRequest, SyncGroupResponse;
    DescribeGroups in describe_groups: DescribeGroupsRequest, DescribeGroupsResponse;
    ListGroups in list_groups: ListGroupsRequest, ListGroupsResponse;
    ApiVersions in api_versions: ApiVersionsRequest, ApiVersionsResponse;
    CreateTopics in create_topics: CreateTopicsRequest, CreateTopicsResponse;
    DeleteTopics in delete_topics: DeleteTopicsRequest, DeleteTopicsResponse;
    DeleteRecords in delete_records: DeleteRecordsRequest, DeleteRecordsResponse;
    InitProducerId in init_producer_id: InitProducerIdRequest, InitProducerIdResponse;
    OffsetForLeaderEpoch in offset_for_leader_epoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    DescribeConfigs in describe_configs: DescribeConfigsRequest, DescribeConfigsResponse;
    CreatePartitions in create_partitions: CreatePartitionsRequest, CreatePartitionsResponse;
    DeleteGroups in delete_groups: DeleteGroupsRequest, DeleteGroupsResponse;
    IncrementalAlterConfigs in incremental_alter_configs: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    DescribeCluster in describe_cluster: DescribeClusterRequest, DescribeClusterResponse;
    DescribeProducers in describe_producers: DescribeProducersRequest, DescribeProducersResponse;
    DescribeTopicPartitions in describe_topic_partitions: DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
}

impl ApiKey {
    /// Kafka's name for the API.
    pub const fn name(self) -> &'static str {
        self.api().name
    }

    /// The versions that this crate reads and writes.
    pub const fn served(self) -> RangeInclusive<i16> {
        let (first, last) = self.api().served;
        first..=last
    }

    /// The versions that a broker announces: [`ApiKey::served`], but Produce from 0 on.
    pub const fn advertised(self) -> RangeInclusive<i16> {
        let api = self.api();
        api.advertised_since..=api.served.1
    }

    /// Whether the version has a flexible body.
    pub const fn flexible(self, version: i16) -> bool {
        version >= self.api().flexible_since
    }

    /// The version of the header that goes before a request of this version.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.flexible(version) { 2 } else { 1 }
    }

    /// The version of the header that goes before a response of this version. That of ApiVersions is always 0, since
    /// the client does not know yet what the broker can do (KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ApiVersions => 0,
            _ if self.flexible(version) => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}
