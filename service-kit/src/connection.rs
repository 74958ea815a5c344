//! The connections of a server: who is at the other end, how many there may be, and how long
//! somebody may leave an answer unread.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::Semaphore,
    time::{Sleep, sleep, timeout},
};

use crate::problem::Problem;

/// Who is at the other end of the connection: an extension of every request.
///
/// Behind a proxy it is the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// How many connections a server has at a time. Further ones are answered with 503
/// `too-many-connections`, or 429 of the same code when it is one address that has too many, and
/// closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub all: usize,
    pub of_one_address: usize,
}

impl Default for ConnectionLimits {
    /// Without a limit.
    fn default() -> Self {
        Self {
            all: usize::MAX,
            of_one_address: usize::MAX,
        }
    }
}

/// Lets this process have as many open files, connections among them, as the system allows it;
/// what a process begins with is often a thousand.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("failed to raise the limit of open files: {error}");
    }
}

/// So many refusals are written out at a time; who comes beyond that is cut off.
const REFUSALS_AT_A_TIME: usize = 64;
/// How long one who is refused may take over sending the request and reading the answer.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// Counts the connections.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: ConnectionLimits,
    counts: Arc<Mutex<Counts>>,
    refusals: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    address: IpAddr,
    counts: Arc<Mutex<Counts>>,
}

impl Gate {
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            counts: Arc::default(),
            refusals: Arc::new(Semaphore::new(REFUSALS_AT_A_TIME)),
        }
    }

    /// One more from this address, or why not.
    pub fn enter(&self, address: IpAddr) -> Result<Counted, Problem> {
        let mut counts = lock(&self.counts);
        if counts.all >= self.limits.all {
            return Err(too_many(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("all {} connections of this service are in use", counts.all),
            ));
        }
        let of_address = counts.by_address.entry(address).or_default();
        if *of_address >= self.limits.of_one_address {
            return Err(too_many(
                StatusCode::TOO_MANY_REQUESTS,
                format!("this address has {of_address} connections, and may not have more"),
            ));
        }
        *of_address += 1;
        counts.all += 1;
        Ok(Counted {
            address,
            counts: self.counts.clone(),
        })
    }

    /// Says why, as well as it can be said to somebody who may not listen.
    pub fn refuse(&self, stream: TcpStream, problem: Problem) {
        metrics::counter!("http_connections_refused_total").increment(1);
        let Ok(permit) = self.refusals.clone().try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            // Who is slower has to do without the reason.
            let _ = timeout(REFUSED_WITHIN, say(stream, problem)).await;
            drop(permit);
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all -= 1;
        if let Some(of_address) = counts.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> std::sync::MutexGuard<'_, Counts> {
    // Nothing in between can panic, so nothing is half done.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_many(status: StatusCode, detail: String) -> Problem {
    Problem::new(status, "too-many-connections", "Too many connections")
        .detail(detail)
        .retry_after(5)
}

async fn say(mut stream: TcpStream, problem: Problem) -> io::Result<()> {
    // Closing with a request unread would reset the connection, and the reason with it.
    let mut head = [0; 8 * 1024];
    let mut read = 0;
    while !head[..read].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut head[read..]).await? {
            0 => break,
            more => read += more,
        }
    }
    let answer = written_out(problem.into_response()).await;
    stream.write_all(&answer).await?;
    stream.shutdown().await
}

async fn written_out(response: Response) -> Vec<u8> {
    let (head, body) = response.into_parts();
    let mut text = format!("HTTP/1.1 {}\r\nconnection: close\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let body = body.collect().await.map(|body| body.to_bytes());
    let body = body.unwrap_or_default();
    text.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    text.extend_from_slice(&body);
    text
}

/// A stream whose writes fail when the other end has taken nothing for too long: what is not read
/// would otherwise hold its answer's memory for as long as the client likes.
///
/// It is counted as long as it lives, after an upgrade too.
pub(crate) struct CutWhenStuck<S> {
    stream: S,
    _counted: Option<Counted>,
    patience: Duration,
    /// Runs while a write waits.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> CutWhenStuck<S> {
    pub fn new(stream: S, patience: Duration, counted: Option<Counted>) -> Self {
        Self {
            stream,
            _counted: counted,
            patience,
            stuck: None,
        }
    }

    fn watch<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let patience = self.patience;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stuck.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CutWhenStuck<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CutWhenStuck<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        all: 3,
        of_one_address: 2,
    };

    #[test]
    fn one_address_does_not_take_the_room_of_all() {
        let gate = Gate::new(LIMITS);
        let (one, other) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let first = gate.enter(one).unwrap();
        let _second = gate.enter(one).unwrap();
        assert_eq!(gate.enter(one).unwrap_err().status(), 429);
        let _third = gate.enter(other).unwrap();
        assert_eq!(gate.enter(other).unwrap_err().status(), 503);
        drop(first);
        assert!(gate.enter(one).is_ok());
    }

    #[tokio::test]
    async fn who_takes_nothing_is_cut_off() {
        let (ours, _unread) = tokio::io::duplex(4);
        let mut ours = CutWhenStuck::new(ours, Duration::from_millis(20), None);
        ours.write_all(&[0; 4]).await.unwrap();
        let error = ours.write_all(&[0; 4]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
