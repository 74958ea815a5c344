//! What a demo story gets to play on.

use std::{net::SocketAddr, time::Duration};

use futures::future::BoxFuture;
use kernel::Actor;
use service_kit::{DevKey, TokenRequest};

/// Where the services are, and tokens to use them with.
pub struct Demo {
    pub commands: SocketAddr,
    pub queries: SocketAddr,
    /// Whether everything goes on running after the story.
    pub stays_up: bool,
    pub(crate) key: DevKey,
}

/// The story failed; the message says at which step.
pub type DemoError = Box<dyn std::error::Error + Send + Sync>;
/// A story under way. Prints what happens to standard output.
pub type DemoFuture = BoxFuture<'static, Result<(), DemoError>>;

impl Demo {
    /// A bearer token for this user, valid for 12 hours.
    ///
    /// # Panics
    /// When `user` is not 1–128 visible ASCII characters.
    pub fn token(&self, user: &str, roles: &[&str]) -> String {
        let actor: Actor = format!("user:{user}")
            .parse()
            .unwrap_or_else(|malformed| panic!("the demo's user {user:?} {malformed}"));
        let request = roles
            .iter()
            .fold(TokenRequest::new(actor), |request, role| {
                request.role(*role)
            });
        self.key.issue(&request, Duration::from_secs(12 * 3_600))
    }
}
