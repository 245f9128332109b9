//! What a cluster for a test is like.

use std::time::Duration;

use super::agent;

/// What a cluster is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// How pods run.
    pub node: agent::Settings,
    /// Whether the custom resources of Gateway API, Istio, Traefik and the Prometheus operator are there.
    pub has_crds: bool,
    /// Whether there are doors.
    pub has_mesh: bool,
    /// Whether pods are scraped, and how often.
    pub scrape_interval: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { node: agent::Settings::default(), has_crds: true, has_mesh: true, scrape_interval: None }
    }
}

impl Options {
    /// What image `NAME:TAG` of any registry runs; see [`agent::Images`].
    #[must_use]
    pub fn image(mut self, name: &str, command: &[&str]) -> Self {
        self.node.images.insert(name.to_owned(), command.iter().map(ToString::to_string).collect());
        self
    }

    /// Image `sample-app:TAG` is the sample app of this binary in version TAG, at its first port.
    #[must_use]
    pub fn sample_app(self, serin: &str) -> Self {
        self.image("sample-app", &[serin, "sample-app", "--host=$(POD_IP)", "--port={port}", "--version={tag}"])
    }
}
