//! Lists of a table that grows for 30 days: pieces of an index, in its order.

use super::{COLUMNS, SagaRow, SagaStatus, read};
use crate::store::Result;
use phonefleet_store::rusqlite::Connection;
use phonefleet_store::rusqlite::types::ToSql;

/// Sagas behind `after`, by id, which is by age.
pub fn page(
    connection: &Connection,
    saga_type: Option<&str>,
    status: Option<SagaStatus>,
    after: &str,
    limit: u32,
) -> Result<Vec<SagaRow>> {
    let (sql, values) = page_statement(saga_type, status, after, limit);
    let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
    connection.prepare_cached(&sql)?.query_map(values.as_slice(), read)?.collect()
}

/// Only what is asked for stands in the statement, so that an index can answer it. The `+`
/// keeps the type from choosing the index where a status leaves fewer rows.
fn page_statement(
    saga_type: Option<&str>,
    status: Option<SagaStatus>,
    after: &str,
    limit: u32,
) -> (String, Vec<Box<dyn ToSql>>) {
    let mut conditions = vec!["saga_id > ?1".to_owned()];
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(after.to_owned())];
    let mut named = |column: &str, value: Option<&str>| {
        if let Some(value) = value {
            values.push(Box::new(value.to_owned()));
            conditions.push(format!("{column} = ?{}", values.len()));
        }
    };
    named("status", status.map(SagaStatus::name));
    named(if status.is_some() { "+type" } else { "type" }, saga_type);
    values.push(Box::new(limit));
    let sql = format!(
        "SELECT {COLUMNS} FROM saga_state WHERE {} ORDER BY saga_id LIMIT ?{}",
        conditions.join(" AND "),
        values.len()
    );
    (sql, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_a_piece_of_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        for migration in crate::store::SCHEMA.migrations {
            connection.execute_batch(migration.sql).unwrap();
        }
        for (saga_type, status, wanted) in [
            (None, None, "PRIMARY KEY (saga_id>?)"),
            (Some("DEVICE_STOP"), None, "INDEX saga_by_type (type=? AND saga_id>?)"),
            (None, Some(SagaStatus::Running), "INDEX saga_by_status (status=? AND saga_id>?)"),
            (Some("DEVICE_STOP"), Some(SagaStatus::Failed), "INDEX saga_by_status (status=? AND saga_id>?)"),
        ] {
            let (sql, values) = page_statement(saga_type, status, "", 100);
            let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = statement.query_map(values.as_slice(), |row| row.get::<_, String>(3)).unwrap();
            let plan = steps.collect::<Result<Vec<_>>>().unwrap().join("; ");
            assert_eq!(plan, format!("SEARCH saga_state USING {wanted}"), "{saga_type:?} {status:?}");
        }
    }
}
