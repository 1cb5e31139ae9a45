//! Round trips, hostile payloads, and what they may cost.

use std::io::Write;

use proptest::prelude::*;

use super::*;

const BUDGET: usize = 1 << 20;

fn compressed(codec: Codec, input: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    compress(codec, input, &mut output);
    output
}

/// Bytes that compress, of up to three chunks or blocks of any codec.
fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        (proptest::collection::vec(any::<u8>(), 1..50), 0..4_000usize)
            .prop_map(|(word, times)| word.repeat(times)),
    ]
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(payload in any_payload(), codec in prop::sample::select(&Codec::ALL)) {
        prop_assert_eq!(decompress(codec, &compressed(codec, &payload), BUDGET).unwrap(), payload);
    }

    #[test]
    fn the_budget_is_exact(payload in any_payload(), codec in prop::sample::select(&Codec::ALL)) {
        let input = compressed(codec, &payload);
        prop_assert_eq!(decompress(codec, &input, payload.len()).unwrap().len(), payload.len());
        if let Some(less) = payload.len().checked_sub(1) {
            prop_assert_eq!(decompress(codec, &input, less), Err(DecompressError::OverBudget));
        }
    }

    #[test]
    fn truncation_is_an_error_or_a_shorter_payload(
        payload in any_payload(), codec in prop::sample::select(&Codec::ALL[1..]), at: prop::sample::Index,
    ) {
        let input = compressed(codec, &payload);
        let cut = decompress(codec, &input[..at.index(input.len())], BUDGET);
        // Only the last bytes of a stream, its end mark, may be missed by nobody: the payload is whole then.
        prop_assert!(cut.map_or(true, |output| payload.starts_with(&output)));
    }

    #[test]
    fn noise_is_an_error_or_bytes_within_the_budget(
        noise in proptest::collection::vec(any::<u8>(), 0..300), codec in prop::sample::select(&Codec::ALL),
        payload in any_payload(), at: prop::sample::Index,
    ) {
        let mut spliced = compressed(codec, &payload);
        let from = at.index(spliced.len() + 1);
        spliced.truncate(from);
        spliced.extend_from_slice(&noise);
        for input in [noise, spliced] {
            prop_assert!(decompress(codec, &input, BUDGET).map_or(0, |output| output.len()) <= BUDGET);
        }
    }
}

#[test]
fn names_and_ids_are_kafkas() {
    let names = Codec::ALL.map(|codec| (codec.id(), codec.name()));
    assert_eq!(names, [(0, "none"), (1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")]);
    assert!(Codec::ALL.into_iter().all(|codec| codec.name().parse() == Ok(codec)));
    assert!(Codec::from_id(5).is_none() && "brotli".parse::<Codec>().is_err());
}

#[test]
fn a_gigabyte_of_zeros_stops_at_the_budget() {
    let zeros = vec![0; 64 << 20];
    for codec in Codec::ALL {
        let bomb = compressed(codec, &zeros);
        assert_eq!(decompress(codec, &bomb, BUDGET), Err(DecompressError::OverBudget), "{codec}");
    }
}

#[test]
fn raw_snappy_may_not_claim_what_it_cannot_hold() {
    // A claim of 2 GiB - 1 in front of a few bytes.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x07, 0, 0];
    assert!(matches!(decompress(Codec::Snappy, &claim, usize::MAX), Err(DecompressError::Corrupt { .. })));
    let mut framed = compressed(Codec::Snappy, b"");
    framed.extend_from_slice(&(claim.len() as u32).to_be_bytes());
    framed.extend_from_slice(&claim);
    assert!(matches!(decompress(Codec::Snappy, &framed, usize::MAX), Err(DecompressError::Corrupt { .. })));
}

#[test]
fn raw_snappy_as_dense_as_it_gets_is_read() {
    let zeros = vec![0; 1 << 20];
    let raw = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
    assert_eq!(decompress(Codec::Snappy, &raw, BUDGET).unwrap(), zeros);
}

#[test]
fn streams_put_one_after_the_other_are_read_as_java_reads_them() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Zstd] {
        let both = [compressed(codec, b"one, "), compressed(codec, b"two")].concat();
        assert_eq!(decompress(codec, &both, BUDGET).unwrap(), b"one, two", "{codec}");
    }
}

#[test]
fn a_window_beyond_what_java_reads_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(&[7; 1000]).unwrap();
    assert!(matches!(
        decompress(Codec::Zstd, &encoder.finish().unwrap(), BUDGET),
        Err(DecompressError::Corrupt { .. })
    ));
}
