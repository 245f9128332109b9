//! A sample app that runs on its own, as versions do that Serin does not start.

use std::{
    net::SocketAddr,
    process::{Child, Stdio},
};

use super::daemon::PATIENCE;
use crate::{Place, free_address, http, wait};

/// See the module. Dropping it kills the process.
pub(super) struct App {
    child: Child,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl App {
    pub(super) fn start(place: &Place, version: &str) -> Self {
        let address = free_address();
        let (version, port) = (format!("--version={version}"), format!("--port={}", address.port()));
        let mut command = place.command(&["sample-app", &version, &port]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let answers = || http::get(address, "/ready", &[]).is_ok_and(|answer| answer.status == 200).then_some(());
        wait::until_or("a sample app", PATIENCE, answers, String::new);
        Self { child, address }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
