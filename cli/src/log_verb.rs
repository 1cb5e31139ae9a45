//! `log`: looking after the log of a broker that runs, from the command line.
//!
//! Owns: how the answers are printed. Does not own: asking (`control`), what is written (`hotlog`).

use control::AskError;

use crate::arguments::LogVerb;

/// Runs one verb.
pub(crate) async fn call(verb: LogVerb) -> Result<(), AskError> {
    match verb {
        LogVerb::Flush(asked) => {
            let admin = asked.admin.to_string();
            control::ask_flush_log(&admin).await?;
            println!("flushed: the segment files of the broker at {admin} hold what it had acknowledged");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Verb};

    #[tokio::test]
    async fn who_asks_a_broker_that_does_not_run_hears_so() {
        let line = ["longhaul", "log", "flush", "--admin", "127.0.0.1:1"];
        let Verb::Log(verb) = Arguments::try_parse_from(line).unwrap().verb else {
            panic!("another verb");
        };
        let error = call(verb).await.unwrap_err().to_string();
        assert!(error.contains("nothing answers at admin address 127.0.0.1:1"), "{error}");
    }
}
