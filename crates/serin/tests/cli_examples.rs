//! The examples do what their first lines say, as they stand apart from their ports.
//!
//! All in one file, because the tests of a file run at the same time and each example takes its while.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use serin_testkit::{Load, Place, Release, free_address, http, installed, processes, prompt, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// Writes a file of an example into the place, with other text where that cannot stay.
fn copy(place: &Place, example_file: &str, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = fs::read_to_string(example(example_file)).unwrap();
    for (old, new) in changes {
        assert!(text.contains(old), "{example_file} has no {old}");
        text = text.replace(old, new);
    }
    let file = place.path().join(Path::new(example_file).file_name().unwrap());
    fs::write(&file, text).unwrap();
    file
}

fn start(place: &Place, file: &Path) -> Release {
    let mut command = place.command(&["--output", "json", "run", file.to_str().unwrap()]);
    prompt::clean(&mut command);
    Release::start(command)
}

#[test]
fn a_quickstart_succeeds() {
    let place = Place::new(SERIN);
    let listen = free_address().to_string();
    let ended = start(&place, &copy(&place, "quickstart/release.yaml", &[("127.0.0.1:8080", &listen)])).end_of_all();
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    assert_eq!(ended.events("stage-passed").len(), 3);
    assert_eq!(ended.last["report"]["own_errors"], json!(0));
    processes::assert_none_left(place.path());
}

#[test]
fn quickstart_bad_rolls_back_by_itself() {
    let place = Place::new(SERIN);
    let listen = free_address().to_string();
    let ended = start(&place, &copy(&place, "quickstart-bad/release.yaml", &[("127.0.0.1:8080", &listen)])).end_of_all();
    assert_eq!(ended.code, Some(4), "{}", ended.story());
    assert!(["error-rate", "latency-any", "outage"].contains(&ended.decided_by().as_str()), "{}", ended.story());
    assert_eq!(ended.events("bake-started").len(), 0);
    assert_eq!(ended.last["report"]["own_errors"], json!(0));
    processes::assert_none_left(place.path());
}

#[test]
fn blue_green_switches_at_once_after_its_preview() {
    let place = Place::new(SERIN);
    let (listen, preview) = (free_address().to_string(), free_address().to_string());
    let changes = [("listen: 127.0.0.1:8080", format!("listen: {listen}")), ("preview: 127.0.0.1:8081", format!("preview: {preview}"))];
    let changes: Vec<_> = changes.iter().map(|(old, new)| (*old, new.as_str())).collect();
    let ended = start(&place, &copy(&place, "blue-green/release.yaml", &changes)).end_of_all();
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    assert_eq!((ended.events("stage-passed").len(), ended.events("switch-seen").len()), (1, 1));
    assert_eq!(ended.last["report"]["own_errors"], json!(0));
    processes::assert_none_left(place.path());
}

/// These take longer than tests otherwise wait.
trait EndOfAll {
    fn end_of_all(self) -> serin_testkit::Ended;
}

impl EndOfAll for Release {
    fn end_of_all(self) -> serin_testkit::Ended {
        let over = |line: &Value| line["type"] == "end" || line["type"] == "error";
        wait::until_or("the end", 3 * wait::PATIENCE, || self.lines().iter().any(over).then_some(()), || self.story());
        self.end()
    }
}

#[test]
fn targeted_sends_testers_to_the_canary() {
    let place = Place::new(SERIN);
    let listen = free_address();
    let release = start(&place, &copy(&place, "targeted/release.yaml", &[("listen: 127.0.0.1:8080", &format!("listen: {listen}"))]));
    let _ = release.stage(1);
    for _ in 0..20 {
        assert_eq!(http::get(listen, "/", &[("x-canary", "true")]).unwrap().version(), "v2");
        assert_eq!(http::get(listen, "/", &[("cookie", "beta=1"), ("x-region", "eu")]).unwrap().version(), "v2");
    }
    assert!((0..20).any(|_| http::get(listen, "/", &[("cookie", "beta=1"), ("x-region", "us")]).unwrap().version() == "v1"));
    assert!(http::get(listen, "/", &[]).unwrap().header("set-cookie").unwrap().starts_with("serin="));
    release.interrupt();
    assert_eq!(release.end().code, Some(130));
    processes::assert_none_left(place.path());
}

#[test]
fn nginx_twice_behind_the_proxy() {
    let place = Place::new(SERIN);
    let Some(nginx) = installed("nginx") else {
        assert!(std::env::var_os("SERIN_TESTBED").is_none(), "nginx is not installed; apt-get install nginx-light");
        println!("left out: nginx is not installed");
        return;
    };
    let (listen, stable, canary) = (free_address(), free_address(), free_address());
    let temporary = place.path().join("serin-example").display().to_string();
    let _servers = [("stable", "9081", stable), ("canary", "9082", canary)].map(|(name, port, address)| {
        let changes = [(&*format!("127.0.0.1:{port}"), &*address.to_string()), ("/tmp/serin-example", &*temporary)];
        let _ = copy(&place, &format!("nginx/{name}.conf"), &changes);
        Nginx::start(&nginx, place.path(), name, address)
    });
    let changes = [
        ("listen: 127.0.0.1:8080", format!("listen: {listen}")),
        ("127.0.0.1:9081", stable.to_string()),
        ("127.0.0.1:9082", canary.to_string()),
        // Shorter, but as the example is otherwise.
        ("hold: 15s", "hold: 3s".to_owned()),
        ("bake: 15s", "bake: 2s".to_owned()),
        // The tests beside it starve the servers.
        ("max: 200ms", "max: 2s".to_owned()),
    ];
    let changes: Vec<_> = changes.iter().map(|(old, new)| (*old, &**new)).collect();
    let file = copy(&place, "nginx/release.yaml", &changes);
    let url = format!("http://{listen}/");
    let load = Load::start(place.command(&["--output", "json", "load", &url, "--rps", "200", "--wait", "60s"]));
    let mut command = place.command(&["--output", "json", "run", file.to_str().unwrap(), "--keep-serving"]);
    prompt::clean(&mut command);
    let release = Release::start(command);
    let _ = release.event("bake-started");
    assert_eq!(http::get(listen, "/", &[]).unwrap().text(), "hello from v2\n");
    let ended = release.end_under(load);
    assert_eq!(ended.code, Some(0), "{}", ended.story());
    for server in [stable, canary] {
        assert_eq!(http::get(server, "/health", &[]).unwrap().status, 204, "Serin stopped a server that is not its own");
    }
}

/// A server of the test's own, stopped at its end.
struct Nginx(Child);

impl Nginx {
    fn start(nginx: &Path, folder: &Path, name: &str, address: SocketAddr) -> Self {
        let child = Command::new(nginx)
            .args(["-p", folder.to_str().unwrap(), "-c", &format!("{name}.conf"), "-g", "daemon off;"])
            .env(processes::MARKER, folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(child);
        wait::until("nginx to answer", || http::get(address, "/health", &[]).ok().filter(|answer| answer.status == 204));
        server
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The first process stops the others.
        processes::signal(self.0.id(), rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}
