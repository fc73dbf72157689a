-- Recordings. Times are milliseconds since 1970. What a user's recordings take of the quota
-- is the sum of their rows, so that no reservation can outlive its recording.

CREATE TABLE recording(
    recording_id  TEXT PRIMARY KEY,
    device_id     TEXT NOT NULL,
    host_id       TEXT NOT NULL REFERENCES host(host_id),
    user_id       TEXT NOT NULL,
    status        TEXT NOT NULL,
    spec          TEXT,                        -- RecordingSpec; NULL where only the host knows it
    adopted       INTEGER NOT NULL,            -- first heard of from its host: this database was restored
    -- what it shall be
    wish          TEXT NOT NULL,
    not_after     INTEGER NOT NULL,
    command_seq   INTEGER,                     -- its unacknowledged row in command_outbox
    command_dirty INTEGER NOT NULL,            -- a newer wish waits for that acknowledgement
    -- what the host knows of it
    phase         TEXT,
    started_at    INTEGER,                     -- by the host's clock, as ended_at
    ended_at      INTEGER,
    end_cause     TEXT,
    duration_ms   INTEGER,
    bytes         INTEGER,
    sha256        TEXT,
    reason_code   TEXT,
    reason_detail TEXT,
    quota_bytes   INTEGER NOT NULL,            -- expected while it runs, real afterwards, 0 without a video
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    over_at       INTEGER                      -- its end was known here, by this clock
) WITHOUT ROWID;
-- One at a time on a device. What a host had already is told, not refused.
CREATE UNIQUE INDEX recording_alone ON recording(device_id) WHERE over_at IS NULL AND adopted = 0;
CREATE INDEX recording_active ON recording(device_id, over_at) WHERE over_at IS NULL;
CREATE INDEX recording_active_on_host ON recording(host_id, over_at) WHERE over_at IS NULL;
CREATE INDEX recording_by_command ON recording(host_id, command_seq)
    WHERE command_seq IS NOT NULL OR command_dirty = 1;
CREATE INDEX recording_by_user ON recording(user_id, quota_bytes);
CREATE INDEX recording_by_status ON recording(status, recording_id, duration_ms);
CREATE INDEX recording_by_end ON recording(over_at) WHERE over_at IS NOT NULL;

-- Recordings named so far by an inventory that arrives in parts.
CREATE TABLE inventory_recording_seen(
    host_id      TEXT NOT NULL,
    recording_id TEXT NOT NULL,
    PRIMARY KEY(host_id, recording_id)
) WITHOUT ROWID;
