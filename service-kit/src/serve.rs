//! The HTTP server of a service: binds, serves, and drains when asked to stop.

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{Method, StatusCode, Uri},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    connection::{ConnectionLimits, CutWhenStuck, Gate, Peer, raise_open_files},
    json::DEFAULT_BODY_LIMIT,
    problem::Problem,
    requests::RequestLayer,
};

/// How long a connection may take over the head of a request, idle time included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// How long requests under way may take after the service was asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a client may take nothing of its answer before the connection is cut.
const UNREAD: Duration = Duration::from_secs(30);

/// An HTTP/2 connection is asked whether anybody is still there.
const PINGED_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// What a connection may hold of a request's head, and of an answer that is not sent yet.
const CONNECTION_BUFFER: usize = 64 * 1024;

/// A bound address that is about to be served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    drain: Duration,
    limits: ConnectionLimits,
    unread: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "{address} is in use by another process; end that one, or configure another address for this one"
    )]
    InUse { address: String },
    #[error("failed to listen on {address}: {source}")]
    Listen {
        address: String,
        #[source]
        source: io::Error,
    },
}

impl Server {
    /// Port 0 gives a free one: see [`Server::address`].
    pub async fn bind(address: &str) -> Result<Self, BindError> {
        raise_open_files();
        let listen = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let bound: io::Result<_> = listen.await;
        let address = address.to_owned();
        match bound {
            Ok((listener, address)) => Ok(Self {
                listener,
                address,
                drain: DRAIN,
                limits: ConnectionLimits::default(),
                unread: UNREAD,
            }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(BindError::InUse { address })
            }
            Err(source) => Err(BindError::Listen { address, source }),
        }
    }

    /// The address that clients reach this server at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long requests under way may take after shutdown began; 10 s unless set.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// How many connections there may be at a time; any number unless set.
    pub fn limits(mut self, limits: ConnectionLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How long a client may take nothing of its answer before it is cut off; 30 s unless set.
    pub fn unread(mut self, unread: Duration) -> Self {
        self.unread = unread;
        self
    }

    /// Serves until the token is cancelled and the requests under way are answered, or the
    /// drain time is over. Unknown routes and methods are answered with a [`Problem`].
    ///
    /// An endless answer, such as a stream of events, holds the drain up: end it on the same token.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) {
        self.serve_with_own_fallbacks(with_problem_fallbacks(router), shutdown)
            .await;
    }

    /// The same for an API that prescribes other answers for unknown routes and methods.
    pub async fn serve_with_own_fallbacks(self, router: Router, shutdown: CancellationToken) {
        let connections = Connections {
            router: with_layers(router),
            protocol: protocol(),
            graceful: GracefulShutdown::new(),
            cut: CancellationToken::new(),
            gate: Gate::new(self.limits),
            unread: self.unread,
        };
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => connections.start(stream, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of file descriptors, most likely: it passes as connections end.
                    tracing::warn!("failed to accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
        drop(self.listener);
        let Connections { graceful, cut, .. } = connections;
        let open = graceful.count();
        if tokio::time::timeout(self.drain, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!(
                "stopped with requests unanswered after {} s; {open} connections were open when it began",
                self.drain.as_secs_f32()
            );
        }
        cut.cancel();
    }
}

/// Unknown routes 404 `no-such-route`, unknown methods 405 `method-not-allowed`.
pub fn with_problem_fallbacks(router: Router) -> Router {
    router
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method is not allowed here",
            )
            .detail(format!("{} does not take {method}", uri.path()))
        })
        .fallback(async |uri: Uri| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "no-such-route",
                "There is nothing here",
            )
            .detail(format!("no route leads to {}", uri.path()))
        })
}

/// The layers that [`Server::serve`] puts around a router, for tests without a server.
pub fn with_layers(router: Router) -> Router {
    // In one call: each `Router::layer` costs two allocations per request.
    router.layer((
        RequestLayer::new(),
        DefaultBodyLimit::max(DEFAULT_BODY_LIMIT),
    ))
}

struct Connections {
    router: Router,
    protocol: auto::Builder<TokioExecutor>,
    graceful: GracefulShutdown,
    cut: CancellationToken,
    gate: Gate,
    unread: Duration,
}

impl Connections {
    fn start(&self, stream: TcpStream, peer: SocketAddr) {
        let counted = match self.gate.enter(peer.ip()) {
            Ok(counted) => counted,
            Err(problem) => return self.gate.refuse(stream, problem),
        };
        // Answers are written whole; waiting for more to send would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("failed to set TCP_NODELAY: {error}");
        }
        let router = self.router.clone();
        let service = router.map_request(move |mut request: Request<_>| {
            request.extensions_mut().insert(Peer(peer));
            request
        });
        let stream = CutWhenStuck::new(stream, self.unread, Some(counted));
        let connection = self
            .protocol
            .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
            .into_owned();
        let connection = self.graceful.watch(connection);
        let cut = self.cut.clone();
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!("a connection ended early: {error}");
                },
                () = cut.cancelled() => {}
            }
        });
    }
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(CONNECTION_BUFFER)
        .header_read_timeout(HEAD_TIMEOUT);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PINGED_EVERY))
        .keep_alive_timeout(PONG_WITHIN);
    protocol
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}
