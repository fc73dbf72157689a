//! The call over a real socket, with a real database and file.

use super::signature::tests::{key, sign};
use super::*;
use crate::store::{self, recording};
use phonefleet_protocol::id::RecordingId;
use phonefleet_protocol::recording::{DesiredRecording, RecordingPhase, RecordingSpec, RecordingWish};
use phonefleet_protocol::time::{SystemClock, Timestamp};
use phonefleet_store::Mode;
use std::io::{Read as _, Write as _};

struct Served {
    address: SocketAddr,
    id: RecordingId,
    _folder: tempfile::TempDir,
}

async fn served() -> Served {
    served_within(Limits::default()).await
}

async fn served_within(limits: Limits) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let opened = store::open(&folder.path().join("agent.db"), Mode::Threaded).unwrap();
    let videos =
        Arc::new(HostVideos::new(folder.path(), Arc::new(crate::adb::client::Client::new(folder.path()))));
    let id: RecordingId = "018f3b2a-0000-7000-8000-000000000001".parse().unwrap();
    let device = "018f3b2a-0000-7000-8000-000000000002".parse().unwrap();
    let path = videos.path(device, id);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "0123456789").unwrap();
    let desired = DesiredRecording {
        recording_id: id,
        device_id: device,
        wish: RecordingWish::Recording,
        not_after: Timestamp(0),
        spec: RecordingSpec::default(),
    };
    let row = recording::RecordingRow {
        phase: RecordingPhase::Final,
        bytes: Some(10),
        sha256: Some("ab".repeat(32)),
        finished_at: Some(Timestamp(0)),
        ..recording::RecordingRow::new(desired, "/data/x".to_owned())
    };
    opened.store.write(move |tx| recording::put(tx, &row)).await.unwrap();
    let content =
        Content { store: opened.store.clone(), videos, key: Arc::new(key()), clock: Arc::new(SystemClock) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { match listener::serve(listener, router(content), limits).await {} });
    Served { address, id, _folder: folder }
}

impl Served {
    fn signed(id: RecordingId, seconds: i64) -> String {
        let expires = (SystemClock.now().0 / 1000 + seconds).to_string();
        format!("/recordings/{id}/content?expires={expires}&signature={}", sign(&key(), id, &expires))
    }

    async fn call(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        let (address, request) = (
            self.address,
            format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n"),
        );
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (answer[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
    }
}

#[tokio::test]
async fn a_signed_address_gives_the_video_and_any_part_of_it() {
    let served = served().await;
    let path = Served::signed(served.id, 60);
    let (status, head, body) = served.call("GET", &path, "").await;
    assert_eq!((status, body.as_str()), (200, "0123456789"));
    assert!(head.contains("accept-ranges: bytes") && head.contains("content-length: 10"), "{head}");
    let etag = format!("\"{}\"", "ab".repeat(32));
    assert!(head.contains(&format!("etag: {etag}")), "{head}");
    let (status, head, body) = served.call("HEAD", &path, "").await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains("content-length: 10"), "{head}");
    let (status, head, body) = served.call("GET", &path, "Range: bytes=2-4\r\n").await;
    assert_eq!((status, body.as_str()), (206, "234"));
    assert!(head.contains("content-range: bytes 2-4/10"), "{head}");
    let (status, head, _) = served.call("GET", &path, "Range: bytes=10-\r\n").await;
    assert_eq!(status, 416);
    assert!(head.contains("content-range: bytes */10"), "{head}");
    let same = format!("Range: bytes=2-4\r\nIf-Range: {etag}\r\n");
    assert_eq!(served.call("GET", &path, &same).await.0, 206);
    let other = "Range: bytes=2-4\r\nIf-Range: \"x\"\r\n";
    assert_eq!(served.call("GET", &path, other).await.0, 200);
    assert_eq!(served.call("GET", &path, &format!("If-None-Match: {etag}\r\n")).await.0, 304);
    assert_eq!(served.call("POST", &path, "").await.0, 405);
}

#[tokio::test]
async fn without_a_good_signature_nobody_learns_anything() {
    let served = served().await;
    let other: RecordingId = "018f3b2a-0000-7000-8000-0000000000ff".parse().unwrap();
    let plain = format!("/recordings/{}/content", served.id);
    let good = Served::signed(served.id, 60);
    let cut = &good[..good.len() - 1];
    let moved = good.replace(&served.id.to_string(), &other.to_string());
    let expired = Served::signed(served.id, -2);
    let upper = good.replace("expires=", "expires=+");
    for path in [
        plain.as_str(),
        cut,
        &moved,
        &expired,
        &upper,
        "/recordings/x/content",
        "/recordings/..%2f..%2fx/content",
    ] {
        assert_eq!(served.call("GET", path, "").await.0, 403, "{path}");
    }
    assert_eq!(served.call("GET", &Served::signed(other, 60), "").await.0, 404);
    assert_eq!(served.call("GET", "/", "").await.0, 404);
}

#[tokio::test]
async fn clients_that_send_little_and_never_enough_do_not_keep_others_out() {
    let pause = Duration::from_millis(20);
    // One request that never ends, and one after the other, of which none is signed.
    let endless = ("GET / HTTP/1.1\r\nx: ".to_owned() + &"x".repeat(4096), 1);
    let again = ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), usize::MAX);
    for (request, piece) in [endless, again] {
        let (head, rest) = (Duration::from_millis(300), Duration::from_secs(60));
        let served = served_within(Limits { connections: 1, head, rest }).await;
        let mut stream = std::net::TcpStream::connect(served.address).unwrap();
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            for piece in request.as_bytes().chunks(piece).cycle() {
                let ended = is_over.recv_timeout(pause) != Err(std::sync::mpsc::RecvTimeoutError::Timeout);
                if ended || stream.write_all(piece).is_err() {
                    return;
                }
            }
        });
        let path = Served::signed(served.id, 60);
        let answer = tokio::time::timeout(Duration::from_secs(10), served.call("GET", &path, ""));
        assert_eq!(answer.await.expect("the place becomes free").0, 200);
        drop(over);
    }
}
