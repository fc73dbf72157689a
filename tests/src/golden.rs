//! Golden files: texts that an earlier release may have stored or sent, in `tests/golden/`.
//!
//! `NAME.EXT` is what today's code writes. `NAME.1.EXT`, `NAME.2.EXT` … are what it once wrote
//! and must read for ever. With `PHONEFLEET_GOLDEN=write` a text that has changed is written,
//! and the one that it replaces is kept under the next number.

use phonefleet_store::rusqlite::types::{Value as Cell, ValueRef};
use phonefleet_store::rusqlite::{self, Connection};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Whether the golden files are to be written.
pub fn writes() -> bool {
    std::env::var("PHONEFLEET_GOLDEN").is_ok_and(|value| value == "write")
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// The golden text of that name as it stands, if there is one.
pub fn current(name: &str) -> Option<String> {
    std::fs::read_to_string(path(name)).ok()
}

/// Holds today's text against the golden one.
///
/// # Panics
/// When they differ, or there is none.
pub fn check(name: &str, today: &str) {
    let golden = current(name);
    if golden.as_deref() == Some(today) {
        return;
    }
    let path = path(name);
    assert!(
        writes(),
        "{} is stored or sent differently than before.\n golden: {}\n  today: {today}\n\
         Programs and databases of the old form are out there: read both forms, then run the test with \
         PHONEFLEET_GOLDEN=write, and commit the old form with the new one.",
        path.display(),
        golden.as_deref().unwrap_or("(none)")
    );
    if golden.is_some() {
        let older = older(&path).len() + 1;
        std::fs::rename(&path, numbered(&path, older)).expect("a file is kept");
    }
    std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder");
    std::fs::write(&path, today).expect("a file is written");
}

/// Older forms that are kept.
fn older(path: &Path) -> Vec<PathBuf> {
    (1..10_000).map(|number| numbered(path, number)).take_while(|older| older.exists()).collect()
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    let extension = path.extension().and_then(|text| text.to_str()).unwrap_or("txt");
    path.with_extension(format!("{number}.{extension}"))
}

/// The golden text of that name and every older form of it, with their file names.
pub fn every_form(name: &str) -> Vec<(String, String)> {
    let path = path(name);
    std::iter::once(path.clone())
        .chain(older(&path))
        .filter_map(|path| Some((path.display().to_string(), std::fs::read_to_string(path).ok()?)))
        .collect()
}

/// A row of a database as JSON, with every column that is not NULL.
///
/// # Errors
/// Those of SQLite; a row that is not there.
pub fn row(connection: &Connection, table: &str, condition: &str) -> rusqlite::Result<Value> {
    connection.query_row(&format!("SELECT * FROM {table} WHERE {condition}"), [], |row| {
        let statement = row.as_ref();
        let mut fields = Map::new();
        for index in 0..statement.column_count() {
            let value = match row.get_ref(index)? {
                ValueRef::Null => continue,
                ValueRef::Integer(number) => Value::from(number),
                ValueRef::Real(number) => Value::from(number),
                ValueRef::Text(text) | ValueRef::Blob(text) => {
                    Value::from(String::from_utf8_lossy(text).into_owned())
                }
            };
            fields.insert(statement.column_name(index)?.to_owned(), value);
        }
        Ok(Value::Object(fields))
    })
}

/// Puts a row of an earlier release in the place of what there is. Columns that it did not have
/// get what their migration gives to old rows.
///
/// # Errors
/// Those of SQLite.
///
/// # Panics
/// When it is no row.
pub fn put_row(connection: &Connection, table: &str, row: &str) -> rusqlite::Result<()> {
    let fields: Map<String, Value> = serde_json::from_str(row).expect("a golden row is a JSON object");
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    let places: Vec<String> = (1..=names.len()).map(|number| format!("?{number}")).collect();
    let cells = fields.values().map(|value| match value {
        Value::Number(number) if number.is_f64() => Cell::Real(number.as_f64().unwrap_or(0.0)),
        Value::Number(number) => Cell::Integer(number.as_i64().unwrap_or(0)),
        Value::String(text) => Cell::Text(text.clone()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Cell::Null,
    });
    let sql = format!("INSERT OR REPLACE INTO {table}({}) VALUES ({})", names.join(", "), places.join(", "));
    connection.execute(&sql, rusqlite::params_from_iter(cells)).map(|_| ())
}

/// A row as it stands in its golden file.
pub fn pretty(row: &Value) -> String {
    format!("{row:#}\n")
}
