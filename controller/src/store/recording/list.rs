//! Lists of a table that grows for 30 days: pieces of an index, in its order.

use super::{COLUMNS, RecordingRow, Status, read};
use crate::store::Result;
use phonefleet_protocol::id::{DeviceId, UserId};
use phonefleet_store::rusqlite::Connection;
use phonefleet_store::rusqlite::types::ToSql;

/// Which recordings a list wants.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this device.
    pub device_id: Option<DeviceId>,
    /// Of this user.
    pub user_id: Option<UserId>,
    /// With this status.
    pub status: Option<Status>,
    /// That have not ended, or that have.
    pub active: Option<bool>,
}

/// Recordings behind `after`, by id, which is by age.
pub fn page(connection: &Connection, filter: &Filter, after: &str, limit: u32) -> Result<Vec<RecordingRow>> {
    let (sql, values) = page_statement(filter, after, limit);
    let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
    connection.prepare_cached(&sql)?.query_map(values.as_slice(), read)?.collect()
}

/// Only what is asked for stands in the statement, so that an index can answer it. The `+`
/// keeps a condition from choosing the index where another one leaves fewer rows.
fn page_statement(filter: &Filter, after: &str, limit: u32) -> (String, Vec<Box<dyn ToSql>>) {
    let mut conditions = vec!["recording_id > ?1".to_owned()];
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(after.to_owned())];
    let mut named = |column: &str, value: Option<String>| {
        if let Some(value) = value {
            values.push(Box::new(value));
            conditions.push(format!("{column} = ?{}", values.len()));
        }
    };
    let few = filter.device_id.is_some() || filter.active == Some(true);
    let (user, status) = if few { ("+user_id", "+status") } else { ("user_id", "status") };
    named("device_id", filter.device_id.map(|id| id.to_string()));
    named(user, filter.user_id.as_ref().map(|id| id.as_str().to_owned()));
    named(status, filter.status.map(|status| status.name().to_owned()));
    match filter.active {
        Some(true) => conditions.push("over_at IS NULL".to_owned()),
        Some(false) => conditions.push("over_at IS NOT NULL".to_owned()),
        None => {}
    }
    values.push(Box::new(limit));
    let sql = format!(
        "SELECT {COLUMNS} FROM recording WHERE {} ORDER BY recording_id LIMIT ?{}",
        conditions.join(" AND "),
        values.len()
    );
    (sql, values)
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

    fn plan(connection: &Connection, filter: &Filter) -> String {
        let (sql, values) = page_statement(filter, "", 100);
        let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map(values.as_slice(), |row| row.get::<_, String>(3)).unwrap();
        steps.collect::<Result<Vec<_>>>().unwrap().join("; ")
    }

    #[test]
    fn every_list_is_a_piece_of_an_index() {
        let connection = schema();
        let device = Some("0190a1b2-0000-7000-8000-000000000000".parse::<DeviceId>().unwrap());
        let user = Some("user-1".parse::<UserId>().unwrap());
        for device_id in [None, device] {
            for user_id in [None, user.clone()] {
                for status in [None, Some(Status::Final), Some(Status::Recording)] {
                    for active in [None, Some(true), Some(false)] {
                        let filter = Filter { device_id, user_id: user_id.clone(), status, active };
                        let wanted: &[&str] = match filter {
                            Filter { device_id: Some(_), active: Some(true), .. } => {
                                &["INDEX recording_active (device_id=? AND over_at=? AND recording_id>?)"]
                            }
                            Filter { device_id: Some(_), .. } => {
                                &["INDEX recording_of_device (device_id=? AND recording_id>?)"]
                            }
                            Filter { active: Some(true), .. } => {
                                &["INDEX recording_not_over (recording_id>?)"]
                            }
                            // Neither is surely the shorter one.
                            Filter { user_id: Some(_), status: Some(_), .. } => &[
                                "INDEX recording_of_user (user_id=? AND recording_id>?)",
                                "INDEX recording_by_status (status=? AND recording_id>?)",
                            ],
                            Filter { user_id: Some(_), .. } => {
                                &["INDEX recording_of_user (user_id=? AND recording_id>?)"]
                            }
                            Filter { status: Some(_), .. } => {
                                &["INDEX recording_by_status (status=? AND recording_id>?)"]
                            }
                            // Nearly every row fits.
                            Filter { .. } => &["PRIMARY KEY (recording_id>?)"],
                        };
                        let plan = plan(&connection, &filter);
                        let fits =
                            wanted.iter().any(|index| plan == format!("SEARCH recording USING {index}"));
                        assert!(fits, "{filter:?}: {plan}");
                    }
                }
            }
        }
    }
}
