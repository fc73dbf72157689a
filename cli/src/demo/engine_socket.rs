//! Calls of a container engine over its unix socket: only what the demo looks at itself.
//! Phones are the agent's business.

use crate::client::address::with_query;
use crate::failure::Failure;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const ANSWER_BYTES: usize = 16 << 20;

/// An engine.
#[derive(Clone, Debug)]
pub struct EngineSocket(PathBuf);

/// A phone's process, as the engine tells. Equal as long as nobody touched the phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Process number, in the engine's eyes.
    pub pid: i64,
    /// When it was started.
    pub since: String,
}

impl EngineSocket {
    /// The engine that listens there.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// As `DOCKER_HOST` names it.
    pub fn url(&self) -> String {
        format!("unix://{}", self.0.display())
    }

    /// Its version; why not, if it does not answer.
    ///
    /// # Errors
    /// No answer, or one that is none of an engine.
    pub async fn version(&self) -> Result<String, Failure> {
        let (_, answer) = self.call(Method::GET, "/version").await?;
        let version = answer["Version"].as_str().map(str::to_owned);
        version.ok_or_else(|| self.strange("an answer that is none of a container engine"))
    }

    /// Names of images that begin so.
    ///
    /// # Errors
    /// No answer.
    pub async fn images(&self, begin: &str) -> Result<Vec<String>, Failure> {
        let (_, answer) = self.call(Method::GET, "/images/json").await?;
        let tags =
            answer.as_array().into_iter().flatten().flat_map(|image| {
                image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str)
            });
        let mut names: Vec<String> = tags.filter(|tag| tag.starts_with(begin)).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Containers with the label of this host.
    ///
    /// # Errors
    /// No answer.
    pub async fn containers(&self, host: &str) -> Result<Vec<String>, Failure> {
        let filters = json!({ "label": [format!("phonefleet.host={host}")] }).to_string();
        let path = with_query("/containers/json", &[("all", Some("1")), ("filters", Some(&filters))]);
        let (_, answer) = self.call(Method::GET, &path).await?;
        let items = answer.as_array().ok_or_else(|| self.strange("a list that is none"))?;
        Ok(items.iter().filter_map(|item| item["Id"].as_str()).map(str::to_owned).collect())
    }

    /// The process of a container, if it runs.
    ///
    /// # Errors
    /// No answer.
    pub async fn running(&self, id: &str) -> Result<Option<Running>, Failure> {
        let (status, answer) = self.call(Method::GET, &format!("/containers/{id}/json")).await?;
        let state = &answer["State"];
        if status == StatusCode::NOT_FOUND || state["Running"] != true {
            return Ok(None);
        }
        let since = state["StartedAt"].as_str().unwrap_or_default().to_owned();
        Ok(Some(Running { pid: state["Pid"].as_i64().unwrap_or_default(), since }))
    }

    /// Removes a container, whatever it does.
    ///
    /// # Errors
    /// No answer.
    pub async fn remove(&self, id: &str) -> Result<(), Failure> {
        self.call(Method::DELETE, &format!("/containers/{id}?force=1&v=1")).await.map(|_| ())
    }

    async fn call(&self, method: Method, path: &str) -> Result<(StatusCode, Value), Failure> {
        match timeout(ANSWER, self.exchange(method, path)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.strange(&error.to_string())),
            Err(_) => Err(self.strange(&format!("no answer within {} s", ANSWER.as_secs()))),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
    ) -> Result<(StatusCode, Value), Box<dyn std::error::Error + Send + Sync>> {
        let stream = UnixStream::connect(&self.0).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "engine")
            .body(Full::<Bytes>::default())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
        let value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        Ok((status, value))
    }

    fn strange(&self, why: &str) -> Failure {
        Failure::Unreachable(format!("the container engine at {}: {why}", self.url()))
    }
}
