//! The benchmark: Longhaul and its peers, side by side, in one run.
//!
//! Owns: which measurements there are, their order, and the table that it prints at the end.
//! Does not own: starting servers (the harness), or what a good figure is (the marks stand in the table's last column).
//!
//! `tests/benchmark [--runs N] [--warm-gib N] [broker] [memory] [mirror] [replay]`
//!
//! Every figure is a median over the runs, and only ratios between two rows of one run mean anything: the machine is
//! shared, and its speed changes from hour to hour. Each server runs in a memory control group of its own that is
//! smaller than what it is warmed with, because memory that a virtual machine touches for the first time is paid for
//! by whoever touches it first. Where control groups cannot be made, the program says so, and its figures do not
//! compare.

mod broker;
mod cost;
mod memory;
mod mirror;
mod perf_tools;
mod replay;
mod table;

use std::process::ExitCode;

/// What to measure and how often.
struct Options {
    runs: usize,
    warm_gib: u64,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Broker,
    Memory,
    Mirror,
    Replay,
}

const PARTS: [(&str, Part); 4] =
    [("broker", Part::Broker), ("memory", Part::Memory), ("mirror", Part::Mirror), ("replay", Part::Replay)];

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options { runs: 5, warm_gib: 4, parts: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut number = |least: u64| -> anyhow::Result<u64> {
            let value = arguments.next().and_then(|text| text.parse().ok()).filter(|value| *value >= least);
            value.ok_or_else(|| anyhow::anyhow!("{argument} takes a whole number of at least {least}"))
        };
        match argument.as_str() {
            "--runs" => options.runs = number(1)? as usize,
            "--warm-gib" => options.warm_gib = number(0)?,
            name => match PARTS.iter().find(|(part, _)| *part == name) {
                Some((_, part)) => options.parts.push(*part),
                None => anyhow::bail!("no part is called \"{name}\": broker, memory, mirror, replay"),
            },
        }
    }
    if options.parts.is_empty() {
        options.parts = PARTS.iter().map(|(_, part)| *part).collect();
    }
    Ok(options)
}

fn run(options: Options) -> anyhow::Result<()> {
    let mut table = table::Table::default();
    for part in &options.parts {
        match part {
            Part::Broker => broker::measure(&options, &mut table)?,
            Part::Memory => memory::measure(&mut table)?,
            Part::Mirror => mirror::measure(&options, &mut table)?,
            Part::Replay => replay::measure(&options, &mut table)?,
        }
    }
    print!("{table}");
    Ok(())
}
