//! What stands around every call: who may ask, how long it may take, what is counted.

use super::Api;
use super::problem::{Code, Problem};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Longest time from a call's head to its answer.
pub const CALL_TIME: Duration = Duration::from_secs(30);

/// Refuses strangers, ends what takes too long, counts.
pub async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let response = match stranger(request.headers(), request.uri()) {
        Some(problem) => problem.into_response(),
        None => match tokio::time::timeout(CALL_TIME, next.run(request)).await {
            Ok(response) => response,
            Err(_) => too_late().into_response(),
        },
    };
    api.metrics.called(&method, route, response.status(), began.elapsed());
    response
}

fn too_late() -> Problem {
    let detail = "the call took too long; whether it took effect is unknown: \
                  ask, or send it again with the same Idempotency-Key";
    Problem::new(Code::Timeout, detail).retry_after(5)
}

/// There is no authentication yet, and only this machine may ask. A web page of another
/// site can make its browser ask too: by a name that leads here (the Host is then that
/// name), or across sites (the browser then says the Origin).
fn stranger(headers: &HeaderMap, uri: &Uri) -> Option<Problem> {
    let refuse = |detail| Some(Problem::new(Code::OriginNotAllowed, detail));
    // An absolute request line names the host too, and counts for more than the header.
    let line = uri.authority().is_none_or(|authority| is_this_machine(authority.as_str()));
    let mut hosts = headers.get_all(header::HOST).iter();
    let header = hosts.next().is_none_or(|host| host.to_str().is_ok_and(is_this_machine));
    if !line || !header || hosts.next().is_some() {
        return refuse("the Host header must name this machine, once: 127.0.0.1, [::1] or localhost");
    }
    let from_here = headers.get_all(header::ORIGIN).iter().all(|origin| {
        let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        authority.is_some_and(|(_, authority)| is_this_machine(authority))
    });
    if from_here { None } else { refuse("pages of other sites may not ask") }
}

/// Whether `name:port` is a name of the loopback.
fn is_this_machine(authority: &str) -> bool {
    let name = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_this_machine;

    #[test]
    fn names_of_this_machine() {
        for name in ["localhost", "LOCALHOST:30002", "127.0.0.1:30002", "127.8.0.1", "[::1]:80", "[::1]"] {
            assert!(is_this_machine(name), "{name}");
        }
        for name in
            ["", "evil.example", "localhost.evil.example:30002", "10.0.0.1", "[::2]:80", "127.0.0.1.x"]
        {
            assert!(!is_this_machine(name), "{name}");
        }
    }
}
