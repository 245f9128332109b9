//! Carrying out the checks of a preview: each on its own, through the preview address, for as long as the release asks for them.

use std::time::Duration;

use serin_core::{plan::PreviewCheck, release::Input};
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

use crate::process::ask_address;

/// The checks under way. Dropped, they end.
#[derive(Debug, Default)]
pub struct Checking {
    checks: Vec<PreviewCheck>,
    tasks: Vec<JoinHandle<()>>,
}

impl Checking {
    /// Carries out these checks from now on, and no others. `address`: that of the preview, as host and port. Must be called within a Tokio runtime.
    pub fn follow(&mut self, wanted: &[PreviewCheck], address: Option<&str>, answers: &mpsc::Sender<Input>) {
        if self.checks == wanted {
            return;
        }
        self.end();
        let Some(address) = address else { return };
        self.checks = wanted.to_vec();
        let task = |check: &PreviewCheck| tokio::spawn(repeat(check.clone(), address.to_owned(), answers.clone()));
        self.tasks = wanted.iter().map(task).collect();
    }

    fn end(&mut self) {
        self.checks.clear();
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.end();
    }
}

async fn repeat(check: PreviewCheck, address: String, answers: mpsc::Sender<Input>) {
    loop {
        let result = ask_address(&check.path, check.status, check.timeout_ms, &address).await;
        if answers.send(Input::PreviewSeen { check: check.name.clone(), result }).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(check.every_ms)).await;
    }
}
