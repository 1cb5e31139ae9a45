//! Random instances of every message, as a version of it can carry them.

use bytes::Bytes;

use crate::codec::{Records, Shape, Text};
use crate::error_code::ErrorCode;
use crate::ids::TopicId;

/// A stream of numbers from a seed (splitmix64): the same seed gives the same message.
pub(crate) struct Source(u64);

impl Source {
    pub(crate) fn new(seed: u64) -> Source {
        Source(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Mostly a few, now and then so many that their number takes two bytes as a varint.
    fn length(&mut self, few: usize, many: usize) -> usize {
        match self.below(40) {
            0 => many + self.below(3),
            _ => self.below(few + 1),
        }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// A value that can be made at random.
pub(crate) trait Sample: Sized {
    /// How many elements a list of these has at most when it is meant to be long.
    const MANY: usize = 127;

    fn sample(source: &mut Source, shape: Shape) -> Self;
}

macro_rules! sample_integers {
    ($($kind:ident)+) => { $(
        impl Sample for $kind {
            fn sample(source: &mut Source, _: Shape) -> $kind {
                match source.below(8) {
                    0 => 0,
                    1 => -1,
                    2 => $kind::MIN,
                    3 => $kind::MAX,
                    _ => source.next() as $kind,
                }
            }
        }
    )+ };
}

sample_integers! { i8 i16 i32 i64 }

impl Sample for bool {
    fn sample(source: &mut Source, _: Shape) -> bool {
        source.below(2) == 1
    }
}

impl Sample for ErrorCode {
    fn sample(source: &mut Source, shape: Shape) -> ErrorCode {
        ErrorCode(i16::sample(source, shape))
    }
}

impl Sample for TopicId {
    fn sample(source: &mut Source, _: Shape) -> TopicId {
        if source.below(4) == 0 {
            return TopicId::ZERO;
        }
        TopicId(std::array::from_fn(|_| source.next() as u8))
    }
}

impl Sample for Text {
    fn sample(source: &mut Source, _: Shape) -> Text {
        const CHARACTERS: [char; 8] = ['a', 'Z', '0', '.', '_', 'é', '漢', '🦀'];
        let length = source.length(8, 126);
        Text::from((0..length).map(|_| CHARACTERS[source.below(CHARACTERS.len())]).collect::<String>())
    }
}

impl Sample for Bytes {
    fn sample(source: &mut Source, _: Shape) -> Bytes {
        let length = source.length(12, 126);
        Bytes::from(source.bytes(length))
    }
}

impl Sample for Records {
    fn sample(source: &mut Source, shape: Shape) -> Records {
        Records::from(Bytes::sample(source, shape))
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(source: &mut Source, shape: Shape) -> Option<T> {
        if shape.nullable && source.below(3) == 0 { None } else { Some(T::sample(source, shape)) }
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(source: &mut Source, shape: Shape) -> Vec<T> {
        let length = source.length(3, T::MANY);
        (0..length).map(|_| T::sample(source, Shape { nullable: false, ..shape })).collect()
    }
}

/// A message as this version of it can carry it.
pub(crate) fn message<M: crate::Message + Sample>(source: &mut Source, version: i16) -> M {
    M::sample(source, crate::message::shape::<M>(version))
}
