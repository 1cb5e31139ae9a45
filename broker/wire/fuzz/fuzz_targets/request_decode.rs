//! Requests as they come off a socket.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entries::request(bytes));
