//! Groups against hand-written histories and against random ones.

use bytes::Bytes;
use proptest::prelude::*;
use wire::ErrorCode;
use wire::ids::TopicId;

use super::group::{Action, Caller, Group, Join, JoinAnswer, Phase, Sync, SyncAnswer};
use super::member::Protocol;
use super::records::{GroupValue, Key, MemberValue, OffsetValue};
use super::{Token, partition_for};

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Bytes that Apache Kafka 4.3.1 wrote.
#[test]
fn records_are_kafkas_own_bytes() {
    let key = Key::Offset { group: "group-a".into(), topic: "flights".into(), partition: 3 };
    let golden = bytes("0001000767726f75702d610007666c696768747300000003");
    assert_eq!(key.encode(), golden);
    assert_eq!(Key::decode(&golden), Ok(key));
    let key = Key::Group("group-a".into());
    assert_eq!(key.encode(), bytes("0002000767726f75702d61"));
    assert_eq!(Key::decode(&key.encode()), Ok(key));
    assert_eq!(Key::decode(&bytes("0003")), Ok(Key::Foreign(3)));

    let topic_id = TopicId(bytes("0102030405060708090a0b0c0d0e0f10").try_into().unwrap());
    let value = OffsetValue {
        offset: 42,
        leader_epoch: 7,
        metadata: "meta".into(),
        commit_timestamp: 1_700_000_000_123,
        expire_timestamp: None,
        topic_id: Some(topic_id),
    };
    let golden =
        "0004000000000000002a00000007056d6574610000018bcfe5687b0100100102030405060708090a0b0c0d0e0f10";
    assert_eq!(value.encode(), bytes(golden));
    assert_eq!(OffsetValue::decode(&bytes(golden)), Ok(value.clone()));
    let third = OffsetValue { topic_id: None, ..value };
    assert_eq!(third.encode(), bytes("0003000000000000002a0000000700046d6574610000018bcfe5687b"));
    for (old, expires) in [
        ("0000000000000000002a00046d6574610000018bcfe5687b", None),
        ("0001000000000000002a00046d6574610000018bcfe5687b0000018bcfe58f0f", Some(1_700_000_009_999)),
        ("0002000000000000002a00046d6574610000018bcfe5687b", None),
    ] {
        let expected = OffsetValue { leader_epoch: -1, expire_timestamp: expires, ..third.clone() };
        assert_eq!(OffsetValue::decode(&bytes(old)), Ok(expected));
    }
}

#[test]
fn group_records_are_kafkas_own_bytes() {
    let member = MemberValue {
        member_id: "m-1".into(),
        group_instance_id: Some("inst".into()),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 300_000,
        session_timeout_ms: 45_000,
        subscription: Bytes::from_static(&[1, 2]),
        assignment: Bytes::from_static(&[3]),
    };
    let value = GroupValue {
        protocol_type: "consumer".into(),
        generation: 5,
        protocol: Some("range".into()),
        leader: Some("m-1".into()),
        current_state_timestamp: 1_700_000_000_123,
        members: vec![member.clone()],
    };
    let third = "00030008636f6e73756d657200000005000572616e676500036d2d310000018bcfe5687b0000000100036d2d310004696e7374000163000a2f3132372e302e302e31000493e00000afc80000000201020000000103";
    assert_eq!(value.encode(), bytes(third));
    let fourth = "000409636f6e73756d6572000000050672616e6765046d2d310000018bcfe5687b02046d2d3105696e737402630b2f3132372e302e302e31000493e00000afc803010202030000";
    for golden in [third, fourth] {
        assert_eq!(GroupValue::decode(&bytes(golden)), Ok(value.clone()));
    }
    let second = "00020008636f6e73756d657200000005000572616e676500036d2d310000018bcfe5687b0000000100036d2d31000163000a2f3132372e302e302e31000493e00000afc80000000201020000000103";
    let without = GroupValue {
        members: vec![MemberValue { group_instance_id: None, ..member.clone() }],
        ..value.clone()
    };
    assert_eq!(GroupValue::decode(&bytes(second)), Ok(without));
    let zeroth = "00000008636f6e73756d657200000005000572616e676500036d2d310000000100036d2d31000163000a2f3132372e302e302e310000afc80000000201020000000103";
    let old = GroupValue {
        current_state_timestamp: -1,
        members: vec![MemberValue { group_instance_id: None, rebalance_timeout_ms: 45_000, ..member }],
        ..value
    };
    assert_eq!(GroupValue::decode(&bytes(zeroth)), Ok(old));
    let empty = "00030008636f6e73756d657200000006ffffffffffffffffffffffff00000000";
    let decoded = GroupValue::decode(&bytes(empty)).unwrap();
    assert_eq!((decoded.generation, decoded.members.len(), decoded.current_state_timestamp), (6, 0, -1));
    assert_eq!(decoded.encode(), bytes(empty));
    for end in 0..bytes(third).len() {
        assert!(GroupValue::decode(&bytes(third)[..end]).is_err());
    }
}

/// Apache Kafka put group `g1` there.
#[test]
fn groups_live_where_kafka_looks_for_them() {
    assert_eq!(partition_for("g1"), 42);
    assert_eq!(partition_for(""), 0);
    assert!((0..50).contains(&partition_for("gruppe-ä-💥")));
}

const REBALANCE_MS: i64 = 60_000;
const SESSION_MS: i64 = 10_000;

/// A group with a clock and numbered answers.
struct Scene {
    group: Group,
    now_ms: i64,
    next: u64,
}

impl Scene {
    fn new(initial_delay_ms: i64) -> Self {
        Self { group: Group::new("g", initial_delay_ms, 0), now_ms: 0, next: 0 }
    }

    fn join_with(&mut self, member_id: &str, change: impl FnOnce(&mut Join)) -> (Token, Vec<Action>) {
        self.next += 1;
        let mut join = Join {
            token: Token(self.next),
            member_id: member_id.to_owned(),
            instance_id: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: REBALANCE_MS,
            session_timeout_ms: SESSION_MS,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(&[1]) }],
            require_known_member_id: false,
            understands_skip: true,
            fresh_member_id: format!("m-{}", self.next),
        };
        change(&mut join);
        (Token(self.next), self.group.join(join, self.now_ms))
    }

    fn join(&mut self, member_id: &str) -> (Token, Vec<Action>) {
        self.join_with(member_id, |_| {})
    }

    fn sync(&mut self, member_id: &str, generation: i32, parts: &[(&str, u8)]) -> (Token, Vec<Action>) {
        self.next += 1;
        let sync = Sync {
            token: Token(self.next),
            caller: caller(member_id, generation),
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignments: parts
                .iter()
                .map(|(id, part)| ((*id).to_owned(), Bytes::copy_from_slice(&[*part])))
                .collect(),
        };
        (Token(self.next), self.group.sync(sync, self.now_ms))
    }

    /// One member, joined, synced and stable; its id.
    fn stable_alone() -> (Self, String) {
        let mut scene = Self::new(0);
        let (token, actions) = scene.join("");
        let id = joined(&actions, token).member_id.clone();
        let (_, actions) = scene.sync(&id, 1, &[(&id, 7)]);
        assert_eq!(actions, [Action::Persist(1)]);
        let actions = scene.group.persisted(1, true, 0);
        assert!(
            matches!(&actions[..], [Action::Synced(_, SyncAnswer { assignment, .. })] if assignment[..] == [7])
        );
        (scene, id)
    }
}

fn caller(member_id: &str, generation: i32) -> Caller {
    Caller { member_id: member_id.to_owned(), instance_id: None, generation }
}

fn joined(actions: &[Action], token: Token) -> &JoinAnswer {
    let found = actions.iter().find_map(|action| match action {
        Action::Joined(of, answer) if *of == token => Some(answer),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no answer to {token:?} in {actions:?}"))
}

#[test]
fn a_new_member_must_come_back_with_its_id() {
    let mut scene = Scene::new(0);
    let (token, actions) = scene.join_with("", |join| join.require_known_member_id = true);
    let answer = joined(&actions, token);
    assert_eq!((answer.error, answer.member_id.as_str()), (ErrorCode::MEMBER_ID_REQUIRED, "m-1"));
    let (token, actions) = scene.join_with("m-1", |join| join.require_known_member_id = true);
    let answer = joined(&actions, token);
    assert_eq!((answer.error, answer.generation, answer.leader.as_str()), (ErrorCode::NONE, 1, "m-1"));
    // An id that was never given is unknown, and one given is forgotten after a session.
    let (token, actions) = scene.join("stranger");
    assert_eq!(joined(&actions, token).error, ErrorCode::UNKNOWN_MEMBER_ID);
    scene.join_with("", |join| join.require_known_member_id = true);
    scene.now_ms = SESSION_MS + 1;
    scene.group.tick(scene.now_ms);
    let (token, actions) = scene.join("m-4");
    assert_eq!(joined(&actions, token).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    let mut scene = Scene::new(3_000);
    let (first, actions) = scene.join("");
    assert!(actions.is_empty());
    scene.now_ms = 2_000;
    let (second, actions) = scene.join("");
    assert!(actions.is_empty());
    // A member came during the wait, so it is waited once more.
    assert!(scene.group.tick(3_000).is_empty());
    let actions = scene.group.tick(6_000);
    assert_eq!(joined(&actions, first).members.len(), 2);
    assert!(joined(&actions, second).members.is_empty(), "only the leader sees the members");
    assert_eq!(scene.group.phase(), Phase::CompletingRebalance);
}

#[test]
fn a_member_that_falls_silent_is_dropped_and_the_rest_rebalance() {
    let (mut scene, first) = Scene::stable_alone();
    let (second, _) = scene.join("");
    assert_eq!(scene.group.phase(), Phase::PreparingRebalance);
    assert_eq!(scene.group.heartbeat(&caller(&first, 1), 0), Err(ErrorCode::REBALANCE_IN_PROGRESS));
    // The first never joins again: its session ends the wait, long before the rebalance's own time.
    let actions = scene.group.tick(SESSION_MS);
    let answer = joined(&actions, second);
    assert_eq!((answer.generation, answer.members.len()), (2, 1));
    assert_eq!(scene.group.heartbeat(&caller(&first, 1), SESSION_MS), Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[test]
fn whoever_does_not_sync_in_time_is_dropped() {
    let mut scene = Scene::new(0);
    let (_, actions) = scene.join("");
    let Action::Joined(_, answer) = &actions[0] else { panic!("{actions:?}") };
    let id = answer.member_id.clone();
    for at_ms in (0..REBALANCE_MS).step_by(5_000) {
        scene.group.heartbeat(&caller(&id, 1), at_ms).unwrap();
    }
    let actions = scene.group.tick(REBALANCE_MS);
    assert_eq!(scene.group.phase(), Phase::Empty, "{actions:?}");
    assert!(actions.contains(&Action::Persist(2)));
}

#[test]
fn wrong_generations_protocols_and_bounds_are_refused() {
    let (mut scene, id) = Scene::stable_alone();
    assert_eq!(scene.group.heartbeat(&caller(&id, 0), 0), Err(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(scene.group.check_commit(&caller(&id, 9), 0), Err(ErrorCode::ILLEGAL_GENERATION));
    assert_eq!(scene.group.check_commit(&caller("", -1), 0), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(scene.group.check_commit(&caller(&id, 1), 0), Ok(()));
    assert_eq!(scene.group.delete(), Err(ErrorCode::NON_EMPTY_GROUP));
    let code = |(token, actions): (Token, Vec<Action>)| joined(&actions, token).error;
    let other = |join: &mut Join| join.protocols[0].name = "sticky".into();
    assert_eq!(code(scene.join_with("", other)), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let connect = |join: &mut Join| join.protocol_type = "connect".into();
    assert_eq!(code(scene.join_with("", connect)), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(
        code(scene.join_with("", |join| join.session_timeout_ms = 0)),
        ErrorCode::INVALID_SESSION_TIMEOUT
    );
    let (token, actions) = scene.sync(&id, 0, &[]);
    assert_eq!(actions, [Action::Synced(token, SyncAnswer::refused(ErrorCode::ILLEGAL_GENERATION))]);
    assert_eq!(scene.group.leave("stranger", None, 0).0, Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(scene.group.leave(&id, None, 0).0, Ok(()));
    assert_eq!(scene.group.phase(), Phase::Empty);
    assert_eq!(scene.group.check_commit(&caller("", -1), 0), Ok(()), "a plain commit to an empty group");
}

#[test]
fn a_group_has_a_thousand_members_at_most() {
    let mut scene = Scene::new(3_000);
    for _ in 0..super::MAX_MEMBERS_PER_GROUP {
        assert!(scene.join("").1.is_empty());
    }
    let (token, actions) = scene.join("");
    assert_eq!(joined(&actions, token).error, ErrorCode::GROUP_MAX_SIZE_REACHED);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_its_predecessor() {
    let mut scene = Scene::new(0);
    let as_static = |join: &mut Join| join.instance_id = Some("node-a".into());
    let (token, actions) = scene.join_with("", as_static);
    let old = joined(&actions, token).member_id.clone();
    scene.sync(&old, 1, &[(&old, 7)]);
    scene.group.persisted(1, true, 0);
    let (token, actions) = scene.join_with("", as_static);
    assert_eq!(
        actions,
        [Action::PersistReplacement(1, token)],
        "the new member id is recorded before it is told"
    );
    let actions = scene.group.replacement_persisted(token, true, 0);
    let answer = joined(&actions, token);
    assert_eq!((answer.error, answer.generation, answer.skip_assignment), (ErrorCode::NONE, 1, true));
    assert_ne!(answer.member_id, old);
    let new = answer.member_id.clone();
    let (token, actions) = scene.sync(&new, 1, &[]);
    assert!(
        matches!(&actions[..], [Action::Synced(of, answer)] if *of == token && answer.assignment[..] == [7])
    );
    let fenced = Caller { instance_id: Some("node-a".into()), ..caller(&old, 1) };
    assert_eq!(scene.group.heartbeat(&fenced, 0), Err(ErrorCode::FENCED_INSTANCE_ID));
    assert_eq!(scene.group.heartbeat(&caller(&old, 1), 0), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(scene.group.leave("", Some("node-a"), 0).0, Ok(()));
}

/// A stable group of one static member that has come back, its record under way; its old id, and the answer that it waits for.
fn static_member_back() -> (Scene, String, Token) {
    let mut scene = Scene::new(0);
    let as_static = |join: &mut Join| join.instance_id = Some("node-a".into());
    let (token, actions) = scene.join_with("", as_static);
    let old = joined(&actions, token).member_id.clone();
    scene.sync(&old, 1, &[(&old, 7)]);
    scene.group.persisted(1, true, 0);
    let (token, actions) = scene.join_with("", as_static);
    assert_eq!(actions, [Action::PersistReplacement(1, token)]);
    (scene, old, token)
}

#[test]
fn a_new_id_of_a_static_member_that_could_not_be_recorded_is_taken_back() {
    let (mut scene, old, token) = static_member_back();
    let actions = scene.group.replacement_persisted(token, false, 0);
    assert_eq!(
        actions,
        [Action::Joined(token, JoinAnswer::refused(ErrorCode::COORDINATOR_NOT_AVAILABLE, ""))]
    );
    let record = scene.group.to_record();
    assert_eq!((record.leader.as_deref(), record.members.len()), (Some(old.as_str()), 1));
    assert_eq!(
        (record.members[0].member_id.as_str(), &record.members[0].assignment[..]),
        (old.as_str(), &[7][..])
    );
    let as_before = Caller { instance_id: Some("node-a".into()), ..caller(&old, 1) };
    assert_eq!(scene.group.heartbeat(&as_before, 0), Ok(()));
    assert!(scene.group.replacement_persisted(token, true, 0).is_empty(), "it is answered once");
}

#[test]
fn a_rebalance_answers_the_static_member_whose_record_is_under_way() {
    let (mut scene, _, token) = static_member_back();
    let (other, actions) = scene.join("");
    assert_eq!((joined(&actions, token).generation, joined(&actions, other).generation), (2, 2));
    assert!(scene.group.replacement_persisted(token, false, 0).is_empty());
    assert_eq!(scene.group.phase(), Phase::CompletingRebalance);
}

#[test]
fn a_failed_record_starts_over_and_tells_everybody() {
    let mut scene = Scene::new(0);
    let (token, actions) = scene.join("");
    let id = joined(&actions, token).member_id.clone();
    let (token, _) = scene.sync(&id, 1, &[(&id, 7)]);
    let actions = scene.group.persisted(1, false, 0);
    assert_eq!(actions, [Action::Synced(token, SyncAnswer::refused(ErrorCode::COORDINATOR_NOT_AVAILABLE))]);
    assert_eq!(scene.group.phase(), Phase::PreparingRebalance);
}

#[test]
fn a_restored_group_keeps_its_members_for_a_session() {
    let (scene, id) = Scene::stable_alone();
    let record = GroupValue::decode(&scene.group.to_record().encode()).unwrap();
    let mut restored = Group::new("g", 0, 1_000);
    restored.restore(record.clone(), 1_000);
    assert_eq!(restored.heartbeat(&caller(&id, 1), 1_000 + SESSION_MS - 1), Ok(()));
    assert_eq!(restored.to_record().members, record.members);
    restored.tick(1_000 + 3 * SESSION_MS);
    assert_eq!(restored.phase(), Phase::Empty);
}

#[derive(Clone, Debug)]
enum Event {
    Join { member: usize, new: bool, is_static: bool, sticky: bool },
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    Wait(i64),
    Persisted(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5usize, any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(member, new, is_static, sticky)| Event::Join { member, new, is_static, sticky }),
        4 => (0..5usize).prop_map(Event::Sync),
        2 => (0..5usize).prop_map(Event::Heartbeat),
        1 => (0..5usize).prop_map(Event::Leave),
        2 => (0..20_000i64).prop_map(Event::Wait),
        3 => any::<bool>().prop_map(Event::Persisted),
    ]
}

proptest! {
    /// Whatever happens: generations never go back, every request is answered once and in the end, nobody is leader
    /// who is no member, and a group that is left alone becomes empty.
    #[test]
    fn groups_keep_their_promises(events in proptest::collection::vec(event(), 1..120)) {
        let mut scene = Scene::new(3_000);
        let mut ids: Vec<String> = vec![String::new(); 5];
        let mut asked = std::collections::HashMap::new();
        let mut generation = 0;
        let (mut to_persist, mut replacements) = (None, Vec::new());
        let drain = events.iter().cloned().chain((0..40).flat_map(|_| [Event::Wait(20_000), Event::Persisted(true)]));
        for event in drain {
            let actions = match event {
                Event::Join { member, new, is_static, sticky } => {
                    let id = if new { String::new() } else { ids[member].clone() };
                    let (token, actions) = scene.join_with(&id, |join| {
                        join.instance_id = is_static.then(|| format!("static-{member}"));
                        if sticky {
                            join.protocols.insert(0, Protocol { name: "sticky".into(), metadata: Bytes::from_static(&[2]) });
                        }
                    });
                    asked.insert(token, Some(member));
                    actions
                }
                Event::Sync(member) => {
                    let id = ids[member].clone();
                    scene.next += 1;
                    let token = Token(scene.next);
                    asked.insert(token, None);
                    let caller = caller(&id, scene.group.generation());
                    let assignments = vec![(id, Bytes::from_static(&[1]))];
                    let sync = Sync { token, caller, protocol_type: None, protocol: None, assignments };
                    scene.group.sync(sync, scene.now_ms)
                }
                Event::Heartbeat(member) => {
                    let _ = scene.group.heartbeat(&caller(&ids[member], scene.group.generation()), scene.now_ms);
                    Vec::new()
                }
                Event::Leave(member) => scene.group.leave(&ids[member], None, scene.now_ms).1,
                Event::Wait(wait_ms) => {
                    scene.now_ms += wait_ms;
                    scene.group.tick(scene.now_ms)
                }
                Event::Persisted(written) => {
                    let mut actions = match to_persist.take() {
                        Some(generation) => scene.group.persisted(generation, written, scene.now_ms),
                        None => Vec::new(),
                    };
                    for token in replacements.drain(..) {
                        actions.extend(scene.group.replacement_persisted(token, written, scene.now_ms));
                    }
                    actions
                }
            };
            for action in actions {
                match action {
                    Action::Joined(token, answer) => {
                        let member = asked.remove(&token).expect("each join is answered once").expect("a join");
                        if answer.error == ErrorCode::NONE {
                            ids[member].clone_from(&answer.member_id);
                            prop_assert!(answer.members.is_empty() || answer.leader == answer.member_id);
                        }
                    }
                    Action::Synced(token, _) => prop_assert_eq!(asked.remove(&token), Some(None)),
                    Action::Persist(generation) => to_persist = Some(generation),
                    Action::PersistReplacement(_, token) => replacements.push(token),
                }
            }
            prop_assert!(scene.group.generation() >= generation);
            generation = scene.group.generation();
            let record = scene.group.to_record();
            let leads = |id: &String| record.members.iter().any(|member| member.member_id == *id);
            prop_assert!(record.leader.as_ref().is_none_or(leads), "{:?}", record);
        }
        prop_assert!(asked.is_empty(), "never answered: {asked:?}");
        prop_assert_eq!(scene.group.phase(), Phase::Empty);
    }
}
