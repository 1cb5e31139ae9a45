//! Headers of requests and responses, and whole frames from a header and a body.
//!
//! Owns: which header version goes with which request, and what is refused before a body is read.
//! Does not own: the frame's length on a socket (`frame.rs`).

use bytes::Bytes;
use thiserror::Error;

use crate::api::api_versions::{ApiVersion, ApiVersionsResponse};
use crate::api::{ApiKey, Request, RequestMessage};
use crate::codec::{DecodeError, EncodeError, Encoded, Nullable, Reader, Shape, Text, Wire, Writer};
use crate::error_code::ErrorCode;
use crate::message::Message;

/// What a request says before its body.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestHeader {
    /// The API.
    pub key: ApiKey,
    /// The version of the request and of its response.
    pub version: i16,
    /// Chosen by the client; the response repeats it.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<Text>,
}

/// A frame whose header has been read.
#[derive(Debug)]
pub enum Opened {
    /// A request of a version that is served; its body is next.
    Request(RequestHeader, Reader),
    /// ApiVersions in a version that is not served: to be answered by [`unsupported_api_versions`] (KIP-511).
    UnsupportedApiVersions {
        /// The correlation id.
        correlation_id: i32,
    },
}

/// Why a frame is no request that is served. The connection is to be closed, as Kafka does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// No API of this number is served.
    #[error("no api with key {key} is served")]
    UnknownApi {
        /// The number.
        key: i16,
    },
    /// The API is served, but not in this version.
    #[error("{key} is served in versions {first} to {last}, not in version {version}")]
    UnsupportedVersion {
        /// The API.
        key: ApiKey,
        /// The version asked for.
        version: i16,
        /// First version served.
        first: i16,
        /// Last version served.
        last: i16,
    },
    /// The header itself is malformed.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Reads the header of a request's frame (without its length prefix).
pub fn open_request(frame: Bytes) -> Result<Opened, OpenError> {
    let mut reader = Reader::for_request(frame);
    let number = reader.i16()?;
    let version = reader.i16()?;
    let correlation_id = reader.i32()?;
    let key = ApiKey::from_number(number).ok_or(OpenError::UnknownApi { key: number })?;
    if !key.served().contains(&version) {
        if key == ApiKey::ApiVersions {
            return Ok(Opened::UnsupportedApiVersions { correlation_id });
        }
        let (first, last) = key.api().served;
        return Err(OpenError::UnsupportedVersion { key, version, first, last });
    }
    // The client id keeps its 16-bit length in the flexible header.
    let client_id =
        Option::<Text>::read(&mut reader, CLIENT_ID).map_err(|error| error.in_field("client_id"))?;
    if key.request_header_version(version) >= 2 {
        skip_tagged_fields(&mut reader)?;
    }
    Ok(Opened::Request(RequestHeader { key, version, correlation_id, client_id }, reader))
}

const CLIENT_ID: Shape = Shape { version: 1, flexible: false, nullable: true };

fn skip_tagged_fields(reader: &mut Reader) -> Result<(), DecodeError> {
    reader.tagged_fields(|_, _| Ok(false)).map_err(|error| error.in_field("header"))
}

impl RequestHeader {
    /// Reads the body that follows the header.
    pub fn decode_body(&self, mut reader: Reader) -> Result<Request, DecodeError> {
        Request::decode(self.key, self.version, &mut reader)
    }

    /// The header and a body as a frame to send.
    pub fn frame<M: RequestMessage>(&self, body: &M) -> Result<Encoded, EncodeError> {
        debug_assert_eq!(M::KEY, self.key, "the header belongs to the body");
        self.frame_with(|writer| body.encode(writer, self.version))
    }

    /// The header and what `body` writes as a frame to send.
    pub fn frame_with(
        &self,
        body: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<Encoded, EncodeError> {
        let mut writer = Writer::new();
        writer.i16(self.key as i16);
        writer.i16(self.version);
        writer.i32(self.correlation_id);
        match &self.client_id {
            Some(client_id) => {
                client_id
                    .write(&mut writer, CLIENT_ID)
                    .map_err(|error| error.in_field("client_id", self.version))?;
            }
            None => Text::write_null(&mut writer, CLIENT_ID),
        }
        if self.key.request_header_version(self.version) >= 2 {
            writer.varint(0);
        }
        body(&mut writer)?;
        writer.finish()
    }
}

/// A response's header and body as a frame to send.
pub fn response_frame<M: Message>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: &M,
) -> Result<Encoded, EncodeError> {
    let mut writer = response_writer(key, version, correlation_id);
    body.encode(&mut writer, version)?;
    writer.finish()
}

/// A frame that begins with a response's header; the body is to be written next.
pub fn response_writer(key: ApiKey, version: i16, correlation_id: i32) -> Writer {
    let mut writer = Writer::new();
    writer.i32(correlation_id);
    if key.response_header_version(version) >= 1 {
        writer.varint(0);
    }
    writer
}

/// Reads the header of a response's frame (without its length prefix); the body is next. Returns the correlation id
/// first, which tells a client with several requests under way what `key` and `version` are: see
/// [`correlation_id`].
pub fn open_response(frame: Bytes, key: ApiKey, version: i16) -> Result<(i32, Reader), DecodeError> {
    let mut reader = Reader::for_response(frame);
    let correlation_id = reader.i32()?;
    if key.response_header_version(version) >= 1 {
        skip_tagged_fields(&mut reader)?;
    }
    Ok((correlation_id, reader))
}

/// The correlation id at the head of a response's frame, for a client that has to look up what the response answers.
pub fn correlation_id(frame: &[u8]) -> Option<i32> {
    frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

/// The versions that a broker announces, as they stand in a response to ApiVersions.
pub fn advertised_versions() -> Vec<ApiVersion> {
    let mut versions: Vec<_> = ApiKey::ALL
        .iter()
        .map(|key| {
            let advertised = key.advertised();
            ApiVersion {
                api_key: *key as i16,
                min_version: *advertised.start(),
                max_version: *advertised.end(),
            }
        })
        .collect();
    versions.sort_by_key(|version| version.api_key);
    versions
}

/// The answer to ApiVersions in a version that is not served: version 0, the error, and the ranges (KIP-511), so that
/// the client can ask again.
pub fn unsupported_api_versions(correlation_id: i32) -> Encoded {
    let body = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: advertised_versions(),
        ..ApiVersionsResponse::default()
    };
    response_frame(ApiKey::ApiVersions, 0, correlation_id, &body)
        .expect("version 0 has the three fields that are set, and none is too long")
}
