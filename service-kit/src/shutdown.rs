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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn sigterm_asks_the_process_to_end() {
        let token = on_signal().unwrap();
        let this_process = std::process::id().to_string();
        let kill = std::process::Command::new("kill")
            .args(["-TERM", &this_process])
            .status();
        assert!(kill.unwrap().success());
        tokio::time::timeout(Duration::from_secs(60), token.cancelled())
            .await
            .expect("the signal cancels the token");
    }
}
