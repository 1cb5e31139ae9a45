//! Source cluster to target cluster, with exact offset translation.
