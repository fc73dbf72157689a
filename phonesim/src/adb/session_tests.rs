//! Conversations as they should be, and as nobody should hold them.

use super::*;

const TOKEN: [u8; TOKEN_BYTES] = [7; TOKEN_BYTES];

fn hello() -> Packet {
    Packet {
        command: Command::Connect,
        first: VERSION,
        second: 0x10_0000,
        payload: b"host::features=shell_v2".to_vec(),
    }
}

fn auth(kind: u32) -> Packet {
    Packet { command: Command::Authorise, first: kind, second: 0, payload: vec![1; 256] }
}

fn open(remote: u32, service: &str) -> Packet {
    Packet { command: Command::Open, first: remote, second: 0, payload: format!("{service}\0").into_bytes() }
}

fn data(first: u32, second: u32, payload: &[u8]) -> Packet {
    Packet { command: Command::Write, first, second, payload: payload.to_vec() }
}

fn connected(manner: Manner) -> Session {
    let mut session = Session::new(manner, "device::features=shell_v2".into());
    let Some(Reaction::Send(answer)) = session.receive(hello(), || TOKEN) else { panic!("no greeting") };
    assert_eq!(answer.command, Command::Connect);
    assert_eq!(answer.payload, b"device::features=shell_v2");
    session
}

fn streaming() -> Session {
    let mut session = connected(Manner::Open);
    let started = session.receive(open(9, "sync:"), || TOKEN);
    assert_eq!(started, Some(Reaction::Start { stream: 1, service: "sync:".into() }));
    assert_eq!(session.accept(1), Some(Packet::bare(Command::Okay, 1, 9)));
    session
}

#[test]
fn a_stream_carries_one_packet_each_way_at_a_time() {
    let mut session = streaming();
    assert_eq!(session.take(1), Taken::Nothing);
    assert_eq!(session.receive(data(9, 1, b"in"), || TOKEN), None);
    assert_eq!(session.take(1), Taken::Data(b"in".to_vec(), Packet::bare(Command::Okay, 1, 9)));
    assert_eq!(session.write(1, b"out"), Written::Send(data(1, 9, b"out"), 3));
    assert_eq!(session.write(1, b"more"), Written::NotYet);
    session.receive(Packet::bare(Command::Okay, 9, 1), || TOKEN);
    let long = vec![0; LONGEST_PAYLOAD + 1];
    assert!(matches!(session.write(1, &long), Written::Send(_, LONGEST_PAYLOAD)));
    // What came before the end is still there to be taken.
    session.receive(data(9, 1, b"last"), || TOKEN);
    session.receive(Packet::bare(Command::Close, 9, 1), || TOKEN);
    assert!(session.is_closed(1));
    assert!(matches!(session.take(1), Taken::Data(..)));
    assert_eq!(session.take(1), Taken::End);
    assert_eq!(session.write(1, b"x"), Written::Closed);
    assert_eq!(session.close(1), Some(Packet::bare(Command::Close, 1, 9)));
    assert_eq!(session.close(1), None);
    // Late packets of a stream that is gone.
    assert_eq!(session.receive(Packet::bare(Command::Close, 9, 1), || TOKEN), None);
    let answer = session.receive(data(9, 1, b"late"), || TOKEN);
    assert_eq!(answer, Some(Reaction::Send(Packet::bare(Command::Close, 0, 9))));
}

#[test]
fn keys_are_asked_for_and_refused_for_ever() {
    let mut session = Session::new(Manner::RefuseKeys, "device::".into());
    let asks = |answer: Option<Reaction>| match answer {
        Some(Reaction::Send(packet)) => packet.command == Command::Authorise && packet.payload == TOKEN,
        _ => false,
    };
    assert!(asks(session.receive(hello(), || TOKEN)));
    assert!(asks(session.receive(auth(AUTH_SIGNATURE), || TOKEN)));
    assert_eq!(session.receive(auth(AUTH_PUBLIC_KEY), || TOKEN), None);
    assert_eq!(session.receive(open(1, "shell:"), || TOKEN), None);
}

#[test]
fn the_first_public_key_may_be_taken() {
    let mut session = Session::new(Manner::TakeFirstKey, "device::".into());
    session.receive(hello(), || TOKEN);
    session.receive(auth(AUTH_SIGNATURE), || TOKEN);
    assert!(matches!(
        session.receive(auth(AUTH_PUBLIC_KEY), || TOKEN),
        Some(Reaction::Send(Packet { command: Command::Connect, .. }))
    ));
    assert!(matches!(session.receive(open(1, "shell:"), || TOKEN), Some(Reaction::Start { .. })));
}

#[test]
fn a_phone_that_falls_silent_still_greets() {
    let mut session = connected(Manner::FallSilent);
    assert_eq!(session.receive(open(1, "shell:"), || TOKEN), None);
}

#[test]
fn a_host_that_begins_anew_has_lost_its_streams() {
    let mut session = streaming();
    assert!(matches!(session.receive(hello(), || TOKEN), Some(Reaction::Send(_))));
    assert!(session.is_closed(1));
    // The end of the old service is nobody's business any more, but harmless.
    session.close(1);
}

#[test]
fn hosts_that_break_the_rules_get_nowhere() {
    let mut session = connected(Manner::Open);
    assert_eq!(session.receive(open(0, "shell:"), || TOKEN), None);
    for number in 1..=MOST_STREAMS as u32 {
        assert!(matches!(session.receive(open(number, "x"), || TOKEN), Some(Reaction::Start { .. })));
    }
    let answer = session.receive(open(1000, "x"), || TOKEN);
    assert_eq!(answer, Some(Reaction::Send(Packet::bare(Command::Close, 0, 1000))));

    // More than the flow allows ends the stream, and uses no memory.
    let mut session = streaming();
    for _ in 0..100 {
        session.receive(data(9, 1, &[0; 1000]), || TOKEN);
    }
    assert!(session.is_closed(1));
    assert_eq!(session.streams[&1].incoming.len(), MOST_WAITING);
    // Numbers that do not belong together.
    let mut session = streaming();
    session.receive(Packet::bare(Command::Close, 8, 1), || TOKEN);
    assert!(!session.is_closed(1));
}

#[test]
fn nonsense_of_every_kind_changes_nothing_but_the_conversation() {
    // A cheap generator: the point is the mixture, not the quality.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for manner in [Manner::Open, Manner::RefuseKeys, Manner::TakeFirstKey, Manner::FallSilent] {
        let mut session = Session::new(manner, "device::".into());
        for _ in 0..20_000 {
            let command = match random() % 8 {
                0 => Command::Connect,
                1 => Command::Authorise,
                2 => Command::Open,
                3 => Command::Okay,
                4 => Command::Close,
                5 => Command::Other(random() as u32),
                _ => Command::Write,
            };
            let small = |value: u64| if value.is_multiple_of(16) { value as u32 } else { value as u32 % 6 };
            let payload = vec![random() as u8; random() as usize % 8];
            let packet = Packet { command, first: small(random()), second: small(random()), payload };
            if let Some(Reaction::Start { stream, .. }) = session.receive(packet, || TOKEN) {
                match random() % 4 {
                    0 => drop(session.refuse(stream)),
                    _ => drop(session.accept(stream)),
                }
            }
            let stream = random() as u32 % 6;
            match random() % 4 {
                0 => drop(session.close(stream)),
                1 => drop(session.take(stream)),
                2 => drop(session.write(stream, b"x")),
                _ => {}
            }
            assert!(session.streams.len() <= MOST_STREAMS);
        }
    }
}
