//! Requests and responses of every API in every version, made at random.

use bytes::Bytes;

use super::sample::Source;
use crate::api::{ApiKey, Request, Response};
use crate::codec::{DecodeError, EncodeError, Reader, Writer};

/// A message that is a request or a response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Either {
    Request(Request),
    Response(Response),
}

/// Which message: of what API, which way, in which version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) is_request: bool,
}

impl Pair {
    /// All that are served.
    pub(crate) fn all() -> Vec<Pair> {
        let versions = ApiKey::ALL.iter().flat_map(|&key| key.served().map(move |version| (key, version)));
        versions
            .flat_map(|(key, version)| [true, false].map(|is_request| Pair { key, version, is_request }))
            .collect()
    }

    pub(crate) fn sample(self, seed: u64) -> Either {
        let mut source = Source::new(seed);
        if self.is_request {
            Either::Request(Request::sample(self.key, self.version, &mut source))
        } else {
            Either::Response(Response::sample(self.key, self.version, &mut source))
        }
    }

    pub(crate) fn default_message(self) -> Either {
        if self.is_request {
            Either::Request(Request::default_of(self.key))
        } else {
            Either::Response(Response::default_of(self.key))
        }
    }

    /// Reads a body, with the budget that such a message has.
    pub(crate) fn decode(self, body: Bytes) -> Result<Either, DecodeError> {
        if self.is_request {
            let mut reader = Reader::for_request(body);
            Request::decode(self.key, self.version, &mut reader).map(Either::Request)
        } else {
            let mut reader = Reader::for_response(body);
            Response::decode(self.key, self.version, &mut reader).map(Either::Response)
        }
    }

    /// Writes a body, without a frame's length.
    pub(crate) fn encode(self, message: &Either) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        match message {
            Either::Request(request) => request.encode(&mut writer, self.version)?,
            Either::Response(response) => response.encode(&mut writer, self.version)?,
        }
        Ok(writer.finish()?.to_bytes().expect("records of samples lie in memory").slice(4..))
    }
}
