//! Whether a server answers yet.
//!
//! Owns: the smallest possible Kafka and HTTP questions, written by hand so that no client's retries hide anything.
//! Does not own: waiting (`deadline`).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one question may take.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Far above any answer to ApiVersions.
const ANSWER_LIMIT_BYTES: u32 = 1 << 20;

/// Whether a Kafka-protocol server answers ApiVersions, version 0, without an error.
pub fn speaks_kafka(address: SocketAddr) -> bool {
    ask_api_versions(address).unwrap_or(false)
}

fn ask_api_versions(address: SocketAddr) -> std::io::Result<bool> {
    const CORRELATION: [u8; 4] = [0x6c, 0x6f, 0x6e, 0x67];
    let mut stream = connect(address)?;
    // Request header version 1 (KIP-482): key 18, version 0, correlation id, null client id; the body is empty.
    let mut request = vec![0, 0, 0, 10, 0, 18, 0, 0];
    request.extend(CORRELATION);
    request.extend([0xff, 0xff]);
    stream.write_all(&request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if !(6..ANSWER_LIMIT_BYTES).contains(&length) {
        return Ok(false);
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer[..4] == CORRELATION && answer[4..6] == [0, 0])
}

/// Status code and body of one HTTP GET.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub fn http_get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| anyhow::anyhow!("no HTTP answer: {head}"))?, body.to_owned()))
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, ANSWER_TIME)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    Ok(stream)
}
