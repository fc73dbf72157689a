//! The HTTP end of this program: calls of the controller's API, and reads of an agent's.
//!
//! ```text
//!   Call ─▶ attempts, within one time limit ─▶ answer ─▶ data of the envelope
//!           (only connection errors are tried            └▶ Refusal (problem+json)
//!            again, and every call may be)
//! ```
//!
//! Every call can be repeated: reads, PUT and DELETE by their nature, POST by its
//! `Idempotency-Key` ([`Call::post`] demands one). So an answer that got lost on the way is
//! asked for again, and takes effect once.

pub mod address;
mod body;
pub mod call;
pub mod problem;

use crate::failure::Failure;
use address::{Address, with_query};
use body::read_whole;
use bytes::Bytes;
use call::Call;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use problem::Refusal;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

pub use body::Content;

/// Most time for a connection alone.
const CONNECT: Duration = Duration::from_secs(5);
/// Pauses before further attempts.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_millis(1000)];
/// Items asked for at a time; the most that the API gives.
const PAGE: &str = "1000";

/// A daemon that can be called. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    address: Address,
    time_limit: Duration,
    http: legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// Calls of the daemon at `address`, each answered within `time_limit`.
    pub fn new(address: Address, time_limit: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Self { address, time_limit, http }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The `data` of an answer.
    ///
    /// # Errors
    /// Refusals, no answer, and answers that are none of a controller.
    pub async fn data(&self, call: Call) -> Result<Value, Failure> {
        let mut answer = self.json(call).await?;
        match answer.get_mut("data") {
            Some(data) => Ok(data.take()),
            None => Err(self.stranger("an answer without data")),
        }
    }

    /// An answer as it is, without looking for an envelope.
    ///
    /// # Errors
    /// Those of [`Self::data`].
    pub async fn json(&self, call: Call) -> Result<Value, Failure> {
        let end = Instant::now() + self.time_limit;
        let response = self.send(&call, &[], end).await?;
        let status = response.status();
        let whole = timeout_at(end, read_whole(response)).await;
        let bytes = whole
            .map_err(|_| self.no_answer(&call))?
            .map_err(|error| self.broken(&call, &error.to_string()))?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|_| self.stranger("an answer that is not JSON"));
        }
        Err(self.refusal(status, &bytes))
    }

    /// The content of something large, with `headers` such as a range, following one
    /// redirect to where it is kept.
    ///
    /// # Errors
    /// Those of [`Self::data`].
    pub async fn content(
        &self,
        path: &str,
        headers: &[(header::HeaderName, String)],
    ) -> Result<Content, Failure> {
        let call = Call::get(path);
        let end = Instant::now() + self.time_limit;
        let mut response = self.send(&call, headers, end).await?;
        if response.status().is_redirection() {
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| self.stranger("a redirect to nowhere"))?;
            let Some((address, path)) = split(location) else {
                return Err(Failure::Failed(format!(
                    "this is kept at an address that does not begin with http://, which this program cannot read; \
                     take it with: curl -LO {}{}",
                    self.address, call.path
                )));
            };
            let kept = Self { address: Address::parse(address, "the redirect")?, ..self.clone() };
            response = kept.send(&Call::get(path), headers, end).await?;
        }
        let status = response.status();
        if status.is_success() {
            return Ok(Content::new(response));
        }
        let whole = timeout_at(end, read_whole(response)).await;
        let bytes = whole
            .map_err(|_| self.no_answer(&call))?
            .map_err(|error| self.broken(&call, &error.to_string()))?;
        Err(self.refusal(status, &bytes))
    }

    /// Every item of a list, page by page.
    ///
    /// # Errors
    /// Those of [`Self::data`].
    pub async fn list(&self, path: &str, parameters: &[(&str, Option<&str>)]) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        self.pages(path, parameters, None, |page| items.extend(page)).await?;
        Ok(items)
    }

    /// The pages of a list behind `cursor`, each given to `take`.
    ///
    /// # Errors
    /// Those of [`Self::data`].
    pub async fn pages(
        &self,
        path: &str,
        parameters: &[(&str, Option<&str>)],
        cursor: Option<String>,
        mut take: impl FnMut(Vec<Value>),
    ) -> Result<(), Failure> {
        let mut cursor = cursor;
        loop {
            let mut query = parameters.to_vec();
            query.push(("limit", Some(PAGE)));
            query.push(("cursor", cursor.as_deref()));
            let mut data = self.data(Call::get(with_query(path, &query))).await?;
            let Some(Value::Array(items)) = data.get_mut("items").map(Value::take) else {
                return Err(self.stranger("a list without items"));
            };
            take(items);
            let next = data.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
            if next.is_none() {
                return Ok(());
            }
            if next == cursor {
                return Err(self.stranger("a list that goes round in circles"));
            }
            cursor = next;
        }
    }

    /// One thing, read into what this program knows of it.
    ///
    /// # Errors
    /// Values of another shape.
    pub fn read<T: DeserializeOwned>(&self, value: &Value) -> Result<T, Failure> {
        T::deserialize(value).map_err(|error| self.stranger(&format!("an answer of another shape ({error})")))
    }

    /// Sends a call, again after connection errors, until `end`.
    async fn send(
        &self,
        call: &Call,
        headers: &[(header::HeaderName, String)],
        end: Instant,
    ) -> Result<Response<Incoming>, Failure> {
        let mut pauses = PAUSES.iter();
        loop {
            let request = self.request(call, headers).map_err(|error| {
                // What the user gave is in the path encoded, and in headers.
                Failure::Usage(format!("the call cannot be written: {error}"))
            })?;
            match timeout_at(end, self.http.request(request)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => {
                    let Some(pause) = pauses.next().filter(|pause| Instant::now() + **pause < end) else {
                        return Err(self.broken(call, &causes(&error)));
                    };
                    sleep(*pause).await;
                }
                Err(_) => return Err(self.no_answer(call)),
            }
        }
    }

    fn request(
        &self,
        call: &Call,
        headers: &[(header::HeaderName, String)],
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(self.address.uri(&call.path)?)
            .header(header::USER_AGENT, concat!("phonefleet/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json, application/problem+json, */*");
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        match &call.body {
            None => request.body(Full::default()),
            Some(body) => {
                request.header(header::CONTENT_TYPE, "application/json").body(Full::from(body.to_string()))
            }
        }
    }

    fn refusal(&self, status: StatusCode, bytes: &[u8]) -> Failure {
        match serde_json::from_slice::<Refusal>(bytes) {
            Ok(refusal) if !refusal.title.is_empty() || !refusal.detail.is_empty() => {
                Failure::Refused(Box::new(Refusal { status: status.as_u16(), ..refusal }))
            }
            _ => self.stranger(&format!("HTTP {status}")),
        }
    }

    fn stranger(&self, what: &str) -> Failure {
        let address = &self.address;
        Failure::Unreachable(format!(
            "{address} answered with {what}: this is no Phonefleet daemon of a version that this program knows; \
             check --controller and phonefleet config show"
        ))
    }

    fn broken(&self, call: &Call, why: &str) -> Failure {
        let address = &self.address;
        Failure::Unreachable(format!(
            "{address} cannot be reached: {why}\n  does the daemon run, and is this its address? \
             phonefleet config show{}",
            again(call)
        ))
    }

    fn no_answer(&self, call: &Call) -> Failure {
        let (address, seconds) = (&self.address, self.time_limit.as_secs_f64());
        Failure::TimedOut(format!("no answer from {address} within {seconds} s (--timeout){}", again(call)))
    }
}

/// How a call whose answer got lost is repeated.
fn again(call: &Call) -> String {
    match &call.key {
        Some(key) => format!(
            "\n  whether it took effect is unknown; the same command with this key takes effect once:\n  \
             --idempotency-key {key}"
        ),
        None if call.method == http::Method::GET => String::new(),
        None => "\n  whether it took effect is unknown; run the same command again: \
                 repeated, it does the same"
            .to_owned(),
    }
}

/// An error with what caused it, as far as that says more.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// An absolute address as its base and its path with query.
fn split(location: &str) -> Option<(&str, &str)> {
    let rest = location.strip_prefix("http://")?;
    let slash = rest.find('/')?;
    Some(location.split_at("http://".len() + slash))
}
