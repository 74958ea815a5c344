//! The demo story.

use annals::{Demo, DemoFuture};

pub(crate) fn play(_demo: Demo) -> DemoFuture {
    Box::pin(async { Ok(()) })
}
