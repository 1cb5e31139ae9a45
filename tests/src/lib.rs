//! Harness, integration, peers and benchmarks: real processes and real clients.
