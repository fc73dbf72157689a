//! Hellos of somebody who can never be the peer, while the peer is there and while it is not.

use phonefleet_protocol::stream::durable::LogRead;
use phonefleet_protocol::stream::message::{Frame, Introduction, PROTOCOL, Versions};
use phonefleet_protocol::stream::sender::Regression;
use phonefleet_protocol::stream::{
    Admission, Chain, Durable, Endpoint, Epoch, ForkCause, Hello, LogHead, Message, Notice, Position,
};
use serde_json::value::RawValue;
use std::convert::Infallible;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(5);

/// An empty log; welcome is whoever names `host`, and has conflicts when told so.
struct Empty {
    conflict: bool,
    cursor: Option<Position>,
}

impl LogRead for Empty {
    type Error = Infallible;

    fn head(&mut self) -> Result<LogHead, Infallible> {
        Ok(LogHead::empty(Epoch(1)))
    }

    fn chain_at(&mut self, _number: u64) -> Result<Option<Chain>, Infallible> {
        Ok(None)
    }

    fn page(&mut self, _: u64, _: usize, _: usize) -> Result<Vec<Box<RawValue>>, Infallible> {
        Ok(Vec::new())
    }
}

impl Durable for Empty {
    fn cursor(&mut self) -> Result<Option<Position>, Infallible> {
        Ok(self.cursor)
    }

    fn is_retired(&mut self, _epoch: Epoch) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn apply(&mut self, _: Epoch, _: u64, _: &RawValue) -> Result<(), Infallible> {
        Ok(())
    }

    fn set_cursor(&mut self, _: Position, _: Option<Epoch>) -> Result<(), Infallible> {
        Ok(())
    }

    fn acknowledged(&mut self, _through: u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn fork(&mut self, _cause: ForkCause) -> Result<LogHead, Infallible> {
        self.head()
    }

    fn admit(&mut self, hello: &Hello) -> Result<Admission, Infallible> {
        Ok(match hello.introduction.host_id.as_str() {
            "host" if self.conflict => Admission::Refused("conflict".to_owned()),
            "host" => Admission::Welcome,
            _ => Admission::Stranger("another host".to_owned()),
        })
    }
}

fn introduction(host: &str, protocol: Versions) -> Introduction {
    Introduction {
        protocol,
        capabilities: Vec::new(),
        software: String::new(),
        host_id: host.parse().expect("a host id"),
        machine_id: None,
        fleet_id: None,
        report: None,
    }
}

fn hello(session: u64, host: &str, protocol: Versions) -> Message {
    Message::Hello(Box::new(Hello {
        session,
        answers: None,
        settled: false,
        introduction: introduction(host, protocol),
        log: LogHead::empty(Epoch(session)),
        cursor: None,
    }))
}

fn endpoint() -> Endpoint {
    let mut endpoint = Endpoint::new(introduction("host", PROTOCOL), Regression::Replay, 0);
    endpoint.connected(Duration::ZERO, 1);
    endpoint
}

fn hear(endpoint: &mut Endpoint, message: &Message, conflict: bool) -> Vec<Notice> {
    endpoint.handle(NOW, message, &mut Empty { conflict, cursor: None }).expect("nothing that fails")
}

/// The two ways to be a stranger.
fn strangers() -> [Message; 2] {
    [hello(66, "other", PROTOCOL), hello(67, "host", Versions { lowest: 7, highest: 9 })]
}

#[test]
fn a_stranger_cuts_nobody_off() {
    let mut endpoint = endpoint();
    hear(&mut endpoint, &hello(2, "host", PROTOCOL), false);
    assert!(endpoint.is_open());
    while endpoint.poll(NOW, &mut Empty { conflict: false, cursor: None }).unwrap().is_some() {}
    let deadline = endpoint.deadline();
    for stranger in strangers() {
        for _ in 0..10 {
            let notices = hear(&mut endpoint, &stranger, false);
            assert!(matches!(&notices[..], [Notice::Refused(_)]), "{notices:?}");
            assert!(endpoint.is_open(), "cut off");
            // It is not answered either.
            assert!(endpoint.poll(NOW, &mut Empty { conflict: false, cursor: None }).unwrap().is_none());
            assert_eq!(endpoint.deadline(), deadline);
        }
    }
}

#[test]
fn a_stranger_who_comes_first_is_refused_and_the_peer_welcome_after_it() {
    for stranger in strangers() {
        let mut endpoint = endpoint();
        assert!(matches!(&hear(&mut endpoint, &stranger, false)[..], [Notice::Refused(_)]));
        assert!(!endpoint.is_open());
        hear(&mut endpoint, &hello(2, "host", PROTOCOL), false);
        assert!(endpoint.is_open());
    }
}

/// Releases of the past and of the future agree on what both understand.
#[test]
fn a_peer_that_speaks_other_versions_too_is_welcome() {
    for (lowest, highest) in [(1, 1), (0, 1), (1, 9), (0, u32::MAX)] {
        let mut endpoint = endpoint();
        hear(&mut endpoint, &hello(2, "host", Versions { lowest, highest }), false);
        assert!(endpoint.is_open(), "{lowest} to {highest}");
    }
    let versions = |lowest, highest| Versions { lowest, highest };
    for (one, other, common) in [
        (versions(1, 3), versions(2, 5), Some(3)),
        (versions(1, 1), versions(1, 9), Some(1)),
        (versions(3, 4), versions(4, 4), Some(4)),
        (versions(1, 2), versions(3, 4), None),
        // Nonsense has nothing in common with anybody.
        (versions(9, 1), versions(1, 9), None),
    ] {
        assert_eq!((one.common(other), other.common(one)), (common, common), "{one:?} {other:?}");
    }
}

/// A second one who could be the peer is another thing: then nobody is.
#[test]
fn a_conflict_closes() {
    let mut endpoint = endpoint();
    hear(&mut endpoint, &hello(2, "host", PROTOCOL), false);
    assert!(endpoint.is_open());
    hear(&mut endpoint, &hello(3, "host", PROTOCOL), true);
    assert!(!endpoint.is_open());
    // The session that was welcome turns into one that can never be: it is taken at its word.
    let mut turned = self::endpoint();
    hear(&mut turned, &hello(2, "host", PROTOCOL), false);
    hear(&mut turned, &hello(2, "other", PROTOCOL), false);
    assert!(!turned.is_open());
}

/// A twin that was silent by then left the host with a log that nobody read, and without a word.
#[test]
fn whose_log_was_left_is_asked_who_it_is() {
    let mut endpoint = endpoint();
    let mut nobody = Empty { conflict: false, cursor: None };
    hear(&mut endpoint, &hello(2, "host", PROTOCOL), false);
    let Message::Hello(mut settled) = hello(2, "host", PROTOCOL) else { unreachable!() };
    (settled.settled, settled.answers) = (true, Some(Epoch(1)));
    hear(&mut endpoint, &Message::Hello(settled), false);
    while endpoint.poll(NOW, &mut nobody).unwrap().is_some() {}
    assert_eq!(endpoint.deadline(), None, "nothing is left to be said");

    let (left, taken) = (Epoch(8), Epoch(9));
    let frame = Frame {
        epoch: taken,
        first: 1,
        chain: Chain::genesis(taken),
        ack: None,
        resend: false,
        refused: None,
        items: vec![RawValue::from_string("1".to_owned()).unwrap()],
    };
    let cursor = Some(Position { epoch: left, through: 0, chain: Chain::genesis(left) });
    let mut other = Empty { conflict: false, cursor };
    let notices = endpoint.handle(NOW, &Message::Frame(frame), &mut other).unwrap();
    assert!(matches!(&notices[..], [Notice::PeerForked { .. }]), "{notices:?}");
    while endpoint.poll(NOW, &mut nobody).unwrap().is_some() {}
    let asks = endpoint.deadline().expect("it asks who is there");
    let said = endpoint.poll(asks, &mut nobody).unwrap();
    assert!(matches!(said, Some(Message::Hello(hello)) if !hello.settled));
}
