//! The data plane: Envoy, fed from the cluster's own objects.
//!
//! One task mirrors services, endpoints and all kinds of routes, translates them (`translate`) and brings Envoy there (`envoy`). It then
//! writes the status of `HTTPRoutes` and `GRPCRoutes`, as a controller of Gateway API does: what it calls accepted is live.
//! Only what the modules of each kind say is understood; the real controllers of Istio, ingress-nginx and Traefik do not run here.

mod envoy;
mod http_route;
mod ingress;
mod service;
mod table;
#[cfg(test)]
mod tests;
mod traefik;
mod translate;
mod virtual_service;
mod world;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kube::Client;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::watch, time::sleep};

use super::{agent, mirror::Mirror, net::PodNetwork, objects::Objects};

pub use table::Door;
pub use virtual_service::{SOURCE_LABELS, SOURCE_NAMESPACE};

/// What the testbed calls itself in the status of routes.
pub const CONTROLLER: &str = "serin.dev/testbed";

/// Changes that come together are taken together.
const SETTLE: Duration = Duration::from_millis(2);
const RETRY: Duration = Duration::from_millis(200);
/// Longer than that no status is tried at once.
const ANSWER: Duration = Duration::from_secs(5);

/// What the data plane leaves undone for the time being.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Routes and endpoints stay as they are.
    pub routes: bool,
    /// The status of routes is not written.
    pub status: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Mesh {
    envoy: envoy::Envoy,
    held: Arc<watch::Sender<Held>>,
}

struct Mirrors {
    all: [Mirror; 11],
}

struct Feeder {
    mirrors: Mirrors,
    network: Arc<PodNetwork>,
    objects: Objects,
    files: envoy::Files,
    log: PathBuf,
}

impl Mesh {
    pub(super) fn start(folder: &Path, program: &Path, runtime: &Runtime, client: Client, network: Arc<PodNetwork>) -> Self {
        let envoy = envoy::Envoy::start(folder, program);
        let held = Arc::new(watch::Sender::new(Held::default()));
        let changes = Arc::new(watch::Sender::new(0));
        let changed = changes.subscribe();
        let _inside = runtime.enter();
        let feeder = Feeder {
            mirrors: Mirrors::follow(&client, &changes),
            network,
            objects: Objects::new(client),
            files: envoy.files(),
            log: folder.join("mesh.log"),
        };
        runtime.spawn(feeder.run(changed, held.subscribe()));
        Self { envoy, held }
    }

    /// Where requests enter.
    #[must_use]
    pub fn door(&self, door: Door) -> SocketAddr {
        self.envoy.door(door)
    }

    /// Envoy's own address: `/stats`, `/clusters`, `/stats/prometheus`.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.envoy.files().admin
    }

    /// Envoy's counters whose name matches a regular expression.
    #[must_use]
    pub fn stats(&self, filter: &str) -> BTreeMap<String, u64> {
        self.envoy.files().stats(filter)
    }

    /// What Envoy said last.
    #[must_use]
    pub fn said(&self) -> String {
        self.envoy.tail()
    }

    /// Leaves things undone until told otherwise: a controller that is slow, or down.
    pub fn hold(&self, held: Held) {
        self.held.send_replace(held);
    }
}

impl Mirrors {
    fn follow(client: &Client, changes: &Arc<watch::Sender<u64>>) -> Self {
        let paths = [
            "/api/v1/services",
            "/apis/discovery.k8s.io/v1/endpointslices",
            "/api/v1/pods",
            "/apis/gateway.networking.k8s.io/v1/httproutes",
            "/apis/gateway.networking.k8s.io/v1/grpcroutes",
            "/apis/networking.istio.io/v1/virtualservices",
            "/apis/networking.istio.io/v1/destinationrules",
            "/apis/networking.k8s.io/v1/ingresses",
            "/apis/traefik.io/v1alpha1/traefikservices",
            "/apis/traefik.io/v1alpha1/ingressroutes",
            "/apis/gateway.networking.k8s.io/v1beta1/referencegrants",
        ];
        Self { all: paths.map(|path| Mirror::follow(client.clone(), path, Arc::clone(changes))) }
    }

    fn world(&self) -> world::World {
        let [
            services,
            slices,
            pods,
            http_routes,
            grpc_routes,
            virtual_services,
            destination_rules,
            ingresses,
            traefik_services,
            ingress_routes,
            reference_grants,
        ] = std::array::from_fn(|index| self.all[index].all());
        world::World {
            services,
            slices,
            pods,
            http_routes,
            grpc_routes,
            virtual_services,
            destination_rules,
            ingresses,
            traefik_services,
            ingress_routes,
            reference_grants,
        }
    }
}

impl Feeder {
    async fn run(mut self, mut changes: watch::Receiver<u64>, mut held: watch::Receiver<Held>) {
        loop {
            sleep(SETTLE).await;
            changes.mark_unchanged();
            let now = *held.borrow_and_update();
            let world = self.mirrors.world();
            let mut is_done = true;
            if !now.routes {
                let wanted = translate::translate(&world, &self.network);
                if let Err(problem) = self.files.update(&wanted).await {
                    self.say(&problem);
                }
                if !now.status {
                    is_done = self.report(&world).await;
                }
            }
            let again = async { if is_done { std::future::pending().await } else { sleep(RETRY).await } };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                changed = held.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }

    /// Writes the status of routes where it differs. Whether all could be written.
    async fn report(&self, world: &world::World) -> bool {
        let mut is_done = true;
        for (routes, kind) in [(&world.http_routes, "HTTPRoute/status"), (&world.grpc_routes, "GRPCRoute/status")] {
            for ((namespace, name), route) in routes {
                let ours = http_route::parents(world, (kind.trim_end_matches("/status"), namespace), route, CONTROLLER, &agent::now());
                let others =
                    world::list(&route["status"]["parents"]).iter().filter(|parent| parent["controllerName"] != CONTROLLER).cloned();
                let parents: Vec<Value> = others.chain(world::list(&ours).iter().cloned()).collect();
                if route["status"]["parents"] == Value::from(parents.clone()) {
                    continue;
                }
                let patch = json!({"status": {"parents": parents}});
                let asked = self.objects.merge(("gateway.networking.k8s.io/v1", kind), namespace, name, &patch);
                match tokio::time::timeout(ANSWER, asked).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) if error.code() == 404 => {}
                    other => {
                        is_done = false;
                        self.say(&format!(
                            "{kind} of {namespace}/{name}: {:?}",
                            other.map(|asked| asked.map_err(|error| error.to_string()))
                        ));
                    }
                }
            }
        }
        is_done
    }

    fn say(&self, line: &str) {
        if let Ok(mut log) = OpenOptions::new().create(true).append(true).open(&self.log) {
            let _ = writeln!(log, "{} {line}", agent::now());
        }
    }
}

/// A duration of Go: `1m30s`, `500ms`. Nothing for what is none.
fn duration_ms(text: &str) -> Option<u64> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| end + at);
        total += number
            * match &rest[end..unit_end] {
                "ms" => 1.0,
                "s" => 1e3,
                "m" => 60e3,
                "h" => 3600e3,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds of a timeout")]
    Some(total as u64)
}
