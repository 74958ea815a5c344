//! How a process is asked to end.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first Ctrl-C or SIGTERM. A second Ctrl-C, from somebody
/// who does not want to wait, ends the process at once with exit code 130.
///
/// # Errors
/// If the signals cannot be listened for.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let asked_by = tokio::select! {
            _ = interrupts.recv() => "Ctrl-C",
            _ = terminations.recv() => "SIGTERM",
        };
        tracing::info!(
            signal = asked_by,
            "stopping after {asked_by}; Ctrl-C ends at once"
        );
        cancelled.cancel();
        interrupts.recv().await;
        std::process::exit(130);
    });
    Ok(token)
}
