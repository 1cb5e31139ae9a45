//! DescribeCluster: the broker and the cluster's id (KIP-700).
//!
//! Owns: that only brokers can be asked for, not controllers.
//! Does not own: the cluster's id (`metadata::image`), the advertised address (`broker`).

use std::sync::Arc;

use wire::ErrorCode;
use wire::api::describe_cluster::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse};
use wire::codec::Text;

use super::{Context, message};
use crate::broker::{BROKER_ID, Broker};

/// The endpoint type of brokers; controllers (2) have no listener of their own.
const BROKERS: i8 = 1;

pub(super) async fn run(
    broker: &Arc<Broker>,
    _context: &Context,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if request.endpoint_type != BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            error_message: message(&"this is a broker: ask for endpoint type 1"),
            endpoint_type: BROKERS,
            ..DescribeClusterResponse::default()
        };
    }
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: Text::from(broker.identity.cluster_id.to_string()),
        controller_id: BROKER_ID,
        brokers: vec![DescribeClusterBroker {
            broker_id: BROKER_ID,
            host: Text::from(&*broker.advertised.host),
            port: broker.port(),
            ..DescribeClusterBroker::default()
        }],
        ..DescribeClusterResponse::default()
    }
}
