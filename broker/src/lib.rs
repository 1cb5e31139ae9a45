//! The server: connections, APIs, partitions, groups.
