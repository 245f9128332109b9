//! The way out, in words.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use serin_proxy::table::{Pool, RouteTable};

use super::plain;

/// What is left of Serin at one place.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) folder: String,
    pub(crate) service: Option<String>,
    /// Where clients send their requests.
    pub(crate) listen: Option<SocketAddr>,
    /// The process that releases; of a server: the server.
    pub(crate) control: Option<u32>,
    pub(crate) proxy: Option<u32>,
    /// What the proxy serves, or a restarted one would.
    pub(crate) table: Option<RouteTable>,
    /// What the store remembers as started.
    pub(crate) processes: Vec<Process>,
    /// What could not be read.
    pub(crate) trouble: Vec<String>,
}

/// A process of a version, or the load command.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) id: String,
    pub(crate) pid: u32,
    pub(crate) port: u16,
    /// Whether it, or something that it started, is still there.
    pub(crate) runs: bool,
}

/// The way out, as people read it.
pub(crate) fn words(found: &Found) -> Vec<String> {
    let mut lines = vec![format!("{} ({})", found.service.as_deref().unwrap_or("a service"), found.folder)];
    let listen = found.listen_words();
    match found.proxy {
        Some(pid) => lines.push(format!("  clients   come to {listen}; the proxy there has pid {pid}")),
        None => lines.push(format!("  clients   come to {listen}; no proxy runs, they are refused")),
    }
    lines.push(match found.control {
        Some(pid) => format!("  control   pid {pid}"),
        None => "  control   does not run: nobody judges, moves traffic or restarts processes".to_owned(),
    });
    match &found.table {
        Some(table) => {
            lines.extend(found.arm_words("stable", Some(&table.stable), 10_000 - table.weight.canary_bps()));
            lines.extend(found.arm_words("canary", table.canary.as_ref(), table.weight.canary_bps()));
            if !table.matches.is_empty() {
                lines.push("  matches   requests with a declared header or cookie go to the canary whatever its share".to_owned());
            }
            if let Some(preview) = table.preview {
                lines.push(format!("  preview   {preview} leads to the canary"));
            }
        }
        None => lines.push("  routes    there is no route table: nothing of it says where requests go".to_owned()),
    }
    for process in found.processes.iter().filter(|process| process.runs) {
        lines.push(format!("  process   {} pid {}, port {}", process.id, process.pid, process.port));
    }
    lines.extend(found.trouble.iter().map(|text| format!("  unread    {text}")));
    lines.push(String::new());
    let order = if found.proxy.is_some() { "In this order no request is lost" } else { "Clients are not served now" };
    lines.push(format!("  Nothing was changed. {order}:"));
    for (number, step) in (1..).zip(found.steps()) {
        let mut step = step.lines();
        lines.push(format!("  {number}. {}", step.next().unwrap_or_default()));
        lines.extend(step.map(|line| format!("     {line}")));
    }
    lines.iter().map(|line| plain(line)).collect()
}

impl Found {
    /// The same as data.
    pub(crate) fn json(&self) -> Value {
        let share = |bps: u16| f64::from(bps) / 10_000.0;
        let arms = self.table.as_ref().map(|table| {
            let canary = table.weight.canary_bps();
            json!([
                {"arm": "stable", "share": share(10_000 - canary), "servers": table.stable.endpoints},
                {"arm": "canary", "share": share(canary), "servers": table.canary.as_ref().map_or(&[][..], |pool| &pool.endpoints[..])},
            ])
        });
        let processes: Vec<Value> = self
            .processes
            .iter()
            .map(|Process { id, pid, port, runs }| json!({"id": id, "pid": pid, "port": port, "runs": runs}))
            .collect();
        json!({
            "type": "eject", "folder": self.folder, "service": self.service, "listen": self.listen, "control_pid": self.control,
            "proxy_pid": self.proxy, "arms": arms, "matches": self.table.as_ref().map(|table| table.matches.len()),
            "processes": processes, "trouble": self.trouble, "steps": self.steps(),
        })
    }

    fn listen_words(&self) -> String {
        match (self.listen, self.proxy) {
            (Some(listen), _) => listen.to_string(),
            (None, Some(pid)) => format!("an address that `ss -ltnp | grep pid={pid},` shows"),
            (None, None) => "an address that is in the release document (traffic.embedded.listen)".to_owned(),
        }
    }

    fn arm_words(&self, name: &str, pool: Option<&Pool>, bps: u16) -> Vec<String> {
        let share = f64::from(bps) / 100.0;
        let endpoints = pool.map_or(&[][..], |pool| &pool.endpoints[..]);
        let server = |(position, endpoint): (usize, &serin_proxy::table::Endpoint)| {
            let head = if position == 0 { format!("{name}    {share} % to") } else { "                ".to_owned() };
            format!("  {head} {} ({})", endpoint.address, endpoint.id)
        };
        endpoints.iter().enumerate().map(server).collect()
    }

    /// What to do, in order.
    fn steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        let canary_gets = self.table.as_ref().is_some_and(|table| !table.weight.is_zero() || !table.matches.is_empty());
        if canary_gets && self.control.is_some() {
            steps.push(
                "Unless the canary is to stay: `serin weight 0` takes its traffic away in a stage and keeps everything running. Not `serin abort`:\n\
                 `serin run` ends with its release and stops what it started."
                    .to_owned(),
            );
        }
        steps.push(self.balancer());
        let listen = self.listen_words();
        steps.push(match self.proxy {
            Some(_) => format!(
                "Point clients at that load balancer instead of {listen}. Where their address cannot be changed, the load balancer\n\
                 has to take it after step {}, and clients are refused in between.",
                steps.len() + 3
            ),
            None => format!("Point clients at that load balancer instead of {listen}, or have it listen there: the address is free."),
        });
        let port = self.listen.map_or_else(|| "PORT".to_owned(), |listen| listen.port().to_string());
        if self.proxy.is_some() {
            steps.push(format!("Wait until no client is left: `ss -Htn state established 'sport = :{port}'` prints nothing."));
        }
        if let Some(stop) = self.stop() {
            steps.push(stop);
        }
        steps.push(self.rest());
        steps
    }

    /// The split as a load balancer takes it.
    fn balancer(&self) -> String {
        let Some(table) = &self.table else {
            return "Have a load balancer send requests to the servers of your service directly: those of the version that served last are in the\n\
                    release document, their ports of this start in `logs/`."
                .to_owned();
        };
        let canary = table.canary.as_ref().map_or(&[][..], |pool| &pool.endpoints[..]);
        let stable = &table.stable.endpoints[..];
        let bps = usize::from(table.weight.canary_bps());
        // Shares are of versions, weights of servers: each server's is its version's share times the other version's servers.
        let (of_stable, of_canary) = ((10_000 - bps) * canary.len().max(1), bps * stable.len());
        let divisor = gcd(of_stable, of_canary).max(1);
        let mut text = "Have a load balancer send requests to the servers directly. For nginx, as they are split now:\n".to_owned();
        text.push_str("  upstream service {");
        for (endpoint, weight) in stable.iter().map(|server| (server, of_stable)).chain(canary.iter().map(|server| (server, of_canary))) {
            // A server with weight 0 is not a thing; one that gets nothing is marked as such.
            let setting = if weight == 0 { "down".to_owned() } else { format!("weight={}", weight / divisor) };
            text.push_str(&format!("\n    server {} {setting}; # {}", endpoint.address, endpoint.id));
        }
        text.push_str("\n  }");
        if stable.iter().chain(canary).all(|server| is_loopback(&server.address)) {
            text.push_str("\nThese addresses are of this machine alone: the load balancer has to run on it.");
        }
        text
    }

    fn stop(&self) -> Option<String> {
        let control = self.control.map(|pid| {
            format!(
                "`kill -KILL {pid}` stops control and nothing else. Ctrl-C or SIGTERM would stop the versions with it. If a service manager\n\
                 starts it again, disable that first."
            )
        });
        let proxy = self.proxy.map(|pid| format!("`kill -TERM {pid}` stops the proxy; requests in flight may end."));
        match (control, proxy) {
            (Some(control), Some(proxy)) => Some(format!("{control}\nThen {proxy}")),
            (control, proxy) => control.or(proxy),
        }
    }

    fn rest(&self) -> String {
        let running: Vec<&Process> = self.processes.iter().filter(|process| process.runs).collect();
        if running.is_empty() {
            let unknown =
                if self.trouble.is_empty() { "No process of a version runs that Serin started" } else { "What Serin started is not known" };
            return format!("{unknown}. Servers of `external` are as they were. `ss -ltnp` shows what listens.");
        }
        let mut text =
            "From then on nobody restarts the processes: have a service manager start the version anew, move the load balancer there,\n\
                        and stop these, each with all that it started:"
                .to_owned();
        for process in running {
            text.push_str(&format!("\n  kill -TERM -- -{}  # {}", process.pid, process.id));
        }
        text
    }
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use serin_core::WeightBps;
    use serin_proxy::table::{Endpoint, Timeouts};

    use super::*;

    fn pool(addresses: &[&str]) -> Pool {
        let endpoint = |(number, address): (usize, &&str)| Endpoint { id: format!("server-{number}"), address: (*address).to_owned() };
        Pool { endpoints: addresses.iter().enumerate().map(endpoint).collect(), health: None }
    }

    fn found(weight: u16, stable: &[&str], canary: &[&str]) -> Found {
        let table = RouteTable {
            epoch: 1,
            version: 1,
            release: "shop".to_owned(),
            salt: "shop".to_owned(),
            stable: pool(stable),
            canary: (!canary.is_empty()).then(|| pool(canary)),
            weight: WeightBps::new(weight).unwrap(),
            matches: vec![],
            sticky: None,
            timeouts: Timeouts { connect_ms: 1, response_ms: 1, idle_ms: 1 },
            access_log: None,
            preview: None,
        };
        Found {
            folder: "/state".to_owned(),
            service: None,
            listen: None,
            control: Some(11),
            proxy: Some(12),
            table: Some(table),
            processes: vec![],
            trouble: vec![],
        }
    }

    #[test]
    fn server_weights_make_the_versions_shares() {
        let servers = |found: &Found| -> Vec<String> {
            let text = found.balancer();
            text.lines().filter_map(|line| Some(line.trim().strip_prefix("server ")?.split(';').next()?.to_owned())).collect()
        };
        // 20 % over one server, 80 % over two: 20 to 40 each.
        assert_eq!(
            servers(&found(2_000, &["10.0.0.1:1", "10.0.0.2:1"], &["10.0.0.3:1"])),
            ["10.0.0.1:1 weight=2", "10.0.0.2:1 weight=2", "10.0.0.3:1 weight=1"]
        );
        assert_eq!(servers(&found(0, &["a:1"], &["b:1"])), ["a:1 weight=1", "b:1 down"]);
        assert_eq!(servers(&found(10_000, &["a:1"], &["b:1"])), ["a:1 down", "b:1 weight=1"]);
        assert_eq!(servers(&found(0, &["a:1", "c:1"], &[])), ["a:1 weight=1", "c:1 weight=1"]);
    }

    #[test]
    fn without_a_proxy_nothing_is_waited_for() {
        let found = Found { control: None, proxy: None, table: None, ..found(0, &["a:1"], &[]) };
        let text = words(&found).join("\n");
        assert!(text.contains("the address is free") && !text.contains("after step") && !text.contains("kill"), "{text}");
    }

    #[test]
    fn the_step_after_which_the_address_is_free_is_the_one_that_stops_the_proxy() {
        for weight in [0, 500] {
            let steps = found(weight, &["127.0.0.1:1"], &["[::1]:2"]).steps();
            let named = steps.iter().find(|step| step.starts_with("Point clients")).unwrap();
            let number: usize = named.split("after step ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
            assert!(steps[number - 1].contains("stops the proxy"), "{steps:#?}");
            assert!(steps.iter().any(|step| step.contains("addresses are of this machine alone")));
        }
    }
}
