-- The reliable stream: the agent's log of events, and how far it applied the controller's.
CREATE TABLE stream_log(
    log          TEXT PRIMARY KEY,
    epoch        INTEGER NOT NULL,
    floor        INTEGER NOT NULL,  -- number before the oldest kept row
    floor_chain  INTEGER NOT NULL,  -- chain at the floor
    acknowledged INTEGER NOT NULL,  -- a head start only; the peer's hello is the truth
    opened_at    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE event_outbox(
    log            TEXT NOT NULL,
    seq            INTEGER NOT NULL,
    chain          INTEGER NOT NULL,
    aggregate_type TEXT NOT NULL,
    aggregate_id   TEXT NOT NULL,
    event_type     TEXT NOT NULL,
    payload        TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    PRIMARY KEY(log, seq)
) WITHOUT ROWID;

CREATE TABLE inbox_cursor(
    peer       TEXT PRIMARY KEY,
    epoch      INTEGER NOT NULL,
    through    INTEGER NOT NULL,
    chain      INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE inbox_retired(
    peer       TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    retired_at INTEGER NOT NULL,
    PRIMARY KEY(peer, epoch)
) WITHOUT ROWID;

CREATE TABLE inbox_dead_letter(
    id      INTEGER PRIMARY KEY,
    peer    TEXT NOT NULL,
    epoch   INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    payload TEXT NOT NULL,
    reason  TEXT NOT NULL,
    at      INTEGER NOT NULL
);

CREATE TABLE inbox_unknown(
    id      INTEGER PRIMARY KEY,
    peer    TEXT NOT NULL,
    epoch   INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    payload TEXT NOT NULL,
    at      INTEGER NOT NULL
);
