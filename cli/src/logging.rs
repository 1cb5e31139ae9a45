//! Structured log lines on standard error.
//!
//! Owns: their form and filter. Does not own: what is logged; an error is logged where it is consumed, once.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::arguments::LogFormat;

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
#[error("--log {filter}: {source}; write a level such as info, or rooms such as info,hotlog=debug")]
pub(crate) struct FilterError {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// The libraries between us and an object store (all whose name begins so). At info they tell of every request that they try
/// again, which may yet work; of what did not, we tell by ourselves.
const STORE_LIBRARIES: &str = "object_store=warn,aws=warn";

/// Starts logging for the whole process.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let parsed = parse(filter)?;
    let colours = std::io::stderr().is_terminal();
    let lines =
        tracing_subscriber::fmt().with_env_filter(parsed).with_ansi(colours).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.finish().init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().init(),
    }
    Ok(())
}

/// The filter; where it asks for info of everything, it gets warnings of the store's libraries, unless it names them too.
fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    let parts = filter.split(',').filter(|part| !part.is_empty());
    // A part that is no level is about one name.
    let mut levels = parts.filter_map(|part| part.trim().parse::<LevelFilter>().ok());
    let asked = if levels.next_back() == Some(LevelFilter::INFO) {
        // Of two directives for one name the second counts, and of two that fit, that for the longer name.
        format!("{STORE_LIBRARIES},{filter}")
    } else {
        filter.to_owned()
    };
    EnvFilter::try_new(asked).map_err(|source| FilterError { filter: filter.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Which lines pass: ours at info, those of the two libraries at info, theirs at warn.
    fn passing(filter: &str) -> [bool; 5] {
        let subscriber = tracing_subscriber::registry().with(parse(filter).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            [
                enabled!(target: "tiering::store", Level::INFO),
                enabled!(target: "object_store::client::retry", Level::INFO),
                enabled!(target: "aws_smithy_runtime::client", Level::INFO),
                enabled!(target: "object_store::client::retry", Level::WARN),
                enabled!(target: "aws_smithy_runtime::client", Level::WARN),
            ]
        })
    }

    /// One test for all filters: which lines pass is remembered for the whole process, and judged anew for each filter.
    #[test]
    fn what_the_stores_libraries_try_again_is_no_line_of_ours_unless_asked_for() {
        for filter in ["info", "info,hotlog=debug", "3"] {
            assert_eq!(passing(filter), [true, false, false, true, true], "{filter}");
        }
        assert_eq!(passing("info,object_store=info"), [true, true, false, true, true]);
        assert_eq!(passing("aws_smithy_runtime=info,info"), [true, false, true, true, true]);
        assert_eq!(passing("debug"), [true; 5]);
        // Whoever wants less gets no warnings instead.
        assert_eq!(passing("error"), [false; 5]);
        assert!(parse("info,=").unwrap_err().to_string().starts_with("--log info,=:"));
    }
}
