-- What devices add up to, by host and by user, so that an order need not add them up. Kept by
-- triggers: whoever changes the rows changes the totals, in the same statement. Processors are
-- counted in whole billionths, because sums of fractions that come and go drift.

CREATE TABLE host_load(
    host_id   TEXT PRIMARY KEY,
    devices   INTEGER NOT NULL,  -- that exist
    nano_cpus INTEGER NOT NULL,
    memory_mb INTEGER NOT NULL
) WITHOUT ROWID;
-- The order in which hosts are chosen.
CREATE INDEX host_load_by_load ON host_load(devices, memory_mb, host_id);
INSERT INTO host_load(host_id, devices, nano_cpus, memory_mb)
    SELECT h.host_id, count(d.device_id), coalesce(sum(CAST(round(d.cpu_cores * 1e9) AS INTEGER)), 0),
        coalesce(sum(d.memory_mb), 0)
    FROM host h LEFT JOIN device d ON d.host_id = h.host_id AND d.deleted_at IS NULL
    GROUP BY h.host_id;

CREATE TRIGGER host_load_begins AFTER INSERT ON host BEGIN
    INSERT OR IGNORE INTO host_load(host_id, devices, nano_cpus, memory_mb) VALUES (new.host_id, 0, 0, 0);
END;
CREATE TRIGGER host_load_grows AFTER INSERT ON device WHEN new.deleted_at IS NULL BEGIN
    UPDATE host_load SET devices = devices + 1,
        nano_cpus = nano_cpus + CAST(round(new.cpu_cores * 1e9) AS INTEGER),
        memory_mb = memory_mb + new.memory_mb
    WHERE host_id = new.host_id;
END;
CREATE TRIGGER host_load_shrinks AFTER UPDATE OF deleted_at ON device
    WHEN old.deleted_at IS NULL AND new.deleted_at IS NOT NULL BEGIN
    UPDATE host_load SET devices = devices - 1,
        nano_cpus = nano_cpus - CAST(round(old.cpu_cores * 1e9) AS INTEGER),
        memory_mb = memory_mb - old.memory_mb
    WHERE host_id = old.host_id;
END;

CREATE TABLE quota_usage(
    user_id    TEXT PRIMARY KEY,
    devices    INTEGER NOT NULL,  -- reservations to exist
    running    INTEGER NOT NULL,  -- reservations to run
    nano_cpus  INTEGER NOT NULL,
    memory_mb  INTEGER NOT NULL,
    storage_mb INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO quota_usage(user_id, devices, running, nano_cpus, memory_mb, storage_mb)
    SELECT user_id, sum(kind = 'device'), sum(kind = 'running'),
        sum(CAST(round(cpu_cores * 1e9) AS INTEGER)), sum(memory_mb), sum(storage_mb)
    FROM quota_reservation GROUP BY user_id;

CREATE TRIGGER quota_usage_grows AFTER INSERT ON quota_reservation BEGIN
    INSERT INTO quota_usage(user_id, devices, running, nano_cpus, memory_mb, storage_mb)
        VALUES (new.user_id, new.kind = 'device', new.kind = 'running',
            CAST(round(new.cpu_cores * 1e9) AS INTEGER), new.memory_mb, new.storage_mb)
        ON CONFLICT(user_id) DO UPDATE SET devices = devices + excluded.devices,
            running = running + excluded.running, nano_cpus = nano_cpus + excluded.nano_cpus,
            memory_mb = memory_mb + excluded.memory_mb, storage_mb = storage_mb + excluded.storage_mb;
END;
CREATE TRIGGER quota_usage_shrinks AFTER DELETE ON quota_reservation BEGIN
    UPDATE quota_usage SET devices = devices - (old.kind = 'device'), running = running - (old.kind = 'running'),
        nano_cpus = nano_cpus - CAST(round(old.cpu_cores * 1e9) AS INTEGER),
        memory_mb = memory_mb - old.memory_mb, storage_mb = storage_mb - old.storage_mb
    WHERE user_id = old.user_id;
END;
-- Nobody adds them up any more.
DROP INDEX quota_by_user;
