//! Two ends of a stream in one process: inline stores on files, an in-memory broker, and
//! virtual time.

use phonefleet_link::conversation::{begin_log, reapply_known};
use phonefleet_link::domain::{Applied, Domain, LogItem};
use phonefleet_link::memory::Fate;
use phonefleet_link::{
    Conversation, ConversationError, ConversationHandle, ConversationOptions, Incoming, MemoryBroker,
};
use phonefleet_protocol::id::{IdSource, uuid_v7};
use phonefleet_protocol::stream::message::{Introduction, PROTOCOL};
use phonefleet_protocol::stream::sender::Regression;
use phonefleet_protocol::stream::{Admission, Epoch, ForkCause, Hello, Notice};
use phonefleet_protocol::time::{Clock, Timestamp};
use phonefleet_store::migration::Schema;
use phonefleet_store::stream_log::{COMMAND_OUTBOX, EVENT_OUTBOX, StreamLog};
use phonefleet_store::{Migration, Mode, Options, Store, Tx, rusqlite};
use serde_json::value::RawValue;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub const PEER: &str = "peer";
const UP: &str = "hosts/host-1/up";
const DOWN: &str = "hosts/host-1/down";

/// `orphan` takes any row, and then no commit passes.
const APPLIED: &str = "CREATE TABLE applied(position INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
    CREATE TABLE said(position INTEGER PRIMARY KEY, text TEXT NOT NULL);
    CREATE TABLE orphan(id INTEGER REFERENCES applied(position) DEFERRABLE INITIALLY DEFERRED);";
static AGENT_MIGRATIONS: [Migration; 2] = [
    Migration { number: 1, name: "stream", sql: include_str!("../../../migrations/agent/0001_stream.sql") },
    Migration { number: 2, name: "applied", sql: APPLIED },
];
static CONTROLLER_MIGRATIONS: [Migration; 2] = [
    Migration {
        number: 1,
        name: "stream",
        sql: include_str!("../../../migrations/controller/0001_stream.sql"),
    },
    Migration { number: 2, name: "applied", sql: APPLIED },
];

const AGAIN: &str = "snapshot of ";

/// What a test decides about a side and sees of it.
#[derive(Default)]
pub struct Knobs {
    pub knows_future: AtomicBool,
    /// Applying fails with a full disk so many more times.
    pub disk_full: AtomicU32,
    /// A hello panics so many more times.
    pub admit_panics: AtomicU32,
    pub notices: Mutex<Vec<Notice>>,
}

/// Keeps the texts of items in a table.
pub struct Texts<const AGENT: bool> {
    knobs: Arc<Knobs>,
}

impl<const AGENT: bool> Domain<()> for Texts<AGENT> {
    const LOG: StreamLog = if AGENT { EVENT_OUTBOX } else { COMMAND_OUTBOX };

    fn apply(
        &self,
        tx: &mut Tx<'_, ()>,
        peer: &str,
        item: &RawValue,
        _now: Timestamp,
    ) -> Result<Applied, rusqlite::Error> {
        assert_eq!(peer, PEER);
        if take_one(&self.knobs.disk_full) {
            let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
            return Err(rusqlite::Error::SqliteFailure(failure, None));
        }
        let text: String = serde_json::from_str::<serde_json::Value>(item.get()).unwrap()["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        tx.execute("INSERT INTO applied(text) VALUES (?1)", [&text])?;
        match text.as_str() {
            "refuse me" => Ok(Applied::Refused { kind: "text".to_owned(), reason: "as asked".to_owned() }),
            "panic" => panic!("as asked"),
            "future" if !self.knobs.knows_future.load(Ordering::SeqCst) => {
                Ok(Applied::Unknown { kind: "future".to_owned() })
            }
            _ => Ok(Applied::Done),
        }
    }

    fn snapshot(
        &self,
        tx: &mut Tx<'_, ()>,
        _peer: &str,
        now: Timestamp,
    ) -> Result<Vec<LogItem>, rusqlite::Error> {
        let mut items = vec![item(&format!("snapshot {}", now.0))];
        if !AGENT {
            // Whatever a new epoch leaves out has never been said.
            let mut said = tx.prepare("SELECT text FROM said ORDER BY position")?;
            for text in said.query_map([], |row| row.get::<_, String>(0))? {
                items.push(item(&format!("{AGAIN}{} {}", now.0, text?)));
            }
        }
        Ok(items)
    }

    fn admit(
        &self,
        _tx: &mut Tx<'_, ()>,
        _peer: &str,
        _hello: &Hello,
        _now: Timestamp,
    ) -> Result<Admission, rusqlite::Error> {
        assert!(!take_one(&self.knobs.admit_panics), "as asked");
        Ok(Admission::Welcome)
    }

    fn acknowledged(
        &self,
        _tx: &mut Tx<'_, ()>,
        _peer: &str,
        _through: u64,
        _now: Timestamp,
    ) -> Result<(), rusqlite::Error> {
        Ok(())
    }

    fn notice(&self, _peer: &str, notice: &Notice) {
        self.knobs.notices.lock().unwrap().push(notice.clone());
    }
}

fn take_one(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn item(text: &str) -> LogItem {
    let json = serde_json::json!({ "kind": "text", "text": text }).to_string();
    let item = RawValue::from_string(json).unwrap();
    LogItem { aggregate_type: "test", aggregate_id: String::new(), event_type: "text", item }
}

struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000).after(self.0.elapsed())
    }
}

/// Numbers from a seed.
pub struct Seeded(AtomicU64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl IdSource for Seeded {
    fn uuid(&self, now: Timestamp) -> uuid::Uuid {
        uuid_v7(now, u128::from(self.random()))
    }

    /// splitmix64.
    fn random(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// One end; `AGENT` or the controller.
pub struct Side<const AGENT: bool> {
    path: PathBuf,
    pub broker: MemoryBroker,
    pub knobs: Arc<Knobs>,
    ids: Arc<Seeded>,
    origin: Instant,
    running: Option<Running>,
}

struct Running {
    store: Store<()>,
    handle: ConversationHandle,
    conversation: JoinHandle<Result<(), ConversationError>>,
    router: JoinHandle<()>,
}

impl<const AGENT: bool> Side<AGENT> {
    pub const CLIENT: &str = if AGENT { "agent" } else { "controller" };

    fn new(directory: &tempfile::TempDir, broker: &MemoryBroker, seed: u64) -> Self {
        Self {
            path: directory.path().join(format!("{}.db", Self::CLIENT)),
            broker: broker.clone(),
            knobs: Arc::default(),
            ids: Arc::new(Seeded::new(seed + u64::from(AGENT))),
            origin: Instant::now(),
            running: None,
        }
    }

    pub async fn start(&mut self) {
        let (component, migrations) =
            if AGENT { ("agent", &AGENT_MIGRATIONS[..]) } else { ("controller", &CONTROLLER_MIGRATIONS[..]) };
        let options = Options {
            path: self.path.clone(),
            schema: Schema { component, migrations },
            mode: Mode::Inline { gate: None },
        };
        let store = Store::open(&options, |_| {}).unwrap();
        let domain = Arc::new(Texts::<AGENT> { knobs: Arc::clone(&self.knobs) });
        let clock: Arc<dyn Clock> = Arc::new(Virtual(self.origin));
        let (epoch, now, opener) = (Epoch(self.ids.random()), clock.now(), Arc::clone(&domain));
        let job = move |tx: &mut Tx<'_, ()>| begin_log(tx, &*opener, PEER, epoch, now);
        store.write(job).await.unwrap();
        if self.knobs.knows_future.load(Ordering::SeqCst) {
            reapply_known(&store, &domain, &clock, &["future"]).await.unwrap();
        }
        let (listen, say) = if AGENT { (DOWN, UP) } else { (UP, DOWN) };
        let (transport, mut incoming) = self.broker.connect(Self::CLIENT, &[listen], None);
        let introduction = Introduction {
            protocol: PROTOCOL,
            capabilities: Vec::new(),
            software: "test".to_owned(),
            host_id: "host-1".parse().unwrap(),
            machine_id: None,
            fleet_id: None,
            report: None,
        };
        let (conversation, handle) = Conversation::new(
            ConversationOptions {
                peer: PEER.to_owned(),
                send_topic: say.to_owned(),
                introduction,
                regression: if AGENT { Regression::Replay } else { Regression::Snapshot },
            },
            store.clone(),
            domain,
            transport,
            clock,
            Arc::clone(&self.ids) as Arc<dyn IdSource>,
        );
        let router_handle = handle.clone();
        let router = tokio::spawn(async move {
            while let Some(news) = incoming.recv().await {
                match news {
                    Incoming::Connected => router_handle.connected(),
                    Incoming::Disconnected { .. } => router_handle.disconnected(),
                    Incoming::Message { payload, .. } => router_handle.message(payload),
                }
            }
        });
        let conversation = tokio::spawn(conversation.run());
        self.running = Some(Running { store, handle, conversation, router });
    }

    /// The process dies, wherever it is.
    pub async fn crash(&mut self) {
        let Running { store, handle, conversation, router } = self.running.take().unwrap();
        conversation.abort();
        let _ = conversation.await;
        router.abort();
        let _ = router.await;
        drop((store, handle));
    }

    /// The database file as it is now, and as it shall be again. Only while crashed.
    pub fn backup(&self) -> Vec<u8> {
        assert!(self.running.is_none());
        // The last connection has folded the write-ahead log into it.
        std::fs::read(&self.path).unwrap()
    }

    pub fn restore(&self, backup: &[u8]) {
        assert!(self.running.is_none());
        std::fs::write(&self.path, backup).unwrap();
    }

    pub fn handle(&self) -> &ConversationHandle {
        &self.running.as_ref().unwrap().handle
    }

    pub fn store(&self) -> &Store<()> {
        &self.running.as_ref().unwrap().store
    }

    /// Drops every handle, and brings what the conversation returned.
    pub async fn stop(&mut self) -> Result<(), ConversationError> {
        let Running { store, handle, conversation, router } = self.running.take().unwrap();
        router.abort();
        let _ = router.await;
        drop(handle);
        let result = conversation.await.unwrap();
        drop(store);
        result
    }

    /// What the conversation returned by itself.
    pub async fn ended(&mut self) -> Result<(), ConversationError> {
        self.running.take().unwrap().conversation.await.unwrap()
    }

    pub async fn say(&self, text: &str) {
        let (item, now, said) = (item(text), Virtual(self.origin).now(), text.to_owned());
        let job = move |tx: &mut Tx<'_, ()>| {
            tx.execute("INSERT INTO said(text) VALUES (?1)", [&said])?;
            <Texts<AGENT> as Domain<()>>::LOG.append(tx, PEER, item.labels(), &item.item, now)
        };
        self.store().write(job).await.unwrap();
        self.handle().log_grew();
    }

    /// What was applied, in order: each item once, be it that it came again in a snapshot.
    pub async fn heard(&self) -> Vec<String> {
        let mut heard: Vec<String> = Vec::new();
        for text in self.everything_heard().await {
            let again = text.strip_prefix(AGAIN).and_then(|rest| rest.split_once(' '));
            match again {
                Some((_, text)) if heard.iter().any(|heard| heard == text) => {}
                Some((_, text)) => heard.push(text.to_owned()),
                None if text.starts_with("snapshot") => {}
                None => heard.push(text),
            }
        }
        heard
    }

    /// Why this side's log forked, each time.
    pub fn forks(&self) -> Vec<ForkCause> {
        let notices = self.knobs.notices.lock().unwrap();
        let cause = |notice: &Notice| match notice {
            Notice::Forked { cause, .. } => Some(*cause),
            _ => None,
        };
        notices.iter().filter_map(cause).collect()
    }

    pub async fn everything_heard(&self) -> Vec<String> {
        self.rows("SELECT text FROM applied ORDER BY position").await
    }

    pub async fn rows(&self, sql: &'static str) -> Vec<String> {
        self.store()
            .read(move |connection| connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect())
            .await
            .unwrap()
    }

    /// Waits until so many items were applied, and returns them.
    pub async fn hears(&self, items: usize) -> Vec<String> {
        for _ in 0..6000 {
            let heard = self.heard().await;
            if heard.len() >= items {
                return heard;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!(
            "{} heard {:?} after 10 minutes; {:?}",
            Self::CLIENT,
            self.heard().await,
            self.handle().status()
        );
    }
}

/// Both ends, started.
pub struct World {
    pub agent: Side<true>,
    pub controller: Side<false>,
    pub broker: MemoryBroker,
    _directory: tempfile::TempDir,
}

impl World {
    pub async fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let broker = MemoryBroker::new();
        let mut agent = Side::new(&directory, &broker, seed);
        let mut controller = Side::new(&directory, &broker, seed + 1000);
        agent.start().await;
        controller.start().await;
        Self { agent, controller, broker, _directory: directory }
    }

    /// Drops, repeats and delays a good part of everything.
    pub fn make_lossy(&self, seed: u64) {
        let numbers = Seeded::new(seed);
        self.broker.set_fate(move |_| match numbers.random() % 10 {
            0 | 1 => Fate::Drop,
            2 => Fate::Twice,
            3 | 4 => Fate::Delay(Duration::from_millis(numbers.random() % 3000)),
            _ => Fate::Deliver,
        });
    }
}

pub fn texts(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix} {number}")).collect()
}
