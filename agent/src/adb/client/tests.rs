//! The client against servers that misbehave. The real one: `agent/tests/adb.rs`.

use super::*;
use std::sync::{Arc, Mutex};
use tokio::net::UnixListener;

/// A server that answers the n-th connection with the n-th script, and goes on with the
/// last one. It notes what it was asked.
struct Fake {
    folder: tempfile::TempDir,
    heard: Arc<Mutex<Vec<String>>>,
}

enum Act {
    /// Take one request.
    Hear,
    /// Take so many bytes.
    Take(usize),
    /// Send bytes.
    Say(Vec<u8>),
    /// Keep the connection open and silent.
    Hang,
}

fn say(bytes: impl AsRef<[u8]>) -> Act {
    Act::Say(bytes.as_ref().to_vec())
}

fn text(words: &str) -> Act {
    say(format!("OKAY{:04x}{words}", words.len()))
}

fn packet(id: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![id];
    packet.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
    packet.extend_from_slice(data);
    packet
}

impl Fake {
    fn new(scripts: Vec<Vec<Act>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut scripts = scripts.into_iter().peekable();
            let mut script = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if let Some(next) = scripts.next() {
                    script = next;
                }
                for act in &script {
                    match act {
                        Act::Hear => {
                            let mut length = [0; 4];
                            if stream.read_exact(&mut length).await.is_err() {
                                break;
                            }
                            let length =
                                usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
                            let mut request = vec![0; length];
                            stream.read_exact(&mut request).await.unwrap();
                            notes.lock().unwrap().push(String::from_utf8(request).unwrap());
                        }
                        Act::Take(count) => {
                            stream.read_exact(&mut vec![0; *count]).await.unwrap();
                        }
                        Act::Say(bytes) => {
                            if stream.write_all(bytes).await.is_err() {
                                break;
                            }
                        }
                        Act::Hang => tokio::time::sleep(Duration::from_secs(3600)).await,
                    }
                }
            }
        });
        Self { folder, heard }
    }

    fn client(&self) -> Client {
        Client::new(&self.folder.path().join("s"))
    }

    async fn shell(answer: Vec<Act>, deadline: Duration) -> Result<ShellOutput, AdbError> {
        let mut script = vec![Act::Hear, say("OKAY"), Act::Hear];
        script.extend(answer);
        let fake = Self::new(vec![script]);
        let output = fake.client().shell(address(), "true", deadline).await;
        assert_eq!(*fake.heard.lock().unwrap(), ["host:transport:127.0.0.1:20000", "shell,v2,raw:true"]);
        output
    }
}

fn address() -> SocketAddr {
    "127.0.0.1:20000".parse().unwrap()
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_command_ends_with_its_exit_packet() {
    let mut answer = packet(1, b"out");
    answer.extend(packet(2, b"err\xff"));
    answer.extend(packet(1, b"put"));
    answer.extend(packet(3, &[7]));
    let output = Fake::shell(vec![say("OKAY"), Act::Say(answer)], LONG).await.unwrap();
    assert_eq!(output, ShellOutput { stdout: "output".into(), stderr: "err\u{fffd}".into(), status: 7 });
}

#[tokio::test]
async fn an_end_without_the_exit_packet_is_offline() {
    for answer in
        [packet(1, b"all went well\n"), vec![1, 5, 0, 0, 0, b'a'], vec![1, 5], packet(3, &[]), vec![]]
    {
        let output = Fake::shell(vec![say("OKAY"), Act::Say(answer)], LONG).await;
        assert!(matches!(output, Err(AdbError::Offline(_))), "{output:?}");
    }
}

#[tokio::test]
async fn garbage_from_a_device_is_an_error_and_nothing_grows() {
    for answer in [vec![1, 0xff, 0xff, 0xff, 0xff], packet(9, b"x"), b"usage: sh\n".to_vec()] {
        let output = Fake::shell(vec![say("OKAY"), Act::Say(answer), Act::Hang], LONG).await;
        assert!(matches!(output, Err(AdbError::Offline(_))), "{output:?}");
    }
    let mut much = packet(1, &vec![b'x'; 300_000]);
    much.extend(packet(3, &[0]));
    let output = Fake::shell(vec![say("OKAY"), Act::Say(much)], LONG).await.unwrap();
    assert_eq!(output.stdout.len(), OUTPUT_BYTES);
}

#[tokio::test]
async fn a_silent_device_is_a_timeout_and_a_silent_server_is_not() {
    let short = Duration::from_millis(200);
    let output = Fake::shell(vec![say("OKAY"), Act::Hang], short).await;
    assert_eq!(output, Err(AdbError::Timeout(short)));
    let fake = Fake::new(vec![vec![Act::Hear, Act::Hang]]);
    let output = fake.client().shell(address(), "true", short).await;
    assert!(matches!(output, Err(AdbError::Server(_))), "{output:?}");
}

#[tokio::test]
async fn a_server_that_talks_nonsense_is_an_error() {
    for answer in ["", "OK", "OKAY", "OKAY00", "OKAYxxxx", "OKAY+0041", "OKAYffff1", "HTTP/1.1 400", "FAIL"] {
        let fake = Fake::new(vec![vec![Act::Hear, say(answer)]]);
        let version = fake.client().version(LONG).await;
        assert!(matches!(version, Err(AdbError::Server(_))), "{answer}: {version:?}");
    }
    let fake = Fake::new(vec![vec![Act::Hear, text("0029")]]);
    assert_eq!(fake.client().version(LONG).await, Ok(0x29));
    let nobody = Client::new(Path::new("/nonexistent/adb.sock")).version(LONG).await;
    assert!(matches!(nobody, Err(AdbError::Server(_))), "{nobody:?}");
}

#[tokio::test]
async fn refusals_keep_the_servers_words() {
    let fail = |words: &str| say(format!("FAIL{:04x}{words}", words.len()));
    for (words, expected) in [
        ("device offline", AdbError::Offline("device offline".into())),
        (
            "device '127.0.0.1:20000' not found",
            AdbError::Offline("device '127.0.0.1:20000' not found".into()),
        ),
        ("device unauthorized.\nThis adb server's", AdbError::Unauthorized),
    ] {
        let fake = Fake::new(vec![vec![Act::Hear, fail(words)]]);
        assert_eq!(fake.client().shell(address(), "true", LONG).await, Err(expected));
    }
    let fake = Fake::new(vec![vec![Act::Hear, fail("no such device '127.0.0.1:20000'")]]);
    assert_eq!(fake.client().disconnect(address()).await, Ok(()));
}

#[tokio::test]
async fn connecting_waits_for_the_state_device() {
    let devices = |list: &str| vec![Act::Hear, text(list)];
    let fake = Fake::new(vec![
        devices("127.0.0.1:2000\tdevice\n"),
        devices("failed to connect to '127.0.0.1:20000': Connection refused"),
        devices(""),
        devices("connected to 127.0.0.1:20000"),
        devices("127.0.0.1:20000\toffline\n"),
        devices("127.0.0.1:20000\toffline\n127.0.0.1:20001\tdevice\n"),
        devices("127.0.0.1:20000\tdevice\n"),
    ]);
    assert_eq!(fake.client().connect(address(), LONG).await, Ok(()));
    let heard = fake.heard.lock().unwrap().clone();
    assert_eq!(heard.iter().filter(|request| request.starts_with("host:connect:")).count(), 2, "{heard:?}");
}

#[tokio::test]
async fn connecting_gives_up_with_what_it_saw() {
    let short = Duration::from_millis(400);
    let refused = Fake::new(vec![
        vec![Act::Hear, text("")],
        vec![Act::Hear, text("failed to connect to '127.0.0.1:20000': Connection refused")],
        vec![Act::Hear, text("")],
    ]);
    let Err(AdbError::Offline(why)) = refused.client().connect(address(), short).await else {
        panic!("not offline")
    };
    assert!(why.contains("not connected") && why.contains("said:"), "{why}");
    let stranger = Fake::new(vec![vec![Act::Hear, text("127.0.0.1:20000\tunauthorized\n")]]);
    let outcome = stranger.client().connect(address(), Duration::from_secs(5)).await;
    assert_eq!(outcome, Err(AdbError::Unauthorized));
}

/// Pulls a file over `answer`, of at most 10 bytes; what became of it, and of the file.
async fn pulled(answer: Vec<Act>) -> (Result<Option<u64>, AdbError>, Vec<u8>) {
    let request = b"RECV".len() + 4 + "/data/x".len();
    let mut script = vec![Act::Hear, say("OKAY"), Act::Hear, say("OKAY"), Act::Take(request)];
    script.extend(answer);
    let fake = Fake::new(vec![script]);
    let path = fake.folder.path().join("file");
    let file = tokio::fs::File::create(&path).await.unwrap();
    let pulled = fake.client().pull(address(), "/data/x", file, 10, Duration::from_secs(1)).await;
    assert_eq!(fake.heard.lock().unwrap()[1], "sync:");
    (pulled, std::fs::read(path).unwrap())
}

#[tokio::test]
async fn a_file_comes_in_pieces_and_never_more_than_was_wanted() {
    let piece = |id: &[u8; 4], data: &[u8]| {
        say([id, &u32::try_from(data.len()).unwrap().to_le_bytes()[..], data].concat())
    };
    let whole = vec![piece(b"DATA", b"abc"), piece(b"DATA", b"de"), piece(b"DONE", b"")];
    assert_eq!(pulled(whole).await, (Ok(Some(5)), b"abcde".to_vec()));
    let much = vec![piece(b"DATA", b"abcdefgh"), piece(b"DATA", b"ijklm"), piece(b"DONE", b"")];
    assert_eq!(pulled(much).await, (Ok(Some(10)), b"abcdefghij".to_vec()));
    let missing = vec![piece(b"FAIL", b"open failed: No such file or directory")];
    assert_eq!(pulled(missing).await.0, Ok(None));
    for bad in [
        vec![piece(b"FAIL", b"permission denied")],
        vec![piece(b"DATA", b"abc")],
        vec![piece(b"WHAT", b"abc")],
        vec![say([b"DATA".as_slice(), &[0xff; 4]].concat())],
        vec![piece(b"DATA", b"abc"), Act::Hang],
        vec![],
    ] {
        let (outcome, _) = pulled(bad).await;
        assert!(outcome.is_err(), "{outcome:?}");
    }
}
