//! Lists of the devices that live, in a table that also holds those that are gone: pieces of an
//! index. And the end of those that are gone for good.

use super::{COLUMNS, DeviceRow, Status, read};
use crate::store::Result;
use phonefleet_protocol::facts::Ports;
use phonefleet_protocol::id::{HostId, UserId};
use phonefleet_protocol::time::Timestamp;
use phonefleet_store::rusqlite::types::ToSql;
use phonefleet_store::rusqlite::{Connection, params};

/// Which living devices a list wants.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this user.
    pub user_id: Option<UserId>,
    /// On this host.
    pub host_id: Option<HostId>,
    /// With this status.
    pub status: Option<Status>,
}

/// Living devices behind `after`, by id.
pub fn page(connection: &Connection, filter: &Filter, after: &str, limit: u32) -> Result<Vec<DeviceRow>> {
    let (sql, values) = page_statement(filter, after, limit);
    let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
    connection.prepare_cached(&sql)?.query_map(values.as_slice(), read)?.collect()
}

/// Only what is asked for stands in the statement. The index is named, because the table itself
/// is in the wanted order too, with all that is gone between: SQLite cannot know how much that is.
/// A host has few devices, which are then sorted; a user may have any number.
fn page_statement(filter: &Filter, after: &str, limit: u32) -> (String, Vec<Box<dyn ToSql>>) {
    let index = match (&filter.host_id, &filter.user_id) {
        (Some(_), _) => "device_by_host",
        (None, Some(_)) => "device_living_of_user",
        (None, None) => "device_living",
    };
    let mut conditions = vec!["deleted_at IS NULL".to_owned(), "device_id > ?1".to_owned()];
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(after.to_owned())];
    let mut named = |column: &str, value: Option<&str>| {
        if let Some(value) = value {
            values.push(Box::new(value.to_owned()));
            conditions.push(format!("{column} = ?{}", values.len()));
        }
    };
    named("host_id", filter.host_id.as_ref().map(HostId::as_str));
    named("user_id", filter.user_id.as_ref().map(UserId::as_str));
    named("status", filter.status.map(Status::name));
    values.push(Box::new(limit));
    let sql = format!(
        "SELECT {COLUMNS} FROM device INDEXED BY {index} WHERE {} ORDER BY device_id LIMIT ?{}",
        conditions.join(" AND "),
        values.len()
    );
    (sql, values)
}

/// Leased ports as the controller knows them: `(host, device, ports)`. What is gone has none.
pub fn ports(connection: &Connection, host: Option<&HostId>) -> Result<Vec<(String, String, Ports)>> {
    let name = host.map(HostId::as_str);
    let values: &[&dyn ToSql] = if name.is_some() { &[&name] } else { &[] };
    connection
        .prepare_cached(&ports_statement(host.is_some()))?
        .query_map(values, |row| {
            Ok((row.get(0)?, row.get(1)?, Ports { adb: row.get(2)?, webrtc: row.get(3)? }))
        })?
        .collect()
}

fn ports_statement(of_host: bool) -> String {
    let of_host = if of_host { "AND host_id = ?1" } else { "" };
    format!(
        "SELECT host_id, device_id, adb_port, webrtc_port FROM device INDEXED BY device_by_host
         WHERE deleted_at IS NULL AND adb_port IS NOT NULL {of_host} ORDER BY host_id, adb_port"
    )
}

const COUNTS: &str = "SELECT status, count(*) FROM device INDEXED BY device_living
     WHERE deleted_at IS NULL GROUP BY status";

/// How many living devices have each status.
pub fn count_by_status(connection: &Connection) -> Result<Vec<(String, u64)>> {
    connection
        .prepare_cached(COUNTS)?
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?
        .collect()
}

/// Not while a saga of it goes on, whose steps read its row.
const PRUNE: &str = "DELETE FROM device WHERE device_id IN
    (SELECT device_id FROM device INDEXED BY device_gone
     WHERE deleted_at < ?1 AND deleted_at IS NOT NULL
        AND phase = 'absent' AND command_seq IS NULL AND command_dirty = 0
        AND device_id NOT IN (SELECT device_id FROM saga_state
            WHERE status IN ('RUNNING', 'COMPENSATING', 'NEEDS_ATTENTION') AND device_id IS NOT NULL)
     ORDER BY deleted_at LIMIT ?2)";

/// Deletes up to `chunk` devices that are gone since before `before`, for sure: their hosts have
/// confirmed it, and are told nothing more.
pub fn prune(connection: &Connection, before: Timestamp, chunk: u32) -> Result<usize> {
    connection.prepare_cached(PRUNE)?.execute(params![before.0, chunk])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for migration in crate::store::SCHEMA.migrations {
            connection.execute_batch(migration.sql).unwrap();
        }
        connection
    }

    fn plan(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> String {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map(values, |row| row.get::<_, String>(3)).unwrap();
        steps.collect::<Result<Vec<_>>>().unwrap().join("; ")
    }

    #[test]
    fn every_list_passes_what_is_gone() {
        let connection = schema();
        for user_id in [None, Some("user-1".parse::<UserId>().unwrap())] {
            for host_id in [None, Some("host-1".parse::<HostId>().unwrap())] {
                for status in [None, Some(Status::Running)] {
                    let filter = Filter { user_id: user_id.clone(), host_id: host_id.clone(), status };
                    let (sql, values) = page_statement(&filter, "", 100);
                    let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
                    let wanted = match (&host_id, &user_id) {
                        (Some(_), _) => {
                            "SEARCH device USING INDEX device_by_host (host_id=? AND deleted_at=?); \
                             USE TEMP B-TREE FOR ORDER BY"
                        }
                        (None, Some(_)) => {
                            "SEARCH device USING INDEX device_living_of_user (user_id=? AND device_id>?)"
                        }
                        (None, None) => "SEARCH device USING INDEX device_living (device_id>?)",
                    };
                    assert_eq!(plan(&connection, &sql, &values), wanted, "{filter:?}");
                }
            }
        }
    }

    #[test]
    fn numbers_ports_and_pruning_read_no_whole_table() {
        let connection = schema();
        let counts = plan(&connection, COUNTS, &[]);
        assert!(counts.starts_with("SCAN device USING COVERING INDEX device_living"), "{counts}");
        let all = plan(&connection, &ports_statement(false), &[]);
        assert!(all.starts_with("SCAN device USING INDEX device_by_host"), "{all}");
        let some = plan(&connection, &ports_statement(true), &[&"host-1"]);
        assert!(
            some.starts_with("SEARCH device USING INDEX device_by_host (host_id=? AND deleted_at=?)"),
            "{some}"
        );
        let prune = plan(&connection, PRUNE, &[&0, &500]);
        for part in [
            "SEARCH device USING INDEX device_gone (deleted_at>? AND deleted_at<?)",
            "SEARCH saga_state USING INDEX saga_by_status (status=?)",
        ] {
            assert!(prune.contains(part), "{part} is not in {prune}");
        }
        assert!(!prune.contains("SCAN device"), "{prune}");
    }
}
