//! Source cluster to target cluster, with exact offset translation.

pub mod offset_map;
