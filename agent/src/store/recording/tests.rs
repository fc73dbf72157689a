use super::*;

#[test]
fn what_is_open_is_a_piece_of_an_index_and_not_every_video() {
    let connection = Connection::open_in_memory().unwrap();
    for migration in crate::store::SCHEMA.migrations {
        connection.execute_batch(migration.sql).unwrap();
    }
    for (condition, index) in [(ACTIVE, "recording_not_over"), (UNTOLD, "recording_open")] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", listed(condition))).unwrap();
        let steps: Vec<String> =
            statement.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(steps, [format!("SCAN recording USING INDEX {index}")]);
    }
}
