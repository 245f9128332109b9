//! SIGINT, SIGTERM and SIGHUP as a stream: each asks to end.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// One item for each signal that asks this process to end. Must be called within a runtime.
///
/// # Errors
/// If the system does not let signals be watched.
pub(crate) fn end_requests() -> std::io::Result<mpsc::Receiver<()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
