//! Keeps long schemas from holding up others: reading and comparing them happens away from the
//! threads that serve requests, a few at a time, which bounds the memory that they take together.

use tokio::sync::Semaphore;

use crate::error::Error;

/// Bytes of schema text up to which the work is over sooner than it is handed over.
const SHORT: usize = 4 * 1024;
/// A megabyte of hostile JSON takes some 30 MB while it is read.
static LONG_ONES: Semaphore = Semaphore::const_new(2);

pub(crate) async fn run<T, W>(bytes: usize, work: W) -> Result<T, Error>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    if bytes <= SHORT {
        return Ok(work());
    }
    let _one_of_few = LONG_ONES.acquire().await;
    Ok(tokio::task::spawn_blocking(work).await?)
}
