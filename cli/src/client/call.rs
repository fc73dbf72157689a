//! One call: what is sent, and whether it may be sent again.

use http::Method;
use serde_json::Value;
use uuid::Uuid;

/// A call of the API.
#[derive(Clone, Debug)]
pub struct Call {
    /// GET, POST, PUT or DELETE.
    pub method: Method,
    /// Path and query, as [`super::address`] makes them.
    pub path: String,
    /// JSON, or nothing.
    pub body: Option<Value>,
    /// Its `Idempotency-Key`.
    pub key: Option<String>,
}

impl Call {
    /// Reads something.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, key: None }
    }

    /// Removes something; repeated, it is the same removal.
    pub fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, path: path.into(), body: None, key: None }
    }

    /// Sets something; repeated, it sets the same.
    pub fn put(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::PUT, path: path.into(), body: Some(body), key: None }
    }

    /// Asks for something to be done once. There is no POST without a key, so every call
    /// can be repeated after an answer got lost.
    pub fn post(path: impl Into<String>, body: Option<Value>, key: Key) -> Self {
        Self { method: Method::POST, path: path.into(), body, key: Some(key.0) }
    }
}

/// What makes a call take effect once.
#[derive(Clone, Debug)]
pub struct Key(String);

impl Key {
    /// The key that the user gave, or a new one.
    pub fn given_or_new(given: Option<&str>) -> Self {
        Self(given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned))
    }
}
