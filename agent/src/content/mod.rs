//! Serves this host's videos over HTTP to whoever has a signed address, which only the
//! controller can make: `[content]` in the configuration. Off unless it is set.
//!
//! ```text
//!   GET, HEAD /recordings/{id}/content?expires=UNIX&signature=HEX
//!     signature: HMAC-SHA256 over "{id}\n{expires}" with the key that the host told the controller
//!     403 not signed, or no longer good   404 no such video   200, 206, 416 the video
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`signature`] | the key, and whether an address is signed with it |
//! | [`answer`] | the call |
//! | [`listener`] | how many connections there are at most, and for how long |

pub mod answer;
pub mod listener;
pub mod signature;

use crate::recording::video::HostVideos;
use crate::store::Notice;
use axum::Router;
use axum::routing::get;
use listener::Limits;
use phonefleet_protocol::time::Clock;
use phonefleet_store::Store;
use signature::Key;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Pause before an address that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What the call needs.
#[derive(Clone)]
pub struct Content {
    /// Which recordings there are.
    pub store: Store<Notice>,
    /// Where their files are.
    pub videos: Arc<HostVideos>,
    /// What addresses are signed with.
    pub key: Arc<Key>,
    /// Tells which addresses are no longer good.
    pub clock: Arc<dyn Clock>,
}

/// The call.
pub fn router(content: Content) -> Router {
    Router::new().route("/recordings/{id}/content", get(answer::content)).with_state(content)
}

/// Serves until it is dropped, and every connection with it. An address that is taken is tried again and again.
pub async fn serve(listen: SocketAddr, content: Content) {
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => {
                tracing::info!(%listen, "videos are served");
                match listener::serve(listener, router(content), Limits::default()).await {}
            }
            Err(error) => tracing::warn!(%listen, %error, "videos cannot be served; trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests;
