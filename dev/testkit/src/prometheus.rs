//! A real Prometheus of a test's own: its port, its data, its configuration.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;

use crate::{Place, free_address, http, installed, processes, wait};

/// See the module. Dropping it kills the process.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    /// Where it answers.
    pub address: SocketAddr,
    folder: PathBuf,
    program: PathBuf,
    marker: PathBuf,
}

/// The program, if it is installed. Under `cargo xtask test` it must be; otherwise the test says that it is left out.
///
/// # Panics
/// If it is not there although it must be.
#[must_use]
pub fn program() -> Option<PathBuf> {
    let found = installed("prometheus");
    assert!(found.is_some() || std::env::var_os("SERIN_TESTBED").is_none(), "prometheus is not installed; apt-get install prometheus");
    found
}

impl Prometheus {
    /// Starts one that scrapes these targets every 200 ms. `rules`: a file of alerting rules, evaluated as often.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(program: PathBuf, place: &Place, targets: &[SocketAddr], rules: Option<&str>) -> Self {
        let folder = place.path().join("prometheus");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("rules.yml"), rules.unwrap_or("groups: []\n")).unwrap();
        let targets: Vec<String> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n  - job_name: apps\n    static_configs: [{{targets: [{}]}}]\n",
            targets.join(", ")
        );
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let address = free_address();
        let marker = place.path().to_owned();
        let child = launch(&program, &folder, address, &marker);
        let started = Self { child, address, folder, program, marker };
        started.wait_ready();
        started
    }

    /// Stops it, hard.
    ///
    /// # Panics
    /// If it does not end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Lets it stand still: connections are taken, and nothing is answered.
    pub fn freeze(&self) {
        processes::signal(self.child.id(), Signal::STOP);
    }

    /// Starts it again on the same address, with the data it had.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_again(&mut self) {
        self.kill();
        self.child = launch(&self.program, &self.folder, self.address, &self.marker);
        self.wait_ready();
    }

    /// Waits until a query finds something.
    pub fn wait_for(&self, query: &str) {
        let target = format!("/api/v1/query?query={query}");
        wait::until(&format!("an answer to {query}"), || {
            let answer = http::get(self.address, &target, &[]).ok()?;
            (answer.status == 200 && !answer.text().contains("\"result\":[]")).then_some(())
        });
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn wait_ready(&self) {
        wait::until("prometheus", || http::get(self.address, "/-/ready", &[]).ok().filter(|answer| answer.status == 200));
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(program: &PathBuf, folder: &PathBuf, address: SocketAddr, marker: &PathBuf) -> Child {
    Command::new(program)
        .current_dir(folder)
        .arg("--config.file=prometheus.yml")
        .arg("--storage.tsdb.path=data")
        .arg(format!("--web.listen-address={address}"))
        .env(processes::MARKER, marker)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
