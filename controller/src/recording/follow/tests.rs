//! The life of a row, by what its host tells; absurd claims too.

use super::*;
use phonefleet_protocol::id::{DeviceId, RecordingId};
use phonefleet_protocol::recording::{EndCause, RecordingSpec};
use uuid::Uuid;

const PHASES: [RecordingPhase; 6] = [
    RecordingPhase::Starting,
    RecordingPhase::Recording,
    RecordingPhase::Stopping,
    RecordingPhase::Final,
    RecordingPhase::Corrupt,
    RecordingPhase::Failed,
];
const NOW: Timestamp = Timestamp(1_000);

fn ordered() -> RecordingRow {
    let spec = RecordingSpec::default();
    RecordingRow {
        recording_id: RecordingId(Uuid::nil()),
        device_id: DeviceId(Uuid::nil()),
        host_id: "host-1".parse().unwrap(),
        user_id: "user-1".parse().unwrap(),
        status: Status::Starting,
        spec: Some(spec),
        adopted: false,
        wish: RecordingWish::Recording,
        not_after: Timestamp(30_000),
        command_seq: Some(1),
        command_dirty: true,
        phase: None,
        started_at: None,
        ended_at: None,
        end_cause: None,
        duration_ms: None,
        bytes: None,
        sha256: None,
        reason: None,
        quota_bytes: spec.expected_bytes(),
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        over_at: None,
    }
}

fn facts(phase: RecordingPhase) -> RecordingFacts {
    RecordingFacts {
        recording_id: RecordingId(Uuid::nil()),
        device_id: DeviceId(Uuid::nil()),
        phase,
        started_at: (phase != RecordingPhase::Starting).then_some(Timestamp(500)),
        ended_at: phase.is_terminal().then_some(Timestamp(900)),
        end_cause: phase.is_terminal().then_some(EndCause::Stopped),
        duration_ms: None,
        bytes: None,
        sha256: None,
        reason: None,
    }
}

fn failed(code: &str) -> RecordingFacts {
    RecordingFacts {
        started_at: None,
        reason: Some(Reason::new(code, "why")),
        ..facts(RecordingPhase::Failed)
    }
}

#[test]
fn a_recording_goes_through_its_life() {
    let mut row = ordered();
    assert_eq!(follow(&mut row, &facts(RecordingPhase::Starting), NOW), Change::Moved);
    assert_eq!(follow(&mut row, &facts(RecordingPhase::Recording), NOW), Change::Started);
    assert_eq!((row.status, row.started_at), (Status::Recording, Some(Timestamp(500))));
    assert_eq!(follow(&mut row, &facts(RecordingPhase::Recording), NOW), Change::Moved);
    row.wish = RecordingWish::Stopped;
    follow(&mut row, &facts(RecordingPhase::Recording), NOW);
    assert_eq!(row.status, Status::Stopping, "its host does not know of the stop yet");
    assert_eq!((row.over_at, row.quota_bytes), (None, RecordingSpec::default().expected_bytes()));
    let end = RecordingFacts {
        bytes: Some(77),
        duration_ms: Some(4000),
        sha256: Some("0a".repeat(32)),
        ..facts(RecordingPhase::Final)
    };
    assert_eq!(follow(&mut row, &end, NOW), Change::Ended);
    assert_eq!((row.status, row.over_at, row.quota_bytes), (Status::Final, Some(NOW), 77));
    assert_eq!((row.duration_ms, row.end_cause), (Some(4000), Some(EndCause::Stopped)));
    assert!(!row.command_dirty, "there is nothing more to tell");
}

#[test]
fn an_end_stays() {
    for end in PHASES.into_iter().filter(|phase| phase.is_terminal()) {
        let mut row = ordered();
        assert_eq!(follow(&mut row, &facts(end), NOW), Change::Ended);
        let ended = row.clone();
        for later in PHASES {
            assert_eq!(follow(&mut row, &facts(later), Timestamp(2_000)), Change::Over);
            assert_eq!(row, ended, "{end:?} then {later:?}");
        }
    }
    let mut row = ordered();
    give_up(&mut row, lost(), NOW);
    assert_eq!((row.status, row.quota_bytes, row.over_at), (Status::Failed, 0, Some(NOW)));
    assert_eq!(follow(&mut row, &facts(RecordingPhase::Recording), NOW), Change::Over);
}

#[test]
fn every_first_word_is_taken() {
    for phase in PHASES {
        let mut row = ordered();
        let change = follow(&mut row, &facts(phase), NOW);
        let expected = match phase {
            RecordingPhase::Starting => Change::Moved,
            RecordingPhase::Recording | RecordingPhase::Stopping => Change::Started,
            _ => Change::Ended,
        };
        assert_eq!((change, row.phase), (expected, Some(phase)));
    }
}

#[test]
fn a_host_that_never_had_what_it_told_of_has_lost_it() {
    let code = |row: &RecordingRow| row.reason.as_ref().unwrap().code.clone();
    let mut never = ordered();
    follow(&mut never, &failed(NEVER_STARTED), NOW);
    assert_eq!(code(&never), NEVER_STARTED);
    let mut ran = ordered();
    follow(&mut ran, &facts(RecordingPhase::Recording), NOW);
    follow(&mut ran, &failed(NEVER_STARTED), NOW);
    assert_eq!((code(&ran).as_str(), ran.started_at), (LOST, Some(Timestamp(500))));
    let mut asked = ordered();
    asked.reason = Some(lost());
    follow(&mut asked, &failed(NEVER_STARTED), NOW);
    assert_eq!(code(&asked), LOST);
    let mut known = ordered();
    known.reason = Some(lost());
    follow(&mut known, &facts(RecordingPhase::Recording), NOW);
    assert_eq!(known.reason, None, "it was not lost");
    let mut busy = ordered();
    follow(&mut busy, &failed("BUSY"), NOW);
    assert_eq!((code(&busy).as_str(), busy.quota_bytes), ("BUSY", 0));
}

#[test]
fn absurd_claims_do_no_harm() {
    let mut row = ordered();
    let claim = RecordingFacts {
        bytes: Some(u64::MAX),
        duration_ms: Some(u64::MAX),
        sha256: Some("\"\r\nX-Evil: 1".to_owned()),
        reason: Some(Reason::new(&"x".repeat(30_000), "y".repeat(30_000))),
        ..facts(RecordingPhase::Corrupt)
    };
    follow(&mut row, &claim, NOW);
    assert_eq!((row.bytes, row.quota_bytes, row.sha256), (Some(MOST_BYTES), MOST_BYTES, None));
    assert!(row.duration_ms.unwrap() <= MOST_BYTES);
    let reason = row.reason.unwrap();
    assert!(reason.code.len() < 1100 && reason.detail.len() < 1100);
    for hash in ["0A".repeat(32), "0a".repeat(31), "0g".repeat(32)] {
        assert!(!is_sha256(&hash));
    }
}
