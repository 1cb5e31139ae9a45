//! How many topics and partitions a request names: work that a few bytes can ask for is bounded.
//!
//! Owns: the count, API by API. Does not own: the bound (`limits`), the refusal (`api`).

use wire::api::Request;

/// Topics and partitions that a request names.
pub(super) fn named_by(request: &Request) -> usize {
    macro_rules! count {
        ($topics:expr, $partitions:ident) => {
            $topics.iter().map(|topic| 1 + topic.$partitions.len()).sum()
        };
    }
    match request {
        Request::Produce(request) => count!(request.topic_data, partition_data),
        Request::Fetch(request) => {
            let forgotten: usize = count!(request.forgotten_topics_data, partitions);
            let fetched: usize = count!(request.topics, partitions);
            fetched + forgotten
        }
        Request::ListOffsets(request) => count!(request.topics, partitions),
        Request::Metadata(request) => request.topics.as_ref().map_or(0, Vec::len),
        Request::OffsetCommit(request) => count!(request.topics, partitions),
        Request::OffsetFetch(request) => {
            let single: usize =
                request.topics.iter().map(|topics| -> usize { count!(topics, partition_indexes) }).sum();
            let topics = request.groups.iter().flat_map(|group| &group.topics);
            let several: usize = topics.map(|topics| -> usize { count!(topics, partition_indexes) }).sum();
            single + several + request.groups.len()
        }
        Request::DeleteRecords(request) => count!(request.topics, partitions),
        Request::OffsetForLeaderEpoch(request) => count!(request.topics, partitions),
        Request::DescribeProducers(request) => count!(request.topics, partition_indexes),
        Request::DescribeTopicPartitions(request) => request.topics.len(),
        Request::DescribeConfigs(request) => request.resources.len(),
        Request::IncrementalAlterConfigs(request) => count!(request.resources, configs),
        Request::CreateTopics(request) => request.topics.len(),
        Request::DeleteTopics(request) => request.topics.len() + request.topic_names.len(),
        Request::CreatePartitions(request) => request.topics.len(),
        Request::DescribeGroups(request) => request.groups.len(),
        Request::DeleteGroups(request) => request.groups_names.len(),
        Request::FindCoordinator(request) => request.coordinator_keys.len(),
        Request::JoinGroup(_)
        | Request::SyncGroup(_)
        | Request::Heartbeat(_)
        | Request::LeaveGroup(_)
        | Request::ListGroups(_)
        | Request::ApiVersions(_)
        | Request::InitProducerId(_)
        | Request::DescribeCluster(_) => 0,
    }
}
