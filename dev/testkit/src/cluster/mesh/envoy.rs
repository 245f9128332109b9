//! Envoy and the files it reads: a route configuration per door, the list of clusters, and the endpoints of each.
//!
//! A file is written beside and renamed over the old one, which Envoy notices within milliseconds. The order is make before break:
//! endpoints, clusters, then (once Envoy knows the clusters) routes. Clusters are never taken away: a test is short.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{super::daemon::Daemon, table::Door, translate::Translation, world::Upstream};
use crate::{free_address, http};

const POLL: Duration = Duration::from_millis(5);
/// How long Envoy may take to load a file on a busy machine.
const LOAD: Duration = Duration::from_secs(20);
/// Far more than tests need: Envoy's defaults (three retries at once) would lose requests that it is to save.
const MANY: u32 = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Envoy {
    files: Files,
    doors: BTreeMap<Door, SocketAddr>,
    daemon: Daemon,
}

/// What has been written so far.
#[derive(Debug, Clone)]
pub(super) struct Files {
    folder: PathBuf,
    pub(super) admin: SocketAddr,
    written: Translation,
    version: u64,
}

impl Envoy {
    pub(super) fn start(cluster: &Path, program: &Path) -> Self {
        let folder = cluster.join("envoy");
        fs::create_dir_all(folder.join("endpoints")).unwrap();
        let mut files = Files { folder: folder.clone(), admin: free_address(), written: Translation::default(), version: 0 };
        files.write("clusters.json", &[]);
        let doors: BTreeMap<Door, SocketAddr> = Door::ALL.map(|door| (door, free_address())).into();
        for door in Door::ALL {
            files.write(&route_file(door.name()), &[super::translate::empty(door)]);
        }
        let listeners = doors.iter().map(|(door, address)| listener(&folder, *door, *address));
        let bootstrap = json!({
            "node": {"id": "testbed", "cluster": "testbed"},
            "admin": {"address": socket(files.admin)},
            "static_resources": {"listeners": listeners.collect::<Vec<_>>()},
            "dynamic_resources": {"cds_config": source(&folder.join("clusters.json"))},
        });
        let file = folder.join("bootstrap.json");
        fs::write(&file, serde_json::to_vec_pretty(&bootstrap).unwrap()).unwrap();
        let args = ["-c", file.to_str().unwrap(), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"].map(str::to_owned);
        let mut daemon = Daemon::start(cluster, "envoy", program, &args);
        let admin = files.admin;
        daemon.wait_ready("envoy", || http::get(admin, "/ready", &[]).is_ok_and(|answer| answer.status == 200));
        Self { files, doors, daemon }
    }

    pub(super) fn files(&self) -> Files {
        self.files.clone()
    }

    pub(super) fn door(&self, door: Door) -> SocketAddr {
        self.doors[&door]
    }

    pub(super) fn tail(&self) -> String {
        self.daemon.tail()
    }
}

impl Files {
    /// Brings Envoy to what is wanted. What it refuses is in the error; then it keeps what it had.
    pub(super) async fn update(&mut self, wanted: &Translation) -> Result<(), String> {
        let mut problems = Vec::new();
        let known = self.written.upstreams.len();
        for (name, upstream) in &wanted.upstreams {
            if self.written.upstreams.get(name) != Some(upstream) {
                self.write(&endpoint_file(name), &[assignment(name, upstream)]);
                self.written.upstreams.insert(name.clone(), upstream.clone());
            }
        }
        if self.written.upstreams.len() != known {
            let clusters: Vec<Value> = self.written.upstreams.iter().map(|(name, upstream)| self.cluster(name, upstream)).collect();
            self.write("clusters.json", &clusters);
            let names: Vec<String> = wanted.upstreams.keys().cloned().collect();
            if !self.wait_until(|files| files.knows(&names)).await {
                problems.push("clusters were not taken".to_owned());
            }
        }
        for (door, routes) in &wanted.routes {
            if self.written.routes.get(door) == Some(routes) {
                continue;
            }
            let before = self.loads(door);
            self.write(&route_file(door), std::slice::from_ref(routes));
            self.written.routes.insert(door, routes.clone());
            let door = (*door).to_owned();
            self.wait_until(|files| files.loads(&door) != before).await;
            let after = self.loads(&door);
            if after.1 > before.1 || after == before {
                problems.push(format!("routes of {door} were not taken: {routes}"));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }

    /// Requests of one door by upstream and status class, and other counters, as Envoy has them.
    pub(super) fn stats(&self, filter: &str) -> BTreeMap<String, u64> {
        let answer = http::get(self.admin, &format!("/stats?filter={filter}"), &[]);
        let text = answer.map(|answer| answer.text()).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once(": "))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// How often a door's routes were taken and refused.
    fn loads(&self, door: &str) -> (u64, u64) {
        let stats = self.stats(&format!("rds.{door}.update"));
        let of = |what: &str| stats.iter().filter(|(name, _)| name.ends_with(what)).map(|(_, value)| value).sum();
        (of("update_success"), of("update_rejected"))
    }

    fn knows(&self, names: &[String]) -> bool {
        let answer = http::get(self.admin, "/clusters?format=json", &[]).map(|answer| answer.text()).unwrap_or_default();
        let clusters: Value = serde_json::from_str(&answer).unwrap_or_default();
        let known: Vec<&str> = clusters["cluster_statuses"].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
        names.iter().all(|name| known.contains(&name.as_str()))
    }

    async fn wait_until(&self, is_so: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + LOAD;
        while !is_so(self) {
            if Instant::now() > end {
                return false;
            }
            sleep(POLL).await;
        }
        true
    }

    fn write(&mut self, file: &str, resources: &[Value]) {
        self.version += 1;
        let response = json!({"version_info": self.version.to_string(), "resources": resources});
        let (target, beside) = (self.folder.join(file), self.folder.join("next.json"));
        fs::write(&beside, serde_json::to_vec(&response).unwrap_or_default()).and_then(|()| fs::rename(&beside, &target)).unwrap();
    }

    fn cluster(&self, name: &str, upstream: &Upstream) -> Value {
        let limits = json!({"max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY, "max_retries": MANY});
        let mut cluster = json!({
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": name,
            "type": "EDS",
            "connect_timeout": "2s",
            "eds_cluster_config": {"eds_config": source(&self.folder.join(endpoint_file(name)))},
            "circuit_breakers": {"thresholds": [limits]},
        });
        if upstream.is_http2 {
            cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }});
        }
        cluster
    }
}

fn route_file(door: &str) -> String {
    format!("routes-{door}.json")
}

fn endpoint_file(upstream: &str) -> String {
    format!("endpoints/{}.json", upstream.replace('/', "_"))
}

fn assignment(name: &str, upstream: &Upstream) -> Value {
    let endpoints = upstream.endpoints.iter().map(|address| json!({"endpoint": {"address": socket(*address)}}));
    json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": endpoints.collect::<Vec<_>>()}],
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn source(file: &Path) -> Value {
    json!({"resource_api_version": "V3", "path_config_source": {"path": file}})
}

fn listener(folder: &Path, door: Door, address: SocketAddr) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": door.name(),
        "rds": {"route_config_name": door.name(), "config_source": source(&folder.join(route_file(door.name())))},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    json!({
        "name": door.name(),
        "address": socket(address),
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    })
}
