//! What is written is read back unchanged.

use proptest::prelude::*;

use super::requests::Pair;

fn any_pair() -> impl Strategy<Value = Pair> {
    proptest::sample::select(Pair::all())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn every_message_is_read_back_as_written(pair in any_pair(), seed: u64) {
        let message = pair.sample(seed);
        let body = pair.encode(&message).unwrap();
        let read = pair.decode(body.clone()).unwrap();
        prop_assert_eq!(&read, &message);
        prop_assert_eq!(pair.encode(&read).unwrap(), body);
    }

    #[test]
    fn defaults_are_written_in_every_version_that_can_carry_them(pair in any_pair()) {
        let message = pair.default_message();
        // Only records and the topics of the oldest Metadata may be null; defaults never are.
        let body = pair.encode(&message).unwrap();
        prop_assert_eq!(pair.decode(body).unwrap(), message);
    }
}
