//! The real broker connection: against mosquitto, started here on a free port of the
//! loopback, and against listeners that are no brokers at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod mosquitto;

use mosquitto::{Mosquitto, free_port};
use phonefleet_link::mqtt::{MqttError, MqttOptions, connect};
use phonefleet_link::{Delivery, Incoming, NotConnected, Outgoing};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);

fn options(port: u16, client_id: &str) -> MqttOptions {
    MqttOptions {
        url: format!("mqtt://127.0.0.1:{port}"),
        username: None,
        password: None,
        ca_file: None,
        cert_file: None,
        key_file: None,
        client_id: client_id.to_owned(),
        subscriptions: vec![("test/+/up".to_owned(), Delivery::AtLeastOnce)],
        last_will: None,
        keep_alive: Duration::from_secs(5),
    }
}

fn message(topic: &str, payload: impl Into<Vec<u8>>, delivery: Delivery) -> Outgoing {
    Outgoing { topic: topic.to_owned(), payload: payload.into(), delivery }
}

async fn next(news: &mut Receiver<Incoming>) -> Incoming {
    timeout(SOON, news.recv()).await.expect("news within half a minute").expect("a living connection")
}

/// Skips over attempts that failed.
async fn connected(news: &mut Receiver<Incoming>) {
    while next(news).await != Incoming::Connected {}
}

async fn disconnected(news: &mut Receiver<Incoming>) -> String {
    loop {
        if let Incoming::Disconnected { why } = next(news).await {
            return why;
        }
    }
}

async fn payload(news: &mut Receiver<Incoming>) -> Vec<u8> {
    loop {
        if let Incoming::Message { payload, .. } = next(news).await {
            return payload;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_all_sizes_pass() {
    let Some(broker) = Mosquitto::start() else { return };
    let (transport, mut news) = connect(options(broker.port, "a")).unwrap();
    assert_eq!(next(&mut news).await, Incoming::Connected);
    for bytes in [0, 1, 20_000, 600 * 1024] {
        let sent = vec![b'x'; bytes];
        transport.publish(message("test/a/up", sent.clone(), Delivery::AtLeastOnce)).await.unwrap();
        let Incoming::Message { topic, payload, .. } = next(&mut news).await else { panic!("a message") };
        assert_eq!((topic.as_str(), payload.len()), ("test/a/up", bytes));
        assert_eq!(payload, sent);
    }
    // More than the in-flight limit and the queues hold, and in order.
    let sender = Arc::clone(&transport);
    let sending = tokio::spawn(async move {
        for number in 0..2000_u32 {
            sender.publish(message("test/a/up", number.to_be_bytes(), Delivery::AtLeastOnce)).await.unwrap();
        }
    });
    for number in 0..2000_u32 {
        assert_eq!(payload(&mut news).await, number.to_be_bytes());
    }
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_is_noticed_and_found_again() {
    let Some(mut broker) = Mosquitto::start() else { return };
    let (transport, mut news) = connect(options(broker.port, "a")).unwrap();
    connected(&mut news).await;
    for _ in 0..2 {
        broker.kill();
        disconnected(&mut news).await;
        let refused = transport.publish(message("test/a/up", "lost", Delivery::AtLeastOnce)).await;
        assert_eq!(refused, Err(NotConnected));
        broker.restart();
        connected(&mut news).await;
        transport.publish(message("test/a/up", "here", Delivery::AtLeastOnce)).await.unwrap();
        assert_eq!(payload(&mut news).await, b"here");
    }
}

/// A stopped broker keeps its connections, and takes nothing: neither the reading nor the
/// writing side may wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_broker_is_noticed() {
    let Some(broker) = Mosquitto::start() else { return };
    let (idle, mut idle_news) = connect(options(broker.port, "idle")).unwrap();
    let (busy, mut busy_news) = connect(options(broker.port, "busy")).unwrap();
    connected(&mut idle_news).await;
    connected(&mut busy_news).await;
    broker.signal("STOP");
    let flood = async {
        // Well beyond every buffer on the way.
        let large = message("test/a/up", vec![0; 900 * 1024], Delivery::AtLeastOnce);
        while busy.publish(large.clone()).await.is_ok() {}
    };
    timeout(SOON, flood).await.expect("publishing ends with an error, and does not hang");
    disconnected(&mut busy_news).await;
    disconnected(&mut idle_news).await;
    broker.signal("CONT");
    connected(&mut busy_news).await;
    connected(&mut idle_news).await;
    idle.publish(message("test/a/up", "again", Delivery::AtLeastOnce)).await.unwrap();
    while payload(&mut busy_news).await != b"again" {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_sends_what_was_handed_over_and_no_will() {
    let Some(broker) = Mosquitto::start() else { return };
    let (_listener, mut news) = connect(options(broker.port, "listener")).unwrap();
    connected(&mut news).await;
    let will = || Some(message("test/a/up", "will", Delivery::Retained));
    let (transport, mut own) =
        connect(MqttOptions { last_will: will(), ..options(broker.port, "polite") }).unwrap();
    connected(&mut own).await;
    for number in 0..20_u8 {
        transport.publish(message("test/a/up", [number], Delivery::AtLeastOnce)).await.unwrap();
    }
    drop(own);
    for number in 0..20_u8 {
        assert_eq!(payload(&mut news).await, [number]);
    }
    let nothing = timeout(Duration::from_secs(1), news.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    assert_eq!(
        transport.publish(message("test/a/up", "late", Delivery::AtLeastOnce)).await,
        Err(NotConnected)
    );

    // And one that ends in the middle of it.
    let port = broker.port;
    let rude = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = MqttOptions { last_will: will(), ..options(port, "rude") };
            let (_transport, mut own) = connect(options).unwrap();
            connected(&mut own).await;
        });
    });
    rude.join().unwrap();
    assert_eq!(payload(&mut news).await, b"will");
    let (_late, mut late_news) = connect(options(broker.port, "late")).unwrap();
    assert_eq!(payload(&mut late_news).await, b"will", "retained");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_checks_both_ends() {
    let Some(broker) = Mosquitto::start_with_tls() else { return };
    let tls = || MqttOptions {
        url: format!("mqtts://localhost:{}", broker.port),
        ca_file: Some(broker.file("ca.pem")),
        cert_file: Some(broker.file("client.pem")),
        key_file: Some(broker.file("client.key")),
        ..options(broker.port, "tls")
    };
    let (transport, mut news) = connect(tls()).unwrap();
    assert_eq!(next(&mut news).await, Incoming::Connected);
    transport.publish(message("test/a/up", vec![7; 600 * 1024], Delivery::AtLeastOnce)).await.unwrap();
    assert_eq!(payload(&mut news).await.len(), 600 * 1024);

    let stranger = MqttOptions { ca_file: Some(broker.file("other.pem")), ..tls() };
    let why = disconnected(&mut connect(stranger).unwrap().1).await;
    assert!(why.contains("certificate"), "{why}");
    let anonymous = MqttOptions { cert_file: None, key_file: None, ..tls() };
    let why = disconnected(&mut connect(anonymous).unwrap().1).await;
    assert!(!why.is_empty());

    let half = MqttOptions { key_file: None, ..tls() };
    assert!(matches!(connect(half), Err(MqttError::HalfIdentity)));
    let missing = MqttOptions { ca_file: Some(broker.file("absent.pem")), ..tls() };
    assert!(matches!(connect(missing), Err(MqttError::Pem { .. })));
    let plain = MqttOptions { url: format!("mqtt://localhost:{}", broker.port), ..tls() };
    assert!(matches!(connect(plain), Err(MqttError::NoTls { .. })));
}

#[tokio::test]
async fn attempts_go_on_at_growing_distances() {
    let mut attempts = Vec::new();
    let (_transport, mut news) = connect(options(free_port(), "a")).unwrap();
    for _ in 0..5 {
        disconnected(&mut news).await;
        attempts.push(Instant::now());
    }
    let gaps: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 200, 400, 800 and 1600 ms, each less up to a half.
    for (gap, most) in gaps.iter().zip([200, 400, 800, 1600]) {
        let most = Duration::from_millis(most);
        assert!(*gap >= most / 2 && *gap < most + Duration::from_secs(2), "{gaps:?}");
    }
}

#[tokio::test]
async fn a_listener_that_never_answers_is_given_up_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&accepted);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(listener.accept().await.unwrap());
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (_transport, mut news) = connect(options(port, "a")).unwrap();
    for _ in 0..2 {
        let why = disconnected(&mut news).await;
        assert!(why.contains("did not answer"), "{why}");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_refused_subscription_is_told() {
    let port = hostile(|_| vec![CONNACK.to_vec(), vec![0x90, 0x04, 0x00, 0x01, 0x00, 0x87]]).await;
    let (transport, mut news) = connect(options(port, "a")).unwrap();
    let why = disconnected(&mut news).await;
    assert!(why.contains("refuses to subscribe") && why.contains("test/+/up"), "{why}");
    let refused = transport.publish(message("x", "", Delivery::AtMostOnce)).await;
    assert_eq!(refused, Err(NotConnected));
}

/// Whatever a broker says, the client goes on to the next connection.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_connections_and_nothing_else() {
    let mut clients = Vec::new();
    for seed in 0..96_u64 {
        let port = hostile(move |attempt| garbage(seed * 1000 + attempt)).await;
        clients.push(tokio::spawn(async move {
            let (_transport, mut news) = connect(options(port, &format!("client-{seed}"))).unwrap();
            let mut panics = 0;
            for _ in 0..4 {
                panics += usize::from(disconnected(&mut news).await.contains("panicked"));
            }
            panics
        }));
    }
    let mut panics = 0;
    for client in clients {
        panics += client.await.unwrap();
    }
    // They are contained, whatever their number; it is here to be seen.
    println!("{panics} of 384 hostile connections made the MQTT library panic");
}

const CONNACK: [u8; 5] = [0x20, 0x03, 0x00, 0x00, 0x00];
const SUBACK: [u8; 6] = [0x90, 0x04, 0x00, 0x01, 0x00, 0x01];

/// A listener that answers each packet with the next part of a script, and hangs up.
async fn hostile(script: impl Fn(u64) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for attempt in 0.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            for part in script(attempt) {
                let mut heard = [0; 4096];
                let heard = timeout(Duration::from_millis(300), socket.read(&mut heard)).await;
                if matches!(heard, Ok(Ok(0) | Err(_))) || socket.write_all(&part).await.is_err() {
                    break;
                }
            }
            let _ = timeout(Duration::from_millis(300), socket.read(&mut [0; 4096])).await;
        }
    });
    port
}

/// A connection of which the first none, one or two answers are right.
fn garbage(seed: u64) -> Vec<Vec<u8>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut script = vec![CONNACK.to_vec(), SUBACK.to_vec()];
    script.truncate(random(3) as usize);
    for _ in 0..3 {
        let mut part = Vec::new();
        for _ in 0..=random(4) {
            // A header of any type, a length that is right, wrong or huge, and any content.
            let length = random(40);
            let claimed = match random(4) {
                0 => random(128),
                _ => length,
            };
            part.push(random(256) as u8);
            if random(20) == 0 {
                part.extend([0xff, 0xff, 0xff, 0x7f]);
            } else {
                part.push(claimed as u8);
            }
            // Small numbers more often than not: they pass for lengths and packet ids.
            part.extend((0..length).map(|_| random(if seed.is_multiple_of(2) { 256 } else { 6 }) as u8));
        }
        script.push(part);
    }
    script
}
