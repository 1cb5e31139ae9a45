//! kill -9 of the mirror process at every step of the copier, and connections cut there: no record is lost or doubled,
//! and every offset is translated both ways as brute force has it. A proxy before the target holds the one request, or
//! the one answer, that ends the step.

use std::time::Duration;

use mirror::map_topic::MAP_TOPIC;
use tests::clients::java::{self, Tool};
use tests::deadline::{Deadline, sleep};
use tests::fault_proxy::{FaultProxy, Point, Trap};
use tests::flow::Flow;
use tests::flow_source;
use tests::longhaul::Verb;
use tests::oracle;
use tests::scratch::Scratch;
use tests::server::{Kind, Server};
use wire::Request;
use wire::batch::{Batches, Records};

pub(crate) const PARTITIONS: [(&str, i32); 3] = [("events", 0), ("events", 1), ("cut", 0)];
const GROUP: &str = "readers";

/// Whether a request writes a record of this kind to the map topic.
fn writes_map(request: &Request, prefix: &str, holding: &str) -> bool {
    let Request::Produce(request) = request else { return false };
    let topics = request.topic_data.iter().filter(|topic| *topic.name == *MAP_TOPIC);
    let batches = topics.flat_map(|topic| &topic.partition_data).filter_map(|data| data.records.as_ref());
    let holds = |bytes: &[u8]| {
        Batches::new(bytes).map_while(Result::ok).any(|batch| {
            let mut records = Records::new(&batch, 1 << 24);
            while let Ok(Some(record)) = records.next_record() {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                if record.key.is_some_and(|key| key.starts_with(prefix.as_bytes())) && value.contains(holding)
                {
                    return true;
                }
            }
            false
        })
    };
    batches.filter_map(|records| records.as_bytes()).any(|bytes| holds(bytes))
}

fn writes_data(request: &Request) -> bool {
    matches!(request, Request::Produce(request) if request.topic_data.iter().all(|topic| *topic.name != *MAP_TOPIC))
}

fn moves_group(request: &Request) -> bool {
    matches!(request, Request::OffsetCommit(request) if *request.group_id == *GROUP)
}

type Matches = fn(&Request) -> bool;

fn is_intent(request: &Request) -> bool {
    writes_map(request, "progress/", "\"intents\"")
}

fn is_block(request: &Request) -> bool {
    writes_map(request, "block/", "")
}

fn is_claim(request: &Request) -> bool {
    writes_map(request, "claim/", "")
}

pub(crate) struct World {
    _scratch: Scratch,
    source: Server,
    target: Server,
    proxy: FaultProxy,
    pub(crate) flow: Flow,
    pub(crate) mirror: Verb,
    pub(crate) generation: u64,
    turn: usize,
    /// Whether records are of today; brokers forget the producers of others at once.
    recent: bool,
    read: usize,
}

impl World {
    pub(crate) async fn start(to: Kind) -> Self {
        let scratch = Scratch::new().unwrap();
        let source = Server::start(Kind::Kafka, scratch.join("old"), &[]).unwrap();
        let proxy = FaultProxy::listen().unwrap();
        let settings = [("producer.id.expiration.check.interval.ms", "500")];
        let target = Server::start_behind(&proxy, to, scratch.join("new"), &settings).unwrap();
        flow_source::call(&["fill", &source.bootstrap(), "transactions", "recent"]).unwrap();
        let ends = (&*source.bootstrap(), &*proxy.address());
        let flow = Flow::declare(scratch.path(), "old-to-new", ends, "topics = [\"*\"]").unwrap();
        let mirror = flow.run().unwrap();
        let generation = flow.caught_up(&PARTITIONS).await.unwrap().generation;
        Self {
            _scratch: scratch,
            source,
            target,
            proxy,
            flow,
            mirror,
            generation,
            turn: 20,
            recent: true,
            read: 0,
        }
    }

    fn trap(&self, point: Point, matches: Matches) -> Trap {
        self.proxy.trap(point, matches)
    }

    pub(crate) fn write(&mut self) {
        self.turn += 1;
        let turn = self.turn.to_string();
        let mut arguments = vec!["more", &*turn, "transactions"];
        arguments.extend(self.recent.then_some("recent"));
        let bootstrap = self.source.bootstrap();
        arguments.insert(1, &bootstrap);
        flow_source::call(&arguments).unwrap();
    }

    fn move_group(&mut self) {
        self.read +=
            flow_source::read_as_group(&self.source.bootstrap(), GROUP, 5, "earliest").unwrap().len();
    }

    pub(crate) fn kill(&mut self) {
        self.mirror.kill9().unwrap();
    }

    fn start_again(&mut self) {
        self.mirror.restart().unwrap();
    }

    /// Another owner has come, and what it copied is as it must be.
    pub(crate) async fn check(&mut self, step: &str) {
        let generation = self.generation;
        let newer = self.flow.wait_for("a takeover", |status| status.generation > generation).await.unwrap();
        self.generation = newer.generation;
        self.check_copy(step).await;
    }

    async fn check_copy(&self, step: &str) {
        self.flow.caught_up(&PARTITIONS).await.unwrap_or_else(|error| panic!("{step}: {error:#}"));
        oracle::check(&self.flow, &PARTITIONS).await.unwrap_or_else(|error| panic!("{step}: {error:#}"));
        println!("{step}: every record once, every offset as it must be");
    }

    async fn kill_at(&mut self, step: &str, point: Point, matches: Matches) {
        let trap = self.trap(point, matches);
        match step.starts_with("group") {
            true => self.move_group(),
            false => self.write(),
        }
        trap.wait(&Deadline::seconds(30)).unwrap_or_else(|error| panic!("{step}: {error:#}"));
        self.kill();
        drop(trap);
        self.start_again();
        self.check(step).await;
    }
}

pub(crate) async fn kill_at_every_step(to: Kind) {
    let mut world = World::start(to).await;
    let steps: [(&str, Point, Matches); 8] = [
        ("intent not written", Point::BeforeServer, is_intent),
        ("intent written", Point::AfterServer, is_intent),
        ("not produced", Point::BeforeServer, writes_data),
        ("produced, not acknowledged", Point::AfterServer, writes_data),
        ("map not written", Point::BeforeServer, is_block),
        ("map written", Point::AfterServer, is_block),
        ("group not synced", Point::BeforeServer, moves_group),
        ("group synced", Point::AfterServer, moves_group),
    ];
    for (step, point, matches) in steps {
        world.kill_at(step, point, matches).await;
    }
    world.kill_during_recovery().await;
    world.late_requests().await;
    world.check_group().await;
    if to == Kind::Kafka {
        world.forgotten_producers().await;
    }
}

impl World {
    /// An owner dies; so does the next one, in its claim and in its first write of progress.
    async fn kill_during_recovery(&mut self) {
        let trap = self.trap(Point::AfterServer, writes_data);
        self.write();
        trap.wait(&Deadline::seconds(30)).unwrap();
        self.kill();
        drop(trap);
        for (point, matches) in [
            (Point::AfterServer, is_claim as Matches),
            (Point::BeforeServer, |request| writes_map(request, "progress/", "")),
        ] {
            let trap = self.trap(point, matches);
            self.start_again();
            trap.wait(&Deadline::seconds(30)).unwrap();
            self.kill();
            drop(trap);
        }
        self.start_again();
        self.check("two owners died while they recovered").await;
    }

    /// A request of a dead owner reaches the target late: before the next owner looks, between its look and its
    /// repetition, and after it has taken over.
    async fn late_requests(&mut self) {
        let trap = self.trap(Point::BeforeServer, writes_data);
        self.write();
        trap.wait(&Deadline::seconds(30)).unwrap();
        self.kill();
        trap.release();
        self.start_again();
        self.check("a late request came before the next owner looked").await;

        let late = self.trap(Point::BeforeServer, writes_data);
        self.write();
        late.wait(&Deadline::seconds(30)).unwrap();
        self.kill();
        let repeated = self.trap(Point::BeforeServer, writes_data);
        self.start_again();
        repeated.wait(&Deadline::seconds(40)).unwrap();
        late.release();
        sleep(Duration::from_millis(300));
        repeated.release();
        self.check("a late request came before its repetition").await;

        let late = self.trap(Point::BeforeServer, writes_data);
        self.write();
        late.wait(&Deadline::seconds(30)).unwrap();
        self.kill();
        self.start_again();
        self.check("an owner took over while a request was on its way").await;
        self.write();
        self.check_copy("the new owner went on").await;
        late.release();
        sleep(Duration::from_millis(500));
        self.write();
        self.check_copy("a late request came after the takeover").await;
    }

    /// The group's place is where brute force has it.
    async fn check_group(&mut self) {
        let source = tests::flow::connect(&self.source.bootstrap()).await.unwrap();
        let there = source.group(GROUP).positions(None, false).await.unwrap();
        let synced = self.flow.wait_for("the group's sync", |status| {
            there.iter().all(|(partition, position)| {
                status.groups.iter().any(|group| {
                    group.group == GROUP
                        && (&*group.topic, group.partition) == (&*partition.topic, partition.partition)
                        && group.source == position.offset.0
                        && group.reason.is_none()
                })
            })
        });
        synced.await.unwrap();
        // The group goes on at the target at the next record.
        let rest = flow_source::read_as_group(&self.proxy.address(), GROUP, 100_000, "earliest").unwrap();
        let target = tests::flow::connect(&self.proxy.address()).await.unwrap();
        let mut all = 0;
        for partition in 0..2 {
            let log = oracle::read(&target, &client::TopicPartition::new("events", partition)).await.unwrap();
            all += log.records.len();
        }
        assert_eq!(self.read + rest.len(), all, "none read twice, none skipped");
    }

    /// The target forgets producers after a second: the connection is cut after the append, the process lives or dies.
    async fn forgotten_producers(&mut self) {
        let setting = ["--alter", "--entity-type", "brokers", "--entity-default", "--add-config"];
        let target = self.target.bootstrap();
        let mut arguments = vec!["--bootstrap-server", &target];
        arguments.extend(setting);
        arguments.push("producer.id.expiration.ms=1000");
        java::call(Tool::Configs, &arguments, &[]).unwrap();
        self.recent = false;

        let trap = self.trap(Point::AfterServer, writes_data);
        self.write();
        trap.wait(&Deadline::seconds(30)).unwrap();
        sleep(Duration::from_secs(3));
        drop(trap);
        self.check_copy("the connection was cut after the append, and the producer forgotten").await;

        let trap = self.trap(Point::AfterServer, writes_data);
        self.write();
        trap.wait(&Deadline::seconds(30)).unwrap();
        self.kill();
        sleep(Duration::from_secs(3));
        drop(trap);
        self.start_again();
        self.check("the owner died after the append, and the producer was forgotten").await;

        // What nobody can prevent there, a late request that is stored twice, is at least said.
        let late = self.trap(Point::BeforeServer, writes_data);
        self.write();
        late.wait(&Deadline::seconds(30)).unwrap();
        self.kill();
        self.start_again();
        self.check("an owner took over while a request was on its way").await;
        sleep(Duration::from_secs(3));
        late.release();
        sleep(Duration::from_millis(500));
        self.write();
        let said = self.flow.wait_for("the event", |status| !status.events.is_empty()).await.unwrap();
        assert!(said.events[0].to_string().contains("stored there late and twice"), "{:?}", said.events);
    }
}
