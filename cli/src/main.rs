//! The one binary: its verbs, and the supervisor that `up` and `demo` use.

fn main() {}
