//! Versions, unknown fields, hostile bytes.

use crate::channel::Side;
use crate::database::{Database, Ledger, Transaction};
use crate::world::introduction;
use phonefleet_protocol::stream::message::{Introduction, MessageError, Versions};
use phonefleet_protocol::stream::sender::Regression;
use phonefleet_protocol::stream::{Endpoint, Hello, Message, Notice};
use proptest::prelude::*;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1000);

/// An end without a world around it.
struct End {
    endpoint: Endpoint,
    database: Database,
}

impl End {
    fn new(introduction: Introduction, ledger: &mut Ledger) -> Self {
        let mut endpoint = Endpoint::new(introduction, Regression::Replay, 0);
        endpoint.connected(NOW, ledger.fresh());
        Self { endpoint, database: Database::empty(2, ledger) }
    }

    fn hear(
        &mut self,
        now: Duration,
        payload: &[u8],
        ledger: &mut Ledger,
    ) -> Result<Vec<Notice>, MessageError> {
        let message = Message::decode(payload)?;
        let work = self.database.clone();
        let mut transaction = Transaction { side: Side::Agent, work, ledger, fault: None, fuse: None };
        let notices = self.endpoint.handle(now, &message, &mut transaction).expect("no fuse");
        self.database = transaction.work;
        Ok(notices)
    }

    fn say(&mut self, now: Duration) -> Vec<Vec<u8>> {
        let said = std::iter::from_fn(|| self.endpoint.poll(now, &mut self.database).expect("no fuse"));
        said.take(100).map(|message| message.encode().expect("plain data")).collect()
    }
}

/// Lets two ends talk for some minutes. Returns all that was said, and what each noticed.
fn talk(
    ends: &mut [End; 2],
    ledger: &mut Ledger,
    edit: fn(&[u8]) -> Vec<u8>,
) -> (Vec<Vec<u8>>, [Vec<Notice>; 2]) {
    let (mut all, mut notices) = (Vec::new(), [Vec::new(), Vec::new()]);
    for second in 0..300 {
        let now = NOW + Duration::from_secs(second);
        for _ in 0..20 {
            for speaker in 0..2 {
                for payload in ends[speaker].say(now) {
                    let payload = edit(&payload);
                    let heard = ends[1 - speaker].hear(now, &payload, ledger).expect("readable");
                    notices[1 - speaker].extend(heard);
                    all.push(payload);
                }
            }
        }
    }
    (all, notices)
}

fn future() -> Introduction {
    Introduction { protocol: Versions { lowest: 7, highest: 9 }, ..introduction() }
}

fn is_frame(payload: &[u8]) -> bool {
    payload.starts_with(b"{\"frame\"")
}

#[test]
fn without_a_common_version_nothing_flows_and_the_reason_is_told() {
    for both in [false, true] {
        let ledger = &mut Ledger::default();
        let other = if both { future() } else { introduction() };
        let mut ends = [End::new(future(), ledger), End::new(other, ledger)];
        let (all, notices) = talk(&mut ends, ledger, <[u8]>::to_vec);
        // The older end does not understand the newer one; in a real fleet both refuse.
        let Some(Notice::Refused(why)) = notices[1].first() else { panic!("{:?}", notices[1]) };
        for word in ["no common protocol version", "7 to 9", "1 to 1", "upgrade"] {
            assert!(why.contains(word), "{why}");
        }
        assert!(!ends[1].endpoint.is_open());
        for end in &ends {
            assert_eq!(end.database.position(), None, "no items were applied");
        }
        let frames = all.iter().filter(|payload| is_frame(payload)).count();
        // Each end asks again every 30 s of these 300, in case the other was upgraded.
        assert!(all.len() - frames <= 30, "{} hellos", all.len() - frames);
        if both {
            assert_eq!(frames, 0);
        }
    }
}

/// More sessions in turn than an endpoint remembers: each is a new one to it every time.
#[test]
fn hellos_keep_their_distance() {
    let ledger = &mut Ledger::default();
    let mut own = End::new(introduction(), ledger);
    let mut hellos = Vec::new();
    for _ in 0..6 {
        hellos.extend(End::new(introduction(), ledger).say(NOW));
    }
    assert_eq!(hellos.len(), 6);
    let mut said = 0;
    for (millisecond, hello) in (0..1000).zip(hellos.iter().cycle()) {
        let now = NOW + Duration::from_millis(millisecond);
        own.hear(now, hello, ledger).expect("readable");
        said += own.say(now).iter().filter(|payload| !is_frame(payload)).count();
    }
    assert!(said <= 10, "{said} hellos within a second");
}

/// Adds a field that no version knows to every object of the protocol itself. Not to the items:
/// their text is hashed as it stands.
fn with_unknown_fields(payload: &[u8]) -> Vec<u8> {
    let mut text = std::str::from_utf8(payload).expect("JSON").to_owned();
    for name in ["hello", "frame", "log", "cursor", "ack", "protocol"] {
        let begin = format!("\"{name}\":{{");
        text = text.replacen(&begin, &format!(r#"{begin}"unknown":{{"of":["the","future",1.5,null]}},"#), 1);
    }
    text.into_bytes()
}

#[test]
fn unknown_fields_are_ignored() {
    let ledger = &mut Ledger::default();
    let mut ends = [End::new(introduction(), ledger), End::new(introduction(), ledger)];
    let (all, _) = talk(&mut ends, ledger, with_unknown_fields);
    assert!(all.iter().any(|payload| is_frame(payload)));
    for (own, other) in [(0, 1), (1, 0)] {
        let head = ends[own].database.log_head();
        let cursor = ends[other].database.position().expect("items were applied");
        assert_eq!((cursor.epoch, cursor.through, cursor.chain), (head.epoch, head.last, head.chain));
    }
    assert_eq!(ledger.violations, [""; 0]);
}

#[test]
fn fields_with_a_default_may_be_missing() {
    let hello = r#"{"hello":{"session":"1","protocol":{"lowest":1,"highest":1},"hostId":"host-1",
        "log":{"epoch":"2","oldest":1,"last":0,"chain":"3"}}}"#;
    let Ok(Message::Hello(hello)) = Message::decode(hello.as_bytes()) else { panic!("a hello") };
    let Hello { session, answers, settled, cursor, .. } = *hello;
    assert_eq!((session, answers, settled, cursor), (1, None, false, None));
    let frame = r#"{"frame":{"epoch":"2","first":1,"chain":"3"}}"#;
    assert!(matches!(Message::decode(frame.as_bytes()), Ok(Message::Frame(frame)) if frame.items.is_empty()));
}

/// One change to a payload.
#[derive(Clone, Debug)]
enum Mutation {
    Replace(u8),
    Insert(u8),
    Remove,
    /// Some other number in the place of a run of digits.
    Number(u64),
    Cut,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        any::<u8>().prop_map(Mutation::Replace),
        any::<u8>().prop_map(Mutation::Insert),
        Just(Mutation::Remove),
        prop_oneof![Just(0), Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()].prop_map(Mutation::Number),
        Just(Mutation::Cut),
    ]
}

fn mutate(payload: &mut Vec<u8>, at: usize, mutation: &Mutation) {
    let at = at % payload.len().max(1);
    match mutation {
        _ if payload.is_empty() => {}
        Mutation::Replace(byte) => payload[at] = *byte,
        Mutation::Insert(byte) => payload.insert(at, *byte),
        Mutation::Remove => drop(payload.remove(at)),
        Mutation::Number(number) => {
            let Some(begin) = payload[at..].iter().position(u8::is_ascii_digit) else { return };
            let begin = at + begin;
            let length = payload[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            payload.splice(begin..begin + length, number.to_string().into_bytes());
        }
        Mutation::Cut => payload.truncate(at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_no_panic(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::decode(&payload);
    }

    #[test]
    fn changed_messages_are_no_panic(
        changes in prop::collection::vec((any::<usize>(), any::<usize>(), mutation()), 1..30),
    ) {
        let ledger = &mut Ledger::default();
        let mut ends = [End::new(introduction(), ledger), End::new(introduction(), ledger)];
        ends[0].database.write(1, Some(1));
        let all = talk_briefly(&mut ends, ledger);
        for (which, at, mutation) in changes {
            let mut payload = all[which % all.len()].clone();
            mutate(&mut payload, at, &mutation);
            for end in &mut ends {
                // Read or not, applied or not: nothing breaks, and the end still speaks.
                let _ = end.hear(NOW, &payload, ledger);
                prop_assert!(end.say(NOW).len() < 100);
            }
        }
    }
}

fn talk_briefly(ends: &mut [End; 2], ledger: &mut Ledger) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for _ in 0..5 {
        for speaker in 0..2 {
            for payload in ends[speaker].say(NOW) {
                ends[1 - speaker].hear(NOW, &payload, ledger).expect("readable");
                all.push(payload);
            }
        }
    }
    all
}
