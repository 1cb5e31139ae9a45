//! `mirror`: flows as this process, and the questions and orders that need none running.
//!
//! Owns: from a topology file to flows, admin addresses, what people read. Does not own: anything that a flow does.

use std::path::Path;

use mirror::translate as ask;
use mirror::{Board, Direction, Failover, FlowSpec, Options, Question};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use topology::Topology;

use crate::arguments::{FlowArguments, MirrorRunArguments, MirrorVerb, TranslateArguments};
use crate::flow_subject::FlowSubject;
use crate::signals::stop_token;
use crate::topology_file;

/// Runs one verb.
pub(crate) async fn call(verb: MirrorVerb) -> anyhow::Result<()> {
    match verb {
        MirrorVerb::Run(asked) => run(&asked).await,
        MirrorVerb::Translate(asked) => translate(&asked).await,
        MirrorVerb::Failover(asked) => {
            let report = mirror::failover(&spec(&asked)?).await?;
            if asked.json {
                println!("{}", serde_json::to_string(&report)?)
            } else {
                print_failover(&report)
            }
            Ok(())
        }
        MirrorVerb::Redeclare(asked) => {
            mirror::redeclare(&spec(&asked)?).await?;
            if asked.json {
                println!("{}", json!({"flow": asked.flow, "redeclared": true}));
            } else {
                println!("flow {} copies again from where it stood, once it runs", asked.flow);
            }
            Ok(())
        }
    }
}

/// Runs flows until a signal or a drain.
async fn run(asked: &MirrorRunArguments) -> anyhow::Result<()> {
    let (file, topology) = (&asked.file.file, topology_file::load(&asked.file.file)?);
    let names: Vec<&String> =
        if asked.flows.is_empty() { topology.flows.keys().collect() } else { asked.flows.iter().collect() };
    let stop = stop_token()?;
    let board = Board::default();
    let mut specs = Vec::new();
    for name in names {
        let spec = spec_of(&topology, file, name)?;
        serve_admin(&topology, &spec, &board, &stop).await?;
        specs.push(spec);
    }
    mirror::run(specs, Options::default(), board, stop).await;
    Ok(())
}

async fn serve_admin(
    topology: &Topology,
    spec: &FlowSpec,
    board: &Board,
    stop: &CancellationToken,
) -> Result<(), control::ListenError> {
    let admin = topology.flows[&spec.name].admin.to_string();
    let subject = FlowSubject::start(spec.clone(), board.clone(), stop.clone());
    let bound = control::serve(&admin, subject, stop.clone()).await?;
    tracing::info!(flow = %spec.name, admin = %bound, "control, metrics and health");
    Ok(())
}

async fn translate(asked: &TranslateArguments) -> anyhow::Result<()> {
    let direction = if asked.reverse { Direction::ToSource } else { Direction::ToTarget };
    let question =
        Question { topic: asked.topic.clone(), partition: asked.partition, offset: asked.offset, direction };
    let answer = ask(&spec(&asked.flow)?, &question).await?;
    if asked.flow.json {
        println!("{}", json!({"kind": answer.kind(), "offset": answer.offset()}));
    } else {
        println!("{answer}");
    }
    Ok(())
}

fn spec(asked: &FlowArguments) -> anyhow::Result<FlowSpec> {
    let topology = topology_file::load(&asked.file.file)?;
    Ok(spec_of(&topology, &asked.file.file, &asked.flow)?)
}

fn spec_of(topology: &Topology, file: &Path, name: &str) -> Result<FlowSpec, topology_file::FileError> {
    topology_file::flow(topology, file, name)?;
    Ok(FlowSpec::from_topology(topology, name).expect("a checked file has the flow and both its clusters"))
}

fn print_failover(report: &Failover) {
    println!(
        "flow {0} is promoted and stays stopped until `longhaul mirror redeclare FILE {0}`",
        report.flow
    );
    for (partition, (source, target)) in &report.promotion.positions {
        println!("  {partition}: copied up to source offset {source}, target offset {target}");
    }
    for group in &report.groups {
        let place = format!("group {} on {}-{}", group.group, group.topic, group.partition);
        match (group.from, group.at_most()) {
            (Some(from), Some(0)) => {
                let reason = group.reason.as_deref().unwrap_or("nothing is read again");
                println!("  {place} goes on at {from}: {reason}");
            }
            (Some(from), Some(at_most)) => {
                println!(
                    "  {place} goes on at {from}: {from} to {} ({at_most} offsets at most) may be read again",
                    group.to
                );
            }
            _ => {
                let reason = group.reason.as_deref().unwrap_or("it was never synced");
                println!("  {place} has no position: {reason}");
            }
        }
    }
    for missing in &report.not_synced {
        println!(
            "  group {} on {}-{} is not synced: it reads by its own auto.offset.reset; earliest reads up to {} again, \
             latest skips them",
            missing.group, missing.topic, missing.partition, missing.to
        );
    }
    match &report.sync_pass {
        Some(pass) => println!(
            "  groups are as the source had them {:.1} s ago; one that first committed after that has no position here",
            (crate::clock::now_ms() - pass.at_ms) as f64 / 1_000.0
        ),
        None => println!("  no group was ever looked at: each begins where its own settings say"),
    }
    for event in &report.unsettled {
        println!("  UNSETTLED {event}");
    }
}
