//! Lists, a page at a time.

use super::problem::{Code, Problem};
use axum::extract::Query;
use axum::http::Uri;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::str::FromStr;

/// Items of a page when nobody says how many.
const DEFAULT_LIMIT: u32 = 100;
/// Most items of a page.
pub const MOST_LIMIT: u32 = 1000;

/// One page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to give as `cursor` for the next page; `null` on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of `limit` items, made of one row more than that if there are more.
    pub fn of<R>(
        mut rows: Vec<R>,
        window: &Window,
        key: impl Fn(&R) -> String,
        view: impl FnMut(R) -> T,
    ) -> Self {
        let more = rows.len() > window.limit as usize;
        rows.truncate(window.limit as usize);
        let next_cursor = if more { rows.last().map(key) } else { None };
        Self { items: rows.into_iter().map(view).collect(), next_cursor }
    }
}

/// Which part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Items behind this key; empty for the first page.
    pub after: String,
    /// Items at most, 1 to [`MOST_LIMIT`].
    pub limit: u32,
}

impl Window {
    /// Checks what a query says; `K` is the key that the list goes by. A cursor that can be
    /// no key would otherwise look like the end of the list.
    pub fn new<K: FromStr + Display>(limit: Option<&str>, cursor: Option<&str>) -> Result<Self, Problem> {
        let limit = match limit {
            None => DEFAULT_LIMIT,
            Some(text) => {
                text.parse().ok().filter(|limit| (1..=MOST_LIMIT).contains(limit)).ok_or_else(|| {
                    Problem::new(Code::InvalidQuery, format!("limit must be a number from 1 to {MOST_LIMIT}"))
                })?
            }
        };
        let after = match cursor {
            None | Some("") => String::new(),
            Some(text) => text.parse::<K>().map_err(|_| bad_cursor())?.to_string(),
        };
        Ok(Self { after, limit })
    }

    /// Rows to read: one more than the page holds tells whether another follows.
    pub fn rows(&self) -> u32 {
        self.limit + 1
    }
}

fn bad_cursor() -> Problem {
    Problem::new(Code::InvalidQuery, "cursor must be the nextCursor of an earlier page of this list")
}

/// Reads a query string; unknown parameters are an error.
pub fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    Query::<T>::try_from_uri(uri)
        .map(|Query(value)| value)
        .map_err(|error| Problem::new(Code::InvalidQuery, error.body_text()))
}

/// Reads one parameter of a query.
pub fn parameter<T: FromStr>(name: &str, text: Option<&str>) -> Result<Option<T>, Problem>
where
    T::Err: Display,
{
    text.map(str::parse)
        .transpose()
        .map_err(|error| Problem::new(Code::InvalidQuery, format!("{name}: {error}")))
}
