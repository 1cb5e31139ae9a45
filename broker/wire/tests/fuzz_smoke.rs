//! The fuzz targets' entries over random bytes, so that they hold in every test run.

#[path = "../fuzz/entries.rs"]
#[allow(unreachable_pub, reason = "the fuzz targets take it for a crate")]
mod entries;

use proptest::prelude::*;
use wire::ApiKey;
use wire::batch::{BatchBuilder, BatchOptions, NewRecord};
use wire::compress::Codec;

fn noise() -> impl Strategy<Value = Vec<u8>> {
    // Small bytes are counts, lengths and tags that fit more often than any byte does.
    let byte = prop_oneof![3 => 0..4_u8, 1 => any::<u8>()];
    proptest::collection::vec(byte, 0..300)
}

/// A batch of a few records, in one codec.
fn batch(codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    for number in 0..8 {
        builder.push(&NewRecord {
            value: Some(b"the same value again"),
            timestamp_ms: number,
            ..NewRecord::default()
        });
    }
    builder.build()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn requests(key in proptest::sample::select(ApiKey::ALL), version in 0..19_i16, body in noise()) {
        let correlation_and_client = [0, 0, 0, 1, 0xff, 0xff];
        let frame = [&(key as i16).to_be_bytes()[..], &version.to_be_bytes(), &correlation_and_client, &body];
        entries::request(&frame.concat());
        entries::request(&body);
    }

    #[test]
    fn responses(bytes in noise(), choice: [u8; 2]) {
        entries::response(&[&choice[..], &bytes].concat());
    }
}

proptest! {
    #[test]
    fn batches(
        codec in proptest::sample::select(vec![Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]),
        damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
        tail in noise(),
    ) {
        let mut bytes = batch(codec);
        for (place, value) in damage {
            let place = usize::from(place) % bytes.len();
            bytes[place] = value;
        }
        bytes.extend(tail);
        entries::batches(&bytes);
    }
}
