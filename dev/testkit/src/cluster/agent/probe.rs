//! Probes of a container: `httpGet`, `tcpSocket` and `exec`, with the meaning that Kubernetes gives their numbers.
//!
//! One difference: until a readiness or startup probe has passed for the first time, it is asked every 100 ms if its period is longer, so
//! that pods are ready as soon as they are, and tests do not wait for periods.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use super::spec::{self, list};

/// How often one is asked that has never passed.
const EAGER: Duration = Duration::from_millis(100);
/// More of an answer is not read: its first line decides.
const HEAD_BYTES: usize = 64;

/// One probe of the first container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probe {
    what: What,
    pub(super) initial_delay: Duration,
    pub(super) period: Duration,
    timeout: Duration,
    success_threshold: u32,
    failure_threshold: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Http {
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        port: u16,
    },
    Exec {
        command: Vec<String>,
    },
    /// Of a kind that is not known here, or of a port that does not exist.
    Never,
}

/// What the answers so far mean.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    successes: u32,
    failures: u32,
    pub(super) has_passed: bool,
}

impl Probe {
    /// Reads `readinessProbe`, `livenessProbe` or `startupProbe`.
    pub(super) fn of(pod: &Value, field: &str) -> Option<Self> {
        let probe = spec::container(pod).get(field)?;
        let number = |field: &str, default: u64| probe[field].as_u64().unwrap_or(default);
        let count = |field: &str, default: u64| u32::try_from(number(field, default).max(1)).unwrap_or(u32::MAX);
        Some(Self {
            what: What::of(pod, probe),
            initial_delay: Duration::from_secs(number("initialDelaySeconds", 0)),
            period: Duration::from_secs(number("periodSeconds", 10).max(1)),
            timeout: Duration::from_secs(number("timeoutSeconds", 1).max(1)),
            success_threshold: count("successThreshold", 1),
            failure_threshold: count("failureThreshold", 3),
        })
    }

    /// Asks once.
    pub(super) async fn ask(&self, address: Ipv4Addr) -> bool {
        timeout(self.timeout, self.what.ask(address)).await.unwrap_or(false)
    }

    /// Until the next time.
    pub(super) fn pause(&self, tally: &Tally) -> Duration {
        if tally.has_passed { self.period } else { self.period.min(EAGER) }
    }

    /// Counts an answer. Gives what is certain now: passing, failing, or neither.
    pub(super) fn count(&self, tally: &mut Tally, is_ok: bool) -> Option<bool> {
        if is_ok {
            tally.failures = 0;
            tally.successes = tally.successes.saturating_add(1);
            let passes = tally.successes >= self.success_threshold;
            tally.has_passed |= passes;
            passes.then_some(true)
        } else {
            tally.successes = 0;
            tally.failures = tally.failures.saturating_add(1);
            (tally.failures >= self.failure_threshold).then_some(false)
        }
    }
}

impl What {
    fn of(pod: &Value, probe: &Value) -> Self {
        let text = |value: &Value, default: &str| value.as_str().unwrap_or(default).to_owned();
        if let Some(get) = probe.get("httpGet") {
            let headers = list(&get["httpHeaders"]).iter().map(|header| (text(&header["name"], ""), text(&header["value"], "")));
            return spec::port(pod, &get["port"]).map_or(Self::Never, |port| Self::Http {
                port,
                path: text(&get["path"], "/"),
                headers: headers.collect(),
            });
        }
        if let Some(tcp) = probe.get("tcpSocket") {
            return spec::port(pod, &tcp["port"]).map_or(Self::Never, |port| Self::Tcp { port });
        }
        match probe.get("exec") {
            Some(exec) => Self::Exec { command: list(&exec["command"]).iter().map(|word| text(word, "")).collect() },
            None => Self::Never,
        }
    }

    async fn ask(&self, address: Ipv4Addr) -> bool {
        match self {
            Self::Http { port, path, headers } => {
                http_get(address, *port, path, headers).await.is_some_and(|code| (200..400).contains(&code))
            }
            Self::Tcp { port } => TcpStream::connect((address, *port)).await.is_ok(),
            Self::Exec { command } => match command.split_first() {
                Some((program, args)) => {
                    Command::new(program).args(args).kill_on_drop(true).status().await.is_ok_and(|status| status.success())
                }
                None => false,
            },
            Self::Never => false,
        }
    }
}

async fn http_get(address: Ipv4Addr, port: u16, path: &str, headers: &[(String, String)]) -> Option<u16> {
    let mut stream = TcpStream::connect((address, port)).await.ok()?;
    let further: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {address}:{port}\r\nuser-agent: kube-probe/1.36\r\nconnection: close\r\n{further}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::new();
    while head.len() < HEAD_BYTES && !head.contains(&b'\n') {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            break;
        }
    }
    std::str::from_utf8(head.get(..12)?).ok()?.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn probe(probe: &Value) -> Probe {
        let container = json!({"ports": [{"name": "http", "containerPort": 81}], "readinessProbe": probe});
        Probe::of(&json!({"spec": {"containers": [container]}}), "readinessProbe").unwrap()
    }

    #[test]
    fn thresholds() {
        let probe = probe(&json!({"httpGet": {"port": "http"}, "failureThreshold": 2, "successThreshold": 2, "periodSeconds": 5}));
        assert_eq!(probe.what, What::Http { port: 81, path: "/".to_owned(), headers: Vec::new() });
        let mut tally = Tally::default();
        assert_eq!(probe.pause(&tally), EAGER);
        let answers = [(true, None), (true, Some(true)), (false, None), (false, Some(false)), (true, None), (true, Some(true))];
        for (is_ok, certain) in answers {
            assert_eq!(probe.count(&mut tally, is_ok), certain);
        }
        assert_eq!(probe.pause(&tally), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_probe_of_nothing_fails() {
        for what in [json!({"httpGet": {"port": "none"}}), json!({"grpc": {"port": 1}}), json!({"exec": {"command": ["false"]}})] {
            assert!(!probe(&what).ask(Ipv4Addr::LOCALHOST).await);
        }
        assert!(probe(&json!({"exec": {"command": ["true"]}})).ask(Ipv4Addr::LOCALHOST).await);
    }
}
