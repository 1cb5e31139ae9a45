//! Record batches as a producer, a segment or a source cluster may hold them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entries::batches(bytes));
