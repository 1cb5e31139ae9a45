//! Clusters, stores, topics and flows as a checked description: pure data, no I/O, no clock.
