//! The bytes of a video: from a folder of this machine, or by an address of its host.

use crate::fixture::{Answered, Fixture};
use crate::recordings::{facts, failed, with_phone};
use axum::body::Body;
use axum::http::Request;
use phonefleet_protocol::host::ContentAccess;
use phonefleet_protocol::recording::{RecordingFacts, RecordingPhase};
use std::path::Path;

impl Fixture {
    /// What `host-1` reports of its videos.
    async fn report(&self, access: ContentAccess) {
        let text = serde_json::to_string(&access).unwrap();
        let sql = "UPDATE host SET report = json_set(report, '$.content', json(?1)) WHERE host_id = 'host-1'";
        self.write(move |tx| tx.execute(sql, [&text])).await;
    }

    async fn content(&self, method: &str, id: &str, headers: &[(&str, &str)]) -> Answered {
        let mut request = Request::builder().method(method).uri(format!("/recordings/{id}/content"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }
}

fn here(directory: &Path) -> ContentAccess {
    ContentAccess { directory: directory.to_str().unwrap().to_owned(), ..ContentAccess::default() }
}

/// A folder as the agent of `host-1` keeps it, with one video.
fn keep(directory: &Path, device: &str, recording: &str, video: &[u8]) {
    std::fs::write(directory.join(".phonefleet-host"), "host-1\n").unwrap();
    std::fs::create_dir_all(directory.join(device)).unwrap();
    std::fs::write(directory.join(device).join(format!("{recording}.mp4")), video).unwrap();
}

fn ended(device: &str, recording: &str, phase: RecordingPhase, bytes: usize) -> RecordingFacts {
    RecordingFacts { bytes: Some(bytes as u64), ..facts(device, recording, phase) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_this_machine_is_served_whole_and_in_part() {
    let (fixture, device) = with_phone().await;
    let folder = tempfile::tempdir().unwrap();
    fixture.report(here(folder.path())).await;
    let id = fixture.record(&device).await;
    let refusal = fixture.content("GET", &id, &[]).await.refused(409, "CONFLICT");
    assert_eq!(refusal["recordingStatus"], "STARTING");
    // More than a few chunks, and no multiple of one.
    let video: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    keep(folder.path(), &device, &id, &video);
    fixture.says(ended(&device, &id, RecordingPhase::Final, video.len())).await;

    let etag = format!("\"{}\"", "0a".repeat(32));
    let whole = fixture.content("GET", &id, &[]).await;
    assert_eq!((whole.status.as_u16(), whole.bytes == video), (200, true));
    let expected = [
        ("content-type", "video/mp4"),
        ("content-length", "1000003"),
        ("accept-ranges", "bytes"),
        ("etag", &etag),
        ("phonefleet-recording-status", "FINAL"),
    ];
    for (name, value) in expected {
        assert_eq!(whole.headers[name], value, "{name}");
    }
    let name = format!("attachment; filename=\"{id}.mp4\"");
    assert_eq!(whole.headers["content-disposition"], name.as_str());
    let head = fixture.content("HEAD", &id, &[]).await;
    assert_eq!((head.status.as_u16(), head.bytes.len()), (200, 0));
    for (name, value) in expected {
        assert_eq!(head.headers[name], value, "{name}");
    }

    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=65530-200000", 65530, 200_000),
        ("bytes=1000000-", 1_000_000, 1_000_002),
        ("bytes=-3", 1_000_000, 1_000_002),
        ("bytes=999999-99999999", 999_999, 1_000_002),
    ] {
        let part = fixture.content("GET", &id, &[("range", range)]).await;
        assert_eq!(part.status, 206, "{range}");
        assert!(part.bytes == video[first..=last], "{range}");
        assert_eq!(part.headers["content-range"], format!("bytes {first}-{last}/1000003").as_str());
        assert_eq!(part.headers["content-length"], (last - first + 1).to_string().as_str());
    }
    let head = fixture.content("HEAD", &id, &[("range", "bytes=5-9")]).await;
    assert_eq!((head.status.as_u16(), head.bytes.len()), (206, 0));
    let beyond = fixture.content("GET", &id, &[("range", "bytes=1000003-")]).await;
    beyond.refused(416, "RANGE_NOT_SATISFIABLE");
    assert_eq!(beyond.headers["content-range"], "bytes */1000003");
    for ignored in ["bytes=0-1,4-5", "lines=1-2", "bytes=x"] {
        assert_eq!(fixture.content("GET", &id, &[("range", ignored)]).await.status, 200, "{ignored}");
    }
    let twice = [("range", "bytes=0-1"), ("range", "bytes=4-5")];
    assert_eq!(fixture.content("GET", &id, &twice).await.status, 200);
    let weak = format!("W/{etag}");
    for (if_range, status) in [
        (etag.as_str(), 206),
        ("\"other\"", 200),
        (weak.as_str(), 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
    ] {
        let headers = [("range", "bytes=0-1"), ("if-range", if_range)];
        assert_eq!(fixture.content("GET", &id, &headers).await.status, status, "{if_range}");
    }
    fixture.content("POST", &id, &[]).await.refused(405, "METHOD_NOT_ALLOWED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_video_is_told_apart() {
    let (fixture, device) = with_phone().await;
    let folder = tempfile::tempdir().unwrap();
    fixture.report(here(folder.path())).await;
    let id = fixture.record(&device).await;
    keep(folder.path(), &device, &id, b"half a video");
    let corrupt = RecordingFacts { sha256: None, ..ended(&device, &id, RecordingPhase::Corrupt, 12) };
    fixture.says(corrupt).await;
    let answer = fixture.content("GET", &id, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.bytes.as_slice()), (200, &b"half a video"[..]));
    assert_eq!(answer.headers["phonefleet-recording-status"], "CORRUPT");
    assert!(!answer.headers.contains_key("etag"), "there is no hash to name it by");
    let headers = [("range", "bytes=0-1"), ("if-range", "\"\"")];
    assert_eq!(fixture.content("GET", &id, &headers).await.status, 200);

    std::fs::write(folder.path().join(&device).join(format!("{id}.mp4")), b"another").unwrap();
    let refusal = fixture.content("GET", &id, &[]).await.refused(410, "GONE");
    assert!(refusal["detail"].as_str().unwrap().contains("changed"), "{refusal}");
    std::fs::remove_dir_all(folder.path().join(&device)).unwrap();
    let refusal = fixture.content("GET", &id, &[]).await.refused(410, "GONE");
    assert!(refusal["detail"].as_str().unwrap().contains("keep_days"), "{refusal}");
    let next = fixture.record(&device).await;
    fixture.says(failed(&device, &next, "DISK_FULL")).await;
    let refusal = fixture.content("GET", &next, &[]).await.refused(410, "GONE");
    assert!(refusal["detail"].as_str().unwrap().contains("DISK_FULL"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_has_no_ranges() {
    let (fixture, device) = with_phone().await;
    let folder = tempfile::tempdir().unwrap();
    fixture.report(here(folder.path())).await;
    let id = fixture.record(&device).await;
    keep(folder.path(), &device, &id, b"");
    fixture.says(ended(&device, &id, RecordingPhase::Corrupt, 0)).await;
    let whole = fixture.content("GET", &id, &[]).await;
    assert_eq!((whole.status.as_u16(), whole.bytes.len()), (200, 0));
    assert_eq!(whole.headers["content-length"], "0");
    fixture.content("GET", &id, &[("range", "bytes=0-")]).await.refused(416, "RANGE_NOT_SATISFIABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_elsewhere_is_led_to_or_told_what_to_configure() {
    let (fixture, device) = with_phone().await;
    let folder = tempfile::tempdir().unwrap();
    let id = fixture.record(&device).await;
    fixture.says(ended(&device, &id, RecordingPhase::Final, 5)).await;
    let nowhere = async |access: ContentAccess| {
        fixture.report(access).await;
        let refusal = fixture.content("GET", &id, &[]).await.refused(503, "CONTENT_UNAVAILABLE");
        assert!(refusal["detail"].as_str().unwrap().contains("advertise_url"), "{refusal}");
        assert_eq!(refusal["hostId"], "host-1");
    };
    nowhere(ContentAccess::default()).await;
    // The same machine, and a folder that is not this host's.
    keep(folder.path(), &device, &id, b"video");
    std::fs::write(folder.path().join(".phonefleet-host"), "host-2\n").unwrap();
    nowhere(here(folder.path())).await;
    nowhere(here(Path::new("relative/folder"))).await;
    let key = Some("0b".repeat(32));
    let url = Some("http://10.0.0.7:30003".to_owned());
    nowhere(ContentAccess { url: url.clone(), ..ContentAccess::default() }).await;
    nowhere(ContentAccess { key: key.clone(), ..ContentAccess::default() }).await;
    let strange = Some("http://x\r\nset-cookie: a=b".to_owned());
    nowhere(ContentAccess { url: strange, key: key.clone(), ..ContentAccess::default() }).await;

    fixture.report(ContentAccess { url, key, ..here(folder.path()) }).await;
    let answer = fixture.content("GET", &id, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.bytes.len()), (307, 0));
    assert_eq!(answer.headers["cache-control"], "no-store");
    let location = answer.headers["location"].to_str().unwrap();
    let start = format!("http://10.0.0.7:30003/recordings/{id}/content?expires=");
    let (expires, signature) = location.strip_prefix(&start).unwrap().split_once("&signature=").unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now + 290..=now + 300).contains(&expires.parse().unwrap()), "{expires}");
    assert_eq!(signature.len(), 64);
    // Not the same machine: the folder, though its marker fits, is not looked at.
    std::fs::write(folder.path().join(".phonefleet-host"), "host-1\n").unwrap();
    assert_eq!(fixture.content("GET", &id, &[]).await.status, 200);
    fixture.sql("UPDATE host SET machine_id = 'another'").await;
    assert_eq!(fixture.content("HEAD", &id, &[]).await.status, 307);
    for path in ["/hosts", "/hosts/host-1"] {
        let text = String::from_utf8(fixture.get(path).await.bytes).unwrap();
        assert!(!text.contains(&"0b".repeat(32)), "the key is nobody's business: {text}");
    }
    fixture.sql("UPDATE host SET forgotten_at = 1").await;
    fixture.content("GET", &id, &[]).await.refused(410, "GONE");
}
