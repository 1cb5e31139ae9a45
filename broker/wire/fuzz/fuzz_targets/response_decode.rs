//! Responses of any API, as a client gets them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entries::response(bytes));
