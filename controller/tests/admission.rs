//! Who may speak as a host, and until when.

#![allow(clippy::unwrap_used, reason = "tests")]

use phonefleet_controller::fleet::admission::{CONFLICT_LASTS, admit};
use phonefleet_controller::store::{self, Store, host};
use phonefleet_protocol::host::HostReport;
use phonefleet_protocol::id::{FleetId, HostId};
use phonefleet_protocol::stream::message::{Introduction, PROTOCOL};
use phonefleet_protocol::stream::{Admission, Epoch, Hello, LogHead};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::Mode;
use std::sync::Arc;
use std::time::Duration;

const PRESENCE: Duration = Duration::from_secs(30);

struct Door {
    store: Store,
    _folder: tempfile::TempDir,
}

impl Door {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store =
            store::open(&folder.path().join("controller.db"), Mode::Threaded, Arc::new(|_| {})).unwrap();
        Self { store, _folder: folder }
    }

    async fn hello(&self, hello: Hello, second: u64) -> Admission {
        let (fleet, host) = (fleet(), host());
        let now = Timestamp(0).after(Duration::from_secs(second));
        self.store.write(move |tx| admit(tx, &fleet, &host, &hello, PRESENCE, now)).await.unwrap()
    }

    /// A hello of a machine; whether it was welcome.
    async fn knocks(&self, machine: &str, second: u64) -> bool {
        match self.hello(hello(machine), second).await {
            Admission::Welcome => true,
            Admission::Refused(why) => {
                assert!(why.contains("machine"), "{why}");
                false
            }
            Admission::Stranger(why) => panic!("{why}"),
        }
    }

    async fn row(&self) -> Option<host::HostRow> {
        self.store.read(|connection| host::find(connection, &host())).await.unwrap()
    }

    /// The registered machine, and the one that it is in conflict with.
    async fn machines(&self) -> (String, Option<String>) {
        let row = self.row().await.unwrap();
        (row.machine_id, row.conflict_with)
    }

    async fn heartbeat(&self, machine: &'static str, second: u64) {
        let job = move |tx: &mut store::Tx<'_>| {
            let beat = format!(
                r#"{{"at":"2026-01-01T00:00:00Z","machineId":"{machine}","instance":"x","cpuPercent":1.0,
                    "memoryUsedMB":1,"diskFreeMB":1,"phonesRunning":0,"outboxPending":0}}"#
            );
            let beat = serde_json::from_str(&beat).unwrap();
            host::heard(tx, &host(), &beat, Timestamp(0).after(Duration::from_secs(second))).map(|_| ())
        };
        self.store.write(job).await.unwrap();
    }
}

fn fleet() -> FleetId {
    "fleet".parse().unwrap()
}

fn host() -> HostId {
    "host".parse().unwrap()
}

fn hello(machine: &str) -> Hello {
    Hello {
        session: 1,
        answers: None,
        settled: false,
        introduction: Introduction {
            protocol: PROTOCOL,
            capabilities: Vec::new(),
            software: String::new(),
            host_id: host(),
            machine_id: Some(machine.parse().unwrap()),
            fleet_id: None,
            report: Some(HostReport::default()),
        },
        log: LogHead::empty(Epoch(1)),
        cursor: None,
    }
}

#[tokio::test]
async fn a_conflict_ends_when_the_second_one_is_silent() {
    let door = Door::new();
    assert!(door.knocks("a", 0).await);
    assert!(!door.knocks("b", 10).await);
    assert_eq!(door.machines().await, ("a".to_owned(), Some("b".to_owned())));
    assert!(!door.knocks("a", 20).await, "nobody gets commands in a conflict");
    door.heartbeat("a", 25).await;
    assert!(!door.knocks("b", 30).await);
    door.heartbeat("a", 85).await;
    assert!(!door.knocks("a", 30 + CONFLICT_LASTS.as_secs() - 1).await);
    assert!(door.knocks("a", 30 + CONFLICT_LASTS.as_secs() + 1).await);
    assert_eq!(door.machines().await, ("a".to_owned(), None));
}

/// However long the second one speaks on: each of its hellos used to prolong the conflict.
#[tokio::test]
async fn a_conflict_ends_when_the_first_one_is_silent() {
    let door = Door::new();
    assert!(door.knocks("a", 0).await);
    door.heartbeat("a", 20).await;
    let mut moved = None;
    for second in (25..300).step_by(25) {
        // Its heartbeats count for nothing.
        door.heartbeat("b", second).await;
        if door.knocks("b", second).await {
            moved = Some(second);
            break;
        }
    }
    assert_eq!(moved, Some(100), "the first was silent for more than a minute");
    assert_eq!(door.machines().await, ("b".to_owned(), None));
    // The first one returns, and is the second now.
    assert!(!door.knocks("a", 105).await);
    assert_eq!(door.machines().await, ("b".to_owned(), Some("a".to_owned())));
}

/// One that was silent, without a conflict, is replaced at once: a host with a new disk.
#[tokio::test]
async fn an_id_moves_to_another_machine() {
    let door = Door::new();
    assert!(door.knocks("a", 0).await);
    assert!(door.knocks("b", 31).await);
    assert_eq!(door.machines().await, ("b".to_owned(), None));
}

#[tokio::test]
async fn strangers_get_no_row() {
    let door = Door::new();
    let mut others = vec![hello("a"), hello("a"), hello("a"), hello("a")];
    others[0].introduction.host_id = "other".parse().unwrap();
    others[1].introduction.fleet_id = Some("others".parse().unwrap());
    others[2].introduction.machine_id = None;
    others[3].introduction.report = None;
    for hello in others {
        assert!(matches!(door.hello(hello, 0).await, Admission::Stranger(_)));
    }
    assert!(door.row().await.is_none());
}
