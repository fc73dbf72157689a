-- Hosts, devices, sagas, quota. Times are milliseconds since 1970.

CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE host(
    host_id        TEXT PRIMARY KEY,
    machine_id     TEXT NOT NULL,
    software       TEXT NOT NULL,
    report         TEXT NOT NULL,              -- HostReport
    heartbeat      TEXT,                       -- the newest Heartbeat
    online         INTEGER NOT NULL,
    last_seen_at   INTEGER NOT NULL,
    cordoned       INTEGER NOT NULL DEFAULT 0,
    conflict_with  TEXT,                       -- machine id of a second living agent
    conflict_until INTEGER NOT NULL DEFAULT 0,
    forgotten_at   INTEGER,
    registered_at  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE device(
    device_id           TEXT PRIMARY KEY,
    name                TEXT NOT NULL,
    user_id             TEXT NOT NULL,
    host_id             TEXT NOT NULL REFERENCES host(host_id),
    status              TEXT NOT NULL,
    spec                TEXT NOT NULL,         -- DeviceSpec
    labels              TEXT NOT NULL,         -- JSON object of strings
    cpu_cores           REAL NOT NULL,
    memory_mb           INTEGER NOT NULL,
    -- what it shall be
    generation          INTEGER NOT NULL,
    attempt             INTEGER NOT NULL,
    wish                TEXT NOT NULL,
    boot_count          INTEGER NOT NULL,
    data_epoch          INTEGER NOT NULL,
    command_seq         INTEGER,               -- its unacknowledged row in command_outbox
    command_dirty       INTEGER NOT NULL,      -- a newer wish waits for that acknowledgement
    -- what the host answered to which (generation, attempt)
    answered_generation INTEGER NOT NULL DEFAULT 0,
    answered_attempt    INTEGER NOT NULL DEFAULT 0,
    answer              TEXT,                  -- Outcome
    -- what the host knows of it
    phase               TEXT,
    adb_port            INTEGER,
    webrtc_port         INTEGER,
    container_id        TEXT,
    reason_code         TEXT,
    reason_detail       TEXT,
    starts              INTEGER NOT NULL DEFAULT 0,
    saga_id             TEXT,                  -- the newest saga of this device
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    deleted_at          INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX device_by_name ON device(user_id, name) WHERE deleted_at IS NULL;
-- With the column of its own condition, or SQLite reads every row to see that it holds.
CREATE INDEX device_by_host ON device(host_id, deleted_at, cpu_cores, memory_mb) WHERE deleted_at IS NULL;
CREATE INDEX device_by_command ON device(host_id, command_seq) WHERE command_seq IS NOT NULL OR command_dirty = 1;
-- What is gone here and not yet, for sure, on its host.
CREATE INDEX device_leaving ON device(host_id)
    WHERE deleted_at IS NOT NULL AND (phase IS NOT 'absent' OR command_seq IS NOT NULL OR command_dirty = 1);

-- Devices that a host has and this database does not know: kept, and left alone.
CREATE TABLE stray_device(
    host_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    facts     TEXT NOT NULL,                   -- DeviceFacts
    seen_at   INTEGER NOT NULL,
    PRIMARY KEY(host_id, device_id)
) WITHOUT ROWID;

CREATE TABLE saga_state(
    saga_id       TEXT PRIMARY KEY,
    type          TEXT NOT NULL,
    version       INTEGER NOT NULL,
    status        TEXT NOT NULL,
    resume_status TEXT,                        -- what NEEDS_ATTENTION interrupted
    cause         TEXT,
    failed_step   TEXT,
    wait_reason   TEXT,
    step_index    INTEGER NOT NULL,
    current_step  TEXT NOT NULL,
    state         TEXT NOT NULL,
    retry_count   INTEGER NOT NULL,
    error_message TEXT,
    device_id     TEXT,
    event_count   INTEGER NOT NULL,
    retry_at      INTEGER,                     -- backing off until then
    timeout_at    INTEGER,
    due_at        INTEGER,                     -- when the timer must look at it
    started_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    ended_at      INTEGER
) WITHOUT ROWID;
CREATE INDEX saga_by_status ON saga_state(status, saga_id);
CREATE INDEX saga_by_timeout ON saga_state(timeout_at) WHERE ended_at IS NULL AND timeout_at IS NOT NULL;
CREATE INDEX saga_by_due ON saga_state(due_at) WHERE due_at IS NOT NULL;
CREATE INDEX saga_by_end ON saga_state(ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE saga_event(
    saga_id TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    step    TEXT NOT NULL,
    detail  TEXT,
    PRIMARY KEY(saga_id, seq)
) WITHOUT ROWID;

-- Limits that were given; NULL is unlimited.
CREATE TABLE quota_limit(
    user_id                TEXT PRIMARY KEY,
    max_devices            INTEGER,
    max_concurrent_devices INTEGER,
    device_cpu_cores       REAL,
    device_memory_mb       INTEGER,
    device_storage_mb      INTEGER,
    total_cpu_cores        REAL,
    total_memory_mb        INTEGER,
    total_storage_mb       INTEGER,
    recording_bytes        INTEGER,
    updated_at             INTEGER NOT NULL
) WITHOUT ROWID;

-- One row for each resource owner; usage is what the rows add up to.
CREATE TABLE quota_reservation(
    owner      TEXT NOT NULL,
    kind       TEXT NOT NULL,                  -- device: it exists; running: it may run
    user_id    TEXT NOT NULL,
    cpu_cores  REAL NOT NULL,
    memory_mb  INTEGER NOT NULL,
    storage_mb INTEGER NOT NULL,
    state      TEXT NOT NULL,                  -- RESERVED, then USED
    created_at INTEGER NOT NULL,
    PRIMARY KEY(owner, kind)
) WITHOUT ROWID;
CREATE INDEX quota_by_user ON quota_reservation(user_id, kind, cpu_cores, memory_mb, storage_mb);

-- Answers that are given again to the byte.
CREATE TABLE idempotency(
    user_id    TEXT NOT NULL,
    method     TEXT NOT NULL,
    path       TEXT NOT NULL,
    key        TEXT NOT NULL,
    body_hash  INTEGER NOT NULL,
    status     INTEGER NOT NULL,
    answer     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY(user_id, method, path, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency(created_at);

-- What happened, in order, for subscribers.
CREATE TABLE event_outbox(
    seq            INTEGER PRIMARY KEY,
    aggregate_type TEXT NOT NULL,
    aggregate_id   TEXT NOT NULL,
    event_type     TEXT NOT NULL,
    payload        TEXT NOT NULL,
    created_at     INTEGER NOT NULL
);

-- Devices named so far by an inventory that arrives in parts.
CREATE TABLE inventory_seen(
    host_id   TEXT NOT NULL,
    device_id TEXT NOT NULL,
    PRIMARY KEY(host_id, device_id)
) WITHOUT ROWID;
