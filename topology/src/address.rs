//! `HOST:PORT`, checked once.
//!
//! Owns: the grammar of an address and whether it is a loopback one.
//! Does not own: name resolution.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A host name or IP address with a port; IPv6 addresses stand in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// The TCP port; 0 lets the system choose when listening.
    pub port: u16,
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// No colon, so no port.
    NoPort,
    /// The port is no number from 0 to 65535.
    BadPort(String),
    /// The host is empty or holds a character that no host name has.
    BadHost(String),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPort => write!(f, "an address is HOST:PORT, and the port is missing"),
            Self::BadPort(port) => write!(f, "\"{port}\" is no port: write a number from 0 to 65535"),
            Self::BadHost(host) => write!(f, "\"{host}\" is no host name or IP address"),
        }
    }
}

impl std::error::Error for AddressError {}

impl Address {
    /// Whether only this machine can reach the address: a loopback IP or `localhost`.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }

    /// The same host at another port.
    pub fn with_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        let port = port.parse().map_err(|_| AddressError::BadPort(port.to_owned()))?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let valid = match bare {
            Some(inner) => matches!(inner.parse(), Ok(IpAddr::V6(_))),
            None => {
                !host.is_empty()
                    && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
            }
        };
        if !valid {
            return Err(AddressError::BadHost(host.to_owned()));
        }
        Ok(Self { host: bare.unwrap_or(host).to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
