//! Keeps long schemas from holding up others: reading and comparing them happens away from the
//! threads that serve requests, a few at a time, which bounds the memory that they take together.

use tokio::sync::Semaphore;

use crate::error::Error;

/// Bytes of schema text up to which the work is over sooner than it is handed over.
const SHORT: usize = 4 * 1024;
/// Kilobytes of text that may be worked on at a time: a megabyte of hostile JSON takes some 30 MB
/// while it is read.
const MOST: usize = 1024;
static LONG_ONES: Semaphore = Semaphore::const_new(MOST);

pub(crate) async fn run<T, W>(bytes: usize, work: W) -> Result<T, Error>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    if bytes <= SHORT {
        return Ok(work());
    }
    let share = u32::try_from((bytes / 1024).min(MOST)).unwrap_or(u32::MAX);
    let share = LONG_ONES.acquire_many(share).await;
    let done = tokio::task::spawn_blocking(move || {
        // Held until the work is over, even if nobody waits for it any more.
        let _share = share;
        work()
    });
    Ok(done.await?)
}
