//! The totals by host and by user that triggers keep (`0007_totals.sql`), held against the rows
//! that they are of: for tests, and for whoever doubts them.

use super::Result;
use phonefleet_store::rusqlite::Connection;

/// Hosts and users whose totals are not what their rows add up to, as `host ID` and `user ID`.
/// Reads every row.
pub fn wrong(connection: &Connection) -> Result<Vec<String>> {
    connection
        .prepare(
            "SELECT 'host ' || host_id FROM (SELECT host_id FROM host UNION SELECT host_id FROM host_load) h
             LEFT JOIN host_load l USING (host_id)
             WHERE (l.devices, l.nano_cpus, l.memory_mb) IS NOT (
                SELECT count(*), coalesce(sum(CAST(round(cpu_cores * 1e9) AS INTEGER)), 0),
                    coalesce(sum(memory_mb), 0)
                FROM device d WHERE d.host_id = h.host_id AND d.deleted_at IS NULL)
             UNION ALL
             SELECT 'user ' || user_id
             FROM (SELECT user_id FROM quota_usage UNION SELECT user_id FROM quota_reservation) o
             LEFT JOIN quota_usage u USING (user_id)
             WHERE (u.devices, u.running, u.nano_cpus, u.memory_mb, u.storage_mb) IS NOT (
                SELECT coalesce(sum(kind = 'device'), 0), coalesce(sum(kind = 'running'), 0),
                    coalesce(sum(CAST(round(cpu_cores * 1e9) AS INTEGER)), 0),
                    coalesce(sum(memory_mb), 0), coalesce(sum(storage_mb), 0)
                FROM quota_reservation r WHERE r.user_id = o.user_id)",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}
