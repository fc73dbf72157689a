//! The users and operators: calls of the API, sent again where a client would, and written
//! down as they were answered.

use super::controller::ApiCall;
use crate::history::{Asked, Call, Outcome};
use crate::scenario::{Order, Target, Wanted, host_name, user_name};
use crate::trace::Trace;
use crate::watch::short;
use axum::body::Body;
use axum::http::{Method, Request};
use phonefleet_controller::order::Verb;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause before a call with a key is sent again.
const AGAIN: Duration = Duration::from_secs(3);
/// How often it is sent.
const TRIES: u32 = 120;
/// Entry number of calls that no entry asks for.
pub const OBSERVER: usize = usize::MAX;

/// A device that an order created.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// The saga that makes it.
    pub saga: String,
}

/// The users; shared by all of their tasks.
pub struct Office {
    door: watch::Receiver<Option<mpsc::UnboundedSender<ApiCall>>>,
    trace: Trace,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    history: Vec<Call>,
    known: BTreeMap<Target, Known>,
    recordings: BTreeMap<String, String>,
    moments: u64,
}

/// One HTTP call.
#[derive(Clone)]
struct HttpCall {
    method: Method,
    path: String,
    key: Option<String>,
    body: Option<Value>,
}

impl Office {
    /// Users of the API behind this door.
    pub fn new(door: watch::Receiver<Option<mpsc::UnboundedSender<ApiCall>>>, trace: Trace) -> Arc<Self> {
        Arc::new(Self { door, trace, start: Instant::now(), state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All calls so far, in the order of their answers.
    pub fn history(&self) -> Vec<Call> {
        self.lock().history.clone()
    }

    /// The device of a target, if its order was accepted.
    pub fn known(&self, target: Target) -> Option<Known> {
        self.lock().known.get(&target).cloned()
    }

    /// Every device that the users know of.
    pub fn devices(&self) -> Vec<String> {
        self.lock().known.values().map(|known| known.id.clone()).collect()
    }

    fn next(&self) -> u64 {
        let mut state = self.lock();
        state.moments += 1;
        state.moments
    }

    async fn ask(&self, request: &HttpCall) -> Outcome {
        let Some(calls) = self.door.borrow().clone() else { return Outcome::Unreached };
        let mut builder = Request::builder().method(request.method.clone()).uri(&request.path);
        if let Some(key) = &request.key {
            builder = builder.header("idempotency-key", key);
        }
        let body = match &request.body {
            Some(body) => {
                builder = builder.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let Ok(request) = builder.body(body) else { return Outcome::Unreached };
        let (answer, answered) = oneshot::channel();
        if calls.send(ApiCall { request, answer }).is_err() {
            return Outcome::Unreached;
        }
        match timeout(PATIENCE, answered).await {
            Ok(Ok((status, text))) => {
                let body = serde_json::from_str(&text).unwrap_or_default();
                Outcome::Answered { status, text, body }
            }
            Ok(Err(_)) | Err(_) => Outcome::Lost,
        }
    }

    async fn call(&self, entry: usize, asked: Asked, request: &HttpCall) -> Call {
        let invoked = self.next();
        let outcome = self.ask(request).await;
        let (key, answered, at) = (request.key.clone(), self.next(), self.start.elapsed());
        let call = Call { entry, asked, key, invoked, answered, at, outcome };
        let words = match &call.outcome {
            Outcome::Answered { status, text, .. } if *status >= 400 => {
                format!("{status} {}", text.get(..160).unwrap_or(text))
            }
            Outcome::Answered { status, .. } => status.to_string(),
            other => format!("{other:?}"),
        };
        if entry == OBSERVER {
            let status = call.data()["status"].as_str().unwrap_or_default();
            self.trace.whisper(format_args!("{} {}: {words} {status}", request.method, request.path));
        } else {
            self.trace.say(format_args!("#{entry} {} {}: {words}", request.method, request.path));
        }
        self.lock().history.push(call.clone());
        call
    }

    /// Sends a call; one with a key until it is answered.
    async fn insist(&self, entry: usize, asked: Asked, request: HttpCall) -> Call {
        let mut tries = 1;
        loop {
            let call = self.call(entry, asked.clone(), &request).await;
            let answered = call.status().is_some_and(|status| status < 500);
            let full = call.status() == Some(503)
                && matches!(&call.outcome, Outcome::Answered { body, .. } if body["code"] == "NO_CAPACITY");
            if answered || full || request.key.is_none() || tries == TRIES {
                return call;
            }
            tries += 1;
            sleep(AGAIN).await;
        }
    }

    async fn insist_twice(&self, entry: usize, asked: Asked, request: HttpCall, twice: bool) -> Call {
        if twice && request.key.is_some() && entry.is_multiple_of(2) {
            let first = self.insist(entry, asked.clone(), request.clone()).await;
            self.insist(entry, asked, request).await;
            first
        } else if twice && request.key.is_some() {
            let again = self.insist(entry, asked.clone(), request.clone());
            tokio::join!(self.insist(entry, asked, request), again).0
        } else {
            self.insist(entry, asked, request).await
        }
    }

    /// Carries an entry's order out.
    pub async fn order(&self, entry: usize, order: &Order) {
        let key = |keyed: bool| keyed.then(|| format!("key-{entry}"));
        match order {
            Order::Create { user, wanted, keyed, twice } => {
                let body = device(*user, wanted);
                let request = post("/devices", key(*keyed), Some(body));
                let call = self.insist_twice(entry, Asked::Create { user: *user }, request, *twice).await;
                self.learn(entry, &call);
            }
            Order::Batch { user, wanted } => {
                let devices: Vec<_> = wanted.iter().map(|wanted| device(*user, wanted)).collect();
                let request = post("/devices/batch", key(true), Some(json!({"devices": devices})));
                let call = self.insist(entry, Asked::Batch { user: *user }, request).await;
                self.learn(entry, &call);
            }
            Order::Verb { target, verb, keyed, twice } => {
                let Some(known) = self.known(*target) else { return self.skip(entry) };
                let (method, name) = match verb {
                    Verb::Start => (Method::POST, "/start"),
                    Verb::Stop => (Method::POST, "/stop"),
                    Verb::Reboot => (Method::POST, "/reboot"),
                    Verb::Reset => (Method::POST, "/reset"),
                    Verb::Delete => (Method::DELETE, ""),
                };
                let path = format!("/devices/{}{name}", known.id);
                // A deletion needs no key to be sent again.
                let request = HttpCall { method, path, key: key(*keyed), body: None };
                let asked = Asked::Verb { device: known.id, verb: *verb };
                self.insist_twice(entry, asked, request, *twice).await;
            }
            Order::Record { target, seconds } => {
                let Some(known) = self.known(*target) else { return self.skip(entry) };
                let body = json!({"maxDurationSeconds": seconds});
                let request = post(&format!("/devices/{}/recordings", known.id), key(true), Some(body));
                let call = self.insist(entry, Asked::Record { device: known.id.clone() }, request).await;
                if let Some(recording) = call.data()["recordingId"].as_str() {
                    self.lock().recordings.insert(known.id, recording.to_owned());
                }
            }
            Order::StopRecording { target } => {
                let recording =
                    self.known(*target).and_then(|known| self.lock().recordings.get(&known.id).cloned());
                let Some(recording) = recording else { return self.skip(entry) };
                let request = post(&format!("/recordings/{recording}/stop"), key(true), None);
                self.insist(entry, Asked::StopRecording, request).await;
            }
            Order::Limits { user, devices, running, cores } => {
                let body =
                    json!({"maxDevices": devices, "maxConcurrentDevices": running, "totalCpuCores": cores});
                let path = format!("/quotas/{}", user_name(*user));
                let request = HttpCall { method: Method::PUT, path, key: key(true), body: Some(body) };
                self.insist(entry, Asked::Limits, request).await;
            }
            Order::Cordon { host, on } => {
                let verb = if *on { "cordon" } else { "uncordon" };
                let request = post(&format!("/hosts/{}/{verb}", host_name(*host)), key(true), None);
                self.insist(entry, Asked::Cordon { host: *host, on: *on }, request).await;
            }
        }
    }

    fn skip(&self, entry: usize) {
        self.trace.say(format_args!("#{entry} has nothing to act on"));
    }

    fn learn(&self, entry: usize, call: &Call) {
        for (index, (id, saga)) in call.created().into_iter().enumerate() {
            self.trace.say(format_args!("#{entry} ordered {} as {id}", short(&id)));
            self.lock().known.insert(Target { entry, index }, Known { id, saga });
        }
    }

    /// Looks at a device.
    pub async fn look(&self, device: &str) -> Call {
        let request =
            HttpCall { method: Method::GET, path: format!("/devices/{device}"), key: None, body: None };
        self.call(OBSERVER, Asked::Look { device: device.to_owned() }, &request).await
    }

    /// Deletes a device, of whomever it is.
    pub async fn delete(&self, device: &str) {
        let path = format!("/devices/{device}");
        let request = HttpCall { method: Method::DELETE, path, key: Some("the-end".to_owned()), body: None };
        let asked = Asked::Verb { device: device.to_owned(), verb: Verb::Delete };
        self.insist(OBSERVER - 1, asked, request).await;
    }

    /// Looks at every known device now and then, until it is dropped.
    pub async fn observe(&self, every: Duration) {
        loop {
            sleep(every).await;
            for device in self.devices() {
                self.look(&device).await;
            }
        }
    }
}

fn post(path: &str, key: Option<String>, body: Option<Value>) -> HttpCall {
    HttpCall { method: Method::POST, path: path.to_owned(), key, body }
}

fn device(user: usize, wanted: &Wanted) -> Value {
    let mut boot = vec![format!("androidboot.phonesim_boot_ms={}", wanted.boot_ms)];
    boot.extend(wanted.fault.map(|fault| format!("androidboot.phonesim_fault={fault}")));
    let mut order = json!({
        "name": format!("phone-{}", wanted.name),
        "userId": user_name(user),
        "providerType": "REDROID",
        "cpuCores": wanted.tenths_of_core as f64 / 10.0,
        "memoryMB": wanted.memory_mb,
        "bootArgs": boot,
    });
    if wanted.missing_image {
        order["image"] = json!("phonefleet/missing:dev");
    }
    if let Some(host) = wanted.host {
        order["hostId"] = json!(host_name(host));
    }
    order
}
