//! Structured log lines on standard error.
//!
//! Owns: their form and filter. Does not own: what is logged; an error is logged where it is consumed, once.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::arguments::LogFormat;

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
#[error("--log {filter}: {source}; write a level such as info, or rooms such as info,hotlog=debug")]
pub(crate) struct FilterError {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Starts logging for the whole process.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let parsed =
        EnvFilter::try_new(filter).map_err(|source| FilterError { filter: filter.to_owned(), source })?;
    let colours = std::io::stderr().is_terminal();
    let lines =
        tracing_subscriber::fmt().with_env_filter(parsed).with_ansi(colours).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.finish().init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().init(),
    }
    Ok(())
}
