-- Recordings: what the controller asked for, how far each is, and what is kept of it.
CREATE TABLE recording(
    recording_id TEXT PRIMARY KEY,
    device_id    TEXT NOT NULL,
    wish         TEXT NOT NULL,
    not_after    INTEGER NOT NULL,
    spec         TEXT NOT NULL,     -- JSON
    phase        TEXT NOT NULL,
    folder       TEXT NOT NULL,     -- on the phone: the video, its process, what it said
    data_epoch   INTEGER NOT NULL,  -- which data of the phone the folder is in
    launched_at  INTEGER,           -- before the process was begun; NULL: it cannot be there yet
    boot_mark    INTEGER,           -- start time of the phone's init at the launch
    pid          INTEGER,           -- in the phone
    start_time   INTEGER,           -- clock ticks; with the pid it names one process for ever
    signal       TEXT,              -- the newest signal, noted before it is sent
    signalled_at INTEGER,
    end_cause    TEXT,
    ending_since INTEGER,           -- when its end was first asked for
    ended_at     INTEGER,           -- its process is gone
    duration_ms  INTEGER,
    bytes        INTEGER,
    sha256       TEXT,
    reason_code  TEXT,
    reason_detail TEXT,
    finished_at  INTEGER,           -- since when the phase is the last one
    event_number INTEGER,           -- outbox number of the newest event about the end
    told         INTEGER NOT NULL   -- 1: the controller has acknowledged the end
) WITHOUT ROWID;

-- One at a time on each device.
CREATE UNIQUE INDEX recording_active ON recording(device_id)
    WHERE phase IN ('starting', 'recording', 'stopping');
CREATE INDEX recording_untold ON recording(event_number) WHERE told = 0 AND finished_at IS NOT NULL;
CREATE INDEX recording_finished ON recording(finished_at) WHERE finished_at IS NOT NULL;
