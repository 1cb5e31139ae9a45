//! The codec against Apache Kafka's own message classes: every API in every version, made by one and read by the other.
//!
//! `tests/oracle/WireOracle.java` makes random messages by Kafka's schemas. For each, this test checks that
//!   1. our reader and writer give the same bytes back;
//!   2. every field that Kafka's JSON converter shows has the same name and value in ours, so that no two are swapped;
//!   3. written in every other version, ours gives the bytes that Kafka gives, or refuses where Kafka refuses.
//!
//! And a running broker is asked which versions it announces: that is the list in `tests/oracle` which wire is built on.

#[path = "wire_oracle/debug_tree.rs"]
mod debug_tree;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests::installed;
use tests::kafka::Kafka;
use tests::scratch::Scratch;
use wire::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use wire::codec::{EncodeError, Writer};
use wire::header::{self, RequestHeader};
use wire::{ApiKey, DecodeError, ErrorCode, Message as _, Reader, Request, Response, frame};

/// Messages of each API, version and direction.
const MESSAGES: usize = 25;
const SEED: u64 = 20_130_101;

/// The one version that we serve and Kafka's classes do not know.
const OURS_ALONE: (ApiKey, i16) = (ApiKey::ListOffsets, 0);

#[derive(Debug)]
enum Message {
    Request(Request),
    Response(Response),
}

impl Message {
    fn decode(key: ApiKey, is_request: bool, version: i16, body: &[u8]) -> Result<Message, DecodeError> {
        let body = bytes::Bytes::copy_from_slice(body);
        if is_request {
            let mut reader = Reader::for_request(body);
            Request::decode(key, version, &mut reader).map(Message::Request)
        } else {
            let mut reader = Reader::for_response(body);
            Response::decode(key, version, &mut reader).map(Message::Response)
        }
    }

    fn encode(&self, version: i16) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new();
        match self {
            Message::Request(request) => request.encode(&mut writer, version)?,
            Message::Response(response) => response.encode(&mut writer, version)?,
        }
        let frame = writer.finish()?.to_bytes().expect("what was read lies in memory");
        Ok(frame[frame::PREFIX_BYTES..].to_vec())
    }
}

#[test]
fn kafkas_own_classes_read_and_write_the_same() -> Result<()> {
    let mut checked = BTreeSet::new();
    let output = ask_oracle()?;
    for (number, line) in output.lines().enumerate() {
        let pair = check(line).with_context(|| format!("line {number}: {line}"))?;
        checked.insert(pair);
    }
    let mut expected = BTreeSet::new();
    for key in ApiKey::ALL {
        for version in key.served().filter(|version| (*key, *version) != OURS_ALONE) {
            expected.extend([(*key, version, true), (*key, version, false)]);
        }
    }
    ensure!(checked == expected, "the oracle did not cover every version");
    Ok(())
}

/// Runs the oracle over all that is served.
fn ask_oracle() -> Result<String> {
    let libraries = installed::kafka_libs()?.join("*");
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("oracle/WireOracle.java");
    let mut oracle = Command::new("java")
        .arg("-cp")
        .arg(libraries)
        .arg(program)
        .args([SEED.to_string(), MESSAGES.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("java must be on the path")?;
    let mut questions = String::new();
    for key in ApiKey::ALL {
        let first = if *key == OURS_ALONE.0 { OURS_ALONE.1 + 1 } else { *key.served().start() };
        questions += &format!("{} {first} {}\n", *key as i16, key.served().end());
    }
    oracle.stdin.take().context("the oracle has an input")?.write_all(questions.as_bytes())?;
    let output = oracle.wait_with_output()?;
    ensure!(output.status.success(), "the oracle failed: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn check(line: &str) -> Result<(ApiKey, i16, bool)> {
    let words: Vec<&str> = line.split(' ').collect();
    let [key, direction, version, written, json, others @ ..] = words.as_slice() else {
        bail!("too few words")
    };
    let key = ApiKey::from_number(key.parse()?).context("an api that was asked for")?;
    let (is_request, version) = (*direction == "request", version.parse()?);
    let body = bytes_of(written)?.context("kafka writes in the version that it read")?;

    let message = Message::decode(key, is_request, version, &body)?;
    ensure!(message.encode(version)? == body, "other bytes in the same version: {message:?}");

    let ours = debug_tree::parse(&format!("{message:?}"));
    compare("", &serde_json::from_str(json)?, &ours)?;

    for other in others {
        let (other_version, theirs) = other.split_once('=').context("VERSION=BYTES")?;
        let ours = message.encode(other_version.parse()?);
        match (bytes_of(theirs)?, ours) {
            (Some(theirs), Ok(ours)) => {
                ensure!(theirs == ours, "other bytes in version {other_version}: {}", hex(&ours));
            }
            (None, Err(_)) => {}
            (Some(_), Err(error)) => bail!("kafka writes version {other_version}, we refuse: {error}"),
            (None, Ok(_)) => bail!("kafka refuses version {other_version}, we write it"),
        }
    }
    Ok((key, version, is_request))
}

/// Checks that what Kafka shows is in our message under the same name.
fn compare(path: &str, theirs: &Value, ours: &Value) -> Result<()> {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (name, value) in theirs {
                // Of records the converter tells the size only.
                let (name, is_size) = match name.strip_suffix("SizeInBytes") {
                    Some(name) => (name, true),
                    None => (name.as_str(), false),
                };
                let path = format!("{path}.{name}");
                let own = ours.get(&snake_case(name)).with_context(|| format!("we have no field {path}"))?;
                if is_size {
                    let size = own.as_str().map(debug_tree::base64_length);
                    ensure!(size == value.as_u64(), "{path}: {value} bytes of records, ours {own}");
                } else {
                    compare(&path, value, own)?;
                }
            }
            Ok(())
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            ensure!(theirs.len() == ours.len(), "{path}: {} elements, ours {}", theirs.len(), ours.len());
            theirs.iter().zip(ours).try_for_each(|(theirs, ours)| compare(path, theirs, ours))
        }
        _ => {
            ensure!(theirs == ours, "{path}: {theirs}, ours {ours}");
            Ok(())
        }
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The bytes of `x0a1b`; `None` for `-`, a refusal.
fn bytes_of(word: &str) -> Result<Option<Vec<u8>>> {
    if word == "-" {
        return Ok(None);
    }
    let digits = word.strip_prefix('x').context("bytes begin with x")?;
    let pairs = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16));
    Ok(Some(pairs.collect::<Result<_, _>>()?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The list that wire's own tests are held against, made by this test from the broker's answer.
const RECORDED: &str = include_str!("../oracle/api-versions-4.3.1.txt");

#[test]
fn a_running_kafka_announces_the_versions_on_record() -> Result<()> {
    let scratch = Scratch::new()?;
    let kafka = Kafka::start(scratch.join("kafka"), &[])?;
    let mut connection = TcpStream::connect(kafka.bootstrap())?;
    for version in ApiKey::ApiVersions.served() {
        let response = ask_versions(&mut connection, version, version)?;
        ensure!(!response.error_code.is_error(), "version {version}: {}", response.error_code);
        let announced = response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version));
        let announced: BTreeSet<_> =
            announced.map(|(key, first, last)| format!("{key} {first} {last}")).collect();
        let recorded: BTreeSet<_> =
            RECORDED.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        ensure!(announced == recorded, "version {version}: kafka announces {announced:#?}");
    }
    // A version that it does not have: the same fallback that we give (KIP-511).
    let response = ask_versions(&mut connection, 77, 0)?;
    ensure!(response.error_code == ErrorCode::UNSUPPORTED_VERSION, "{}", response.error_code);
    Ok(())
}

/// Asks in a version, and reads the answer in one.
fn ask_versions(connection: &mut TcpStream, asked: i16, answered: i16) -> Result<ApiVersionsResponse> {
    let header = RequestHeader {
        key: ApiKey::ApiVersions,
        version: asked,
        correlation_id: 1_000 + i32::from(asked),
        client_id: Some("wire-oracle".into()),
    };
    // Kafka refuses a client without a name from version 3 on.
    let request =
        ApiVersionsRequest { client_software_name: "longhaul".into(), client_software_version: "1".into() };
    let frame = header.frame(&request)?.to_bytes().context("a request lies in memory")?;
    connection.write_all(&frame)?;
    let mut prefix = [0; frame::PREFIX_BYTES];
    connection.read_exact(&mut prefix)?;
    let mut body = vec![0; frame::body_length(prefix, 1 << 20)?];
    connection.read_exact(&mut body)?;
    let (correlation_id, mut reader) = header::open_response(body.into(), ApiKey::ApiVersions, answered)?;
    ensure!(correlation_id == header.correlation_id, "the answer to {correlation_id}");
    let response = ApiVersionsResponse::decode(&mut reader, answered)?;
    reader.finish()?;
    Ok(response)
}
