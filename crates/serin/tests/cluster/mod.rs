//! A shop in a test cluster, with the real controller under its own role and with requests that are counted.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "shared by tests, each of which uses a part; helpers of tests may fail the test"
)]

mod documents;

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};
use serin_testkit::{
    cluster::{Cluster, Door, Options},
    http, wait,
};

use documents::{app, image};

pub(crate) const SERIN: &str = env!("CARGO_BIN_EXE_serin");
const HOST: &str = "shop.example";
const RELEASES: &str = "serin.dev/v1alpha1";
const ROUTES: &str = "gateway.networking.k8s.io/v1";

/// A cluster with the resource, the role, and both versions of the shop; stable serves.
pub(crate) struct Shop {
    pub(crate) cluster: Cluster,
    controllers: Mutex<Vec<Controller>>,
}

struct Controller {
    child: Child,
    log: PathBuf,
}

impl Shop {
    pub(crate) fn open(test: &str) -> Option<Self> {
        Self::open_with(test, Options::default())
    }

    /// With a Prometheus that scrapes both versions twice a second.
    pub(crate) fn open_measured(test: &str) -> Option<Self> {
        Self::open_with(test, Options { scrape_interval: Some(Duration::from_millis(500)), ..Options::default() })
    }

    /// In a cluster with these options.
    pub(crate) fn open_with(test: &str, options: Options) -> Option<Self> {
        let shop = Self::with_stable(test, options)?;
        shop.add_canary();
        Some(shop)
    }

    /// With stable alone: its canary is made by Serin.
    pub(crate) fn open_alone(test: &str) -> Option<Self> {
        Self::with_stable(test, Options::default())
    }

    fn add_canary(&self) {
        self.cluster.apply(&app("shop-canary", "v1", 0));
    }

    fn with_stable(test: &str, options: Options) -> Option<Self> {
        let cluster = Cluster::start_or_leave_out(test, &options.sample_app(SERIN))?;
        cluster.install_serin();
        cluster.namespace("shop");
        cluster.apply(&app("shop", "v1", 2));
        cluster.apply(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: shop, annotations: {owner: somebody}}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [shop.example]
  rules:
  - backendRefs: [{name: shop, port: 80}]
",
        );
        cluster.wait_available("shop", "shop");
        let shop = Self { cluster, controllers: Mutex::default() };
        shop.until("the shop to serve", |shop| (shop.ask(&[]).ok()? == "v1").then_some(()));
        Some(shop)
    }

    /// Starts a controller; its number is its place in the order of starts.
    pub(crate) fn controller(&self) -> usize {
        self.controller_at(&self.cluster.service_account("serin", "controller"), "4s")
    }

    /// Starts a controller that finds the API server there, with a lease of this duration.
    pub(crate) fn controller_at(&self, kubeconfig: &Path, lease: &str) -> usize {
        let mut all = self.controllers.lock().unwrap();
        let log = self.cluster.path().join(format!("controller-{}.log", all.len()));
        let file = File::create(&log).unwrap();
        let child = Command::new(SERIN)
            .args(["controller", "--all-namespaces", "--lease-namespace=serin", &format!("--lease-duration={lease}")])
            .env("KUBECONFIG", kubeconfig)
            .env("SERIN_LOG", "info")
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        all.push(Controller { child, log });
        all.len() - 1
    }

    /// Sends a signal to a controller.
    pub(crate) fn signal(&self, controller: usize, signal: rustix::process::Signal) {
        serin_testkit::processes::signal(self.controllers.lock().unwrap()[controller].child.id(), signal);
    }

    /// Ends a controller by SIGKILL.
    pub(crate) fn kill(&self, controller: usize) {
        let mut all = self.controllers.lock().unwrap();
        all[controller].child.kill().unwrap();
        all[controller].child.wait().unwrap();
    }

    /// Ends a controller by SIGTERM, and waits for it.
    pub(crate) fn terminate(&self, controller: usize) {
        let mut all = self.controllers.lock().unwrap();
        let pid = all[controller].child.id();
        serin_testkit::processes::signal(pid, rustix::process::Signal::TERM);
        assert!(all[controller].child.wait().unwrap().success());
    }

    /// A command of `ann`, with the reason `test`.
    pub(crate) fn command(&self, id: &str, action: &Value) {
        let command = json!({"id": id, "action": action, "by": "ann", "reason": "test"}).to_string();
        let patch = json!({"metadata": {"annotations": {"serin.dev/command": command}}});
        self.cluster.patch((RELEASES, "Release"), "shop", "shop", &patch);
    }

    /// Waits until stable's counters were scraped: metrics must answer for stable before a release begins.
    pub(crate) fn until_scraped(&self) {
        self.until("scraped counters of stable", |shop| {
            (!shop.cluster.prometheus().query("http_requests_total{app=\"shop\"}").is_empty()).then_some(())
        });
    }

    /// Gives the canary's Deployment another version.
    pub(crate) fn new_version(&self, version: &str) {
        self.change_canary(|container| container["image"] = json!(image(version)));
    }

    /// Edits the Deployment that is released in place.
    pub(crate) fn edit(&self, version: &str) {
        self.change("shop", |container| container["image"] = json!(image(version)));
    }

    /// Changes the first container of the canary's Deployment.
    pub(crate) fn change_canary(&self, change: impl Fn(&mut Value)) {
        self.change("shop-canary", change);
    }

    /// Changes the first container of a Deployment.
    pub(crate) fn change(&self, name: &str, change: impl Fn(&mut Value)) {
        let deployment = self.get("apps/v1", "Deployment", name);
        let mut containers = deployment["spec"]["template"]["spec"]["containers"].clone();
        change(&mut containers[0]);
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        self.cluster.patch(("apps/v1", "Deployment"), "shop", name, &patch);
    }

    /// The versions of the pods of a label value that are to stay, in order.
    pub(crate) fn versions_of(&self, label: &str) -> Vec<String> {
        let pods = self.cluster.pods("shop", label);
        let stay = pods.iter().filter(|pod| pod.object["metadata"]["deletionTimestamp"].is_null());
        let images = stay.map(|pod| pod.object["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned());
        let mut versions: Vec<String> = images.map(|image| image.rsplit(':').next().unwrap_or_default().to_owned()).collect();
        versions.sort_unstable();
        versions
    }

    pub(crate) fn deployment(&self, name: &str) -> Value {
        self.get("apps/v1", "Deployment", name)
    }

    pub(crate) fn get(&self, api_version: &str, kind: &str, name: &str) -> Value {
        self.cluster.get(api_version, kind, "shop", name).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> Value {
        self.get(RELEASES, "Release", "shop")["status"].clone()
    }

    pub(crate) fn route(&self) -> Value {
        self.get(ROUTES, "HTTPRoute", "shop")
    }

    /// The canary's weight in the rule for everybody, in basis points, and the number of rules.
    pub(crate) fn canary_weight(&self) -> (u64, usize) {
        let route = self.route();
        let rules = route["spec"]["rules"].as_array().cloned().unwrap_or_default();
        let backends = rules.last().and_then(|rule| rule["backendRefs"].as_array().cloned()).unwrap_or_default();
        let weight = backends.iter().find(|one| one["name"] == "shop-canary").and_then(|one| one["weight"].as_u64());
        (weight.unwrap_or(0), rules.len())
    }

    /// Waits until the status says so.
    pub(crate) fn until_phase(&self, phase: &str) -> Value {
        self.until(&format!("phase {phase}"), |shop| {
            let status = shop.status();
            (status["phase"] == phase).then_some(status)
        })
    }

    pub(crate) fn until<T>(&self, what: &str, mut condition: impl FnMut(&Self) -> Option<T>) -> T {
        let found = wait::paced(Duration::from_millis(50), Duration::from_secs(120), || condition(self));
        found.unwrap_or_else(|| panic!("waited in vain for {what}\n{:#}\n{}", self.status(), self.logs()))
    }

    pub(crate) fn logs(&self) -> String {
        let all = self.controllers.lock().unwrap();
        all.iter().map(|one| std::fs::read_to_string(&one.log).unwrap_or_default()).collect::<Vec<_>>().join("\n----\n")
    }

    /// Which version answers one request.
    pub(crate) fn ask(&self, headers: &[(&str, &str)]) -> Result<String, String> {
        self.ask_at(Door::Gateway, HOST, headers)
    }

    /// The same at another door and for another host.
    pub(crate) fn ask_at(&self, door: Door, host: &str, headers: &[(&str, &str)]) -> Result<String, String> {
        ask(self.cluster.door(door), host, headers)
    }

    /// Two clients that ask one after the other until they are told to stop.
    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic_at(Door::Gateway, HOST)
    }

    /// The same at another door and for another host.
    pub(crate) fn traffic_at(&self, door: Door, host: &'static str) -> Traffic {
        let door = self.cluster.door(door);
        let (is_over, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::<String, u64>::new())));
        let clients = (0..2)
            .map(|_| {
                let (is_over, counts) = (Arc::clone(&is_over), Arc::clone(&counts));
                std::thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        let what = ask(door, host, &[]).unwrap_or_else(|error| error);
                        *counts.lock().unwrap().entry(what).or_default() += 1;
                        std::thread::sleep(Duration::from_millis(3));
                    }
                })
            })
            .collect();
        Traffic { is_over, counts, clients }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        for controller in self.controllers.get_mut().unwrap() {
            let _ = controller.child.kill();
            let _ = controller.child.wait();
        }
    }
}

/// Requests on their way.
pub(crate) struct Traffic {
    is_over: Arc<AtomicBool>,
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Answers so far, by version or by what went wrong.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap().clone()
    }

    /// Forgets what was counted.
    pub(crate) fn forget(&self) {
        self.counts.lock().unwrap().clear();
    }

    pub(crate) fn stop(mut self) -> BTreeMap<String, u64> {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end();
    }
}

fn ask(door: std::net::SocketAddr, host: &str, headers: &[(&str, &str)]) -> Result<String, String> {
    match http::get_of_host(door, host, "/", headers) {
        Ok(answer) if answer.status == 200 => Ok(answer.version().to_owned()),
        Ok(answer) => Err(answer.status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
