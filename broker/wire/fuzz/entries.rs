//! What the fuzz targets do with their bytes. An ordinary test does the same with random ones (`tests/fuzz_smoke.rs`).

use bytes::Bytes;
use wire::batch::Entries;
use wire::codec::Fault;
use wire::header::{self, Opened};
use wire::{ApiKey, Reader, Request, Response, Writer};

/// The most that one batch may decompress to here.
const BUDGET_BYTES: usize = 1 << 20;

/// Takes the bytes for a request's frame.
pub fn request(bytes: &[u8]) {
    let Ok(Opened::Request(header, reader)) = header::open_request(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let Ok(request) = header.decode_body(reader) else { return };
    // What was read can be written, and says the same when it is read again. Shorter than it was, by unknown tagged
    // fields, it may have lost the budget that those brought along.
    let mut writer = Writer::new();
    request.encode(&mut writer, header.version).expect("what a version said, it can say again");
    let mut again = Reader::for_response(body(writer));
    match Request::decode(header.key, header.version, &mut again) {
        Err(error) if error.fault == Fault::OverBudget => {}
        again => assert_eq!(again, Ok(request)),
    }
}

/// Takes the first two bytes for an API and a version, and the rest for a response's body.
pub fn response(bytes: &[u8]) {
    let [key, version, bytes @ ..] = bytes else { return };
    let key = ApiKey::ALL[usize::from(*key) % ApiKey::ALL.len()];
    let versions = key.served().count();
    let version = key.served().start() + (usize::from(*version) % versions) as i16;
    let mut reader = Reader::for_response(Bytes::copy_from_slice(bytes));
    let Ok(response) = Response::decode(key, version, &mut reader) else { return };
    let mut writer = Writer::new();
    response.encode(&mut writer, version).expect("what a version said, it can say again");
    let mut again = Reader::for_response(body(writer));
    match Response::decode(key, version, &mut again) {
        Err(error) if error.fault == Fault::OverBudget => {}
        again => assert_eq!(again, Ok(response)),
    }
}

/// Takes the bytes for batches and messages, one after the other, and reads all their records.
pub fn batches(bytes: &[u8]) {
    for entry in Entries::new(bytes).map_while(Result::ok) {
        let _ = entry.check_crc();
        let Ok(mut records) = entry.records(BUDGET_BYTES) else { continue };
        let mut last = None;
        while let Ok(Some(record)) = records.next_record() {
            assert!(last < Some(record.offset), "offsets rise");
            last = Some(record.offset);
            record.headers.for_each(drop);
        }
    }
}

fn body(writer: Writer) -> Bytes {
    let frame = writer.finish().expect("what fitted a frame fits one again").to_bytes();
    frame.expect("what was read lies in memory").slice(wire::frame::PREFIX_BYTES..)
}
