-- What the controller asked for, and how far the host has come with it.
CREATE TABLE device(
    device_id          TEXT PRIMARY KEY,
    generation         INTEGER NOT NULL,
    attempt            INTEGER NOT NULL,
    wish               TEXT NOT NULL,
    spec               TEXT,              -- JSON; absent devices may have none
    boot_count         INTEGER NOT NULL,
    data_epoch         INTEGER NOT NULL,
    applied_boot_count INTEGER NOT NULL,  -- boot_count at the newest start
    applied_data_epoch INTEGER NOT NULL,  -- data of older epochs is removed
    found              INTEGER NOT NULL,  -- 1: found on the host, no controller ever asked for it
    parked             INTEGER NOT NULL,  -- 1: left alone until a controller names it
    snapshot_seen      INTEGER NOT NULL,  -- 1: named by the snapshot that is being read
    phase              TEXT NOT NULL,
    reason_code        TEXT,
    reason_detail      TEXT,
    container_id       TEXT,
    built              TEXT,              -- hash of what the container was built from
    booted             INTEGER NOT NULL,  -- 1: the newest start completed its boot
    starts             INTEGER NOT NULL,
    deaths             TEXT NOT NULL,     -- JSON: milliseconds of the newest deaths
    answer             TEXT,              -- JSON outcome of (generation, attempt); NULL: still open
    answer_number      INTEGER            -- outbox number of the newest answer: a tombstone waits for it
) WITHOUT ROWID;

CREATE TABLE port_lease(
    port       INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL,             -- adb, webrtc
    device_id  TEXT,                      -- NULL: in quarantine
    generation INTEGER,
    state      TEXT NOT NULL,             -- LEASED, QUARANTINED
    until      INTEGER                    -- end of the quarantine
);
CREATE INDEX port_lease_device ON port_lease(device_id) WHERE device_id IS NOT NULL;

-- Child processes that outlive the agent, known by pid and start time.
CREATE TABLE process(
    name       TEXT PRIMARY KEY,
    pid        INTEGER NOT NULL,
    start_time INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE meta(
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
