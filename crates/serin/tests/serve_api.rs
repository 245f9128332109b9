//! The API of `serin serve` over TCP, as pipelines, Alertmanager and Prometheus use it: tokens, alerts, events, metrics, and no secret anywhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use serin_testkit::{Document, Load, Server, Site, free_address, http, processes, prompt::Finished, wait};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// A stage that nothing but a person ends.
fn document(name: &str) -> Document {
    Document::sample_apps(name, &[], &[]).set("strategy.canary.stages", json!([{"weight": 20, "hold": "10m", "minRequests": 10}]))
}

fn load(site: &Site, document: &Document) -> Load {
    site.place().load(document, 100, &[])
}

/// A site whose server listens on TCP, with a token for each role and one for Alertmanager.
struct Api {
    site: Site,
    listen: SocketAddr,
    config: String,
}

impl Api {
    fn new() -> Self {
        let (site, listen) = (Site::new(SERIN), free_address());
        let tokens: Vec<Value> = [("ann", "viewer"), ("ci", "operator"), ("root", "admin"), ("alerts", "operator")]
            .into_iter()
            .map(|(name, role)| {
                let made = site.say(&["--output", "json", "token", name, "--role", role]).expect_code(0).json();
                let _ = site.write(&format!("{name}.token"), &format!("{}\n", made["token"].as_str().unwrap()));
                json!({"name": name, "role": role, "hash": made["hash"]})
            })
            .collect();
        let config = json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "Server",
            "spec": {"api": {"tcp": {"listen": listen.to_string(), "tokens": tokens}}},
        });
        let config = site.write("serin.yaml", &config.to_string());
        Self { site, listen, config }
    }

    fn serve(&self) -> Server {
        self.site.serve_with(&["--config", &self.config])
    }

    fn token(&self, name: &str) -> String {
        fs::read_to_string(self.site.place().path().join(format!("{name}.token"))).unwrap().trim().to_owned()
    }

    /// A verb over TCP with somebody's token.
    #[track_caller]
    fn say(&self, who: &str, args: &[&str]) -> Finished {
        let (server, token) = (format!("http://{}", self.listen), format!("{who}.token"));
        self.site.say(&[args, &["--server", &server, "--token-file", &token]].concat())
    }

    /// A plain request over TCP with somebody's token, or without one.
    fn ask(&self, who: Option<&str>, method: &str, path: &str, body: &str) -> http::Answer {
        let bearer = who.map(|who| format!("Bearer {}", self.token(who)));
        let mut headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        http::request(self.listen, method, path, &headers, body.as_bytes()).unwrap()
    }
}

#[test]
fn everyone_may_do_what_their_token_says_and_stands_in_the_journal() {
    let api = Api::new();
    let server = api.serve();
    let document = document("shop");
    let load = load(&api.site, &document);
    let file = api.site.write("shop.yaml", &document.text());

    for (who, needs) in [("ann", "this needs the role admin, yours is viewer"), ("ci", "this needs the role admin, yours is operator")] {
        let refused = api.say(who, &["apply", &file]).expect_code(2);
        assert!(refused.stderr.contains(needs), "{}", refused.stderr);
    }
    let nothing = api.say("ann", &["--output", "json", "get"]).expect_code(0);
    assert_eq!(nothing.json()["services"], json!([]), "a refused document created a service");
    let _ = api.say("root", &["apply", &file, "--reason", "version 2"]).expect_code(0);
    api.site.stage("shop", 1);

    let shown = api.say("ann", &["get", "shop"]).expect_code(0);
    assert!(shown.stdout.contains("shop · releasing"), "{}", shown.stdout);
    let _ = api.say("ann", &["explain", "shop"]).expect_code(0);
    let _ = api.say("ann", &["history", "shop"]).expect_code(0);
    for verb in ["pause", "promote", "abort", "rollback", "retry"] {
        let refused = api.say("ann", &[verb, "shop"]).expect_code(2);
        assert!(refused.stderr.contains("this needs the role operator, yours is viewer"), "{verb}: {}", refused.stderr);
    }
    let refused = api.say("ann", &["weight", "shop", "90"]).expect_code(2);
    assert!(refused.stderr.contains("operator"), "{}", refused.stderr);
    assert!(api.say("ci", &["delete", "shop"]).expect_code(2).stderr.contains("admin"));
    let status = api.site.status("shop");
    assert_eq!((&status["release"]["paused"], &status["release"]["weight"]), (&json!(false), &json!(2000)), "a refused verb did something");

    let _ = api.say("ci", &["pause", "shop", "--reason", "lunch"]).expect_code(0);
    let paused = api.site.journaled("shop", "paused");
    assert_eq!((&paused[0]["by"], &paused[0]["reason"]), (&json!("ci (token)"), &json!("lunch")));
    assert_eq!(api.site.journaled("shop", "began")[0]["by"], "root (token)");
    let _ = api.say("ci", &["abort", "shop"]).expect_code(0);
    assert_eq!(api.site.over("shop", 1)["last"]["end"]["cause"]["text"], "aborted by ci (token)");

    // Nobody without a token, with a wrong one or with the hash of one.
    let _ = api.site.write("wrong.token", &format!("serin_{}", "a".repeat(43)));
    let config = fs::read_to_string(&api.config).unwrap();
    let hash = serde_json::from_str::<Value>(&config).unwrap()["spec"]["api"]["tcp"]["tokens"][2]["hash"].as_str().unwrap().to_owned();
    let _ = api.site.write("hash.token", &hash);
    for who in ["wrong", "hash"] {
        let refused = api.say(who, &["get"]).expect_code(2);
        assert!(refused.stderr.contains("the token is not known"), "{}", refused.stderr);
    }
    for path in ["/v1/services", "/v1/services/shop", "/v1/events", "/metrics", "/v1/version"] {
        assert_eq!(api.ask(None, "GET", path, "").status, 401, "{path}");
    }
    assert_eq!(api.ask(None, "GET", "/healthz", "").status, 200);
    let _ = api.say("root", &["delete", "shop"]).expect_code(0);
    let _ = load.stop();
    api.site.stopped(server);
}

/// What Alertmanager 0.27 sends, field by field.
fn webhook(status: &str, service: &str) -> String {
    json!({
        "receiver": "serin",
        "status": status,
        "alerts": [{
            "status": status,
            "labels": {"alertname": "HighErrorRate", "service": service, "severity": "page", "instance": "10.0.0.7:9090"},
            "annotations": {"summary": "5 % of requests fail", "runbook_url": "https://runbooks.example/errors"},
            "startsAt": "2026-03-01T12:00:00.000Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.example/graph?g0.expr=up",
            "fingerprint": "c4fbbf5b1c1f0b2f",
        }],
        "groupLabels": {"alertname": "HighErrorRate"},
        "commonLabels": {"alertname": "HighErrorRate", "service": service, "severity": "page"},
        "commonAnnotations": {"summary": "5 % of requests fail"},
        "externalURL": "http://alertmanager.example",
        "version": "4",
        "groupKey": "{}:{alertname=\"HighErrorRate\"}",
        "truncatedAlerts": 0,
    })
    .to_string()
}

#[test]
fn a_firing_alert_takes_the_release_of_its_service_back() {
    let api = Api::new();
    let _server = api.serve();
    let documents = ["shop", "other"].map(document);
    let loads = [0, 1].map(|n| load(&api.site, &documents[n]));
    for document in &documents {
        let _ = api.site.apply(document).expect_code(0);
    }
    api.site.stage("shop", 1);
    api.site.stage("other", 1);
    let send = |who: &str, body: &str| api.ask(Some(who), "POST", "/v1/alertmanager", body);
    assert_eq!(send("ann", &webhook("firing", "shop")).status, 403);
    for (harmless, why) in [(webhook("resolved", "shop"), "not firing"), (webhook("firing", "elsewhere"), "no such service")] {
        let answer = send("alerts", &harmless);
        assert!(answer.status == 200 && answer.text().contains(why), "{}", answer.text());
    }
    assert_eq!(api.site.status("shop")["release"]["phase"], "in a stage");

    let answer = send("alerts", &webhook("firing", "shop"));
    let taken: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &taken["aborted"][0]["service"]), (200, &json!("shop")), "{taken}");
    let status = api.site.over("shop", 1);
    let cause = status["last"]["end"]["cause"]["text"].as_str().unwrap();
    for part in ["alerts (token)", "alert HighErrorRate firing", "5 % of requests fail"] {
        assert!(cause.contains(part), "{part}: {cause}");
    }
    // Alertmanager repeats itself. The other service never heard of it.
    let again = send("alerts", &webhook("firing", "shop"));
    assert!(again.status == 200 && again.text().contains("\"aborted\":[]"), "{}", again.text());
    assert_eq!(api.site.status("other")["release"]["phase"], "in a stage");
    for load in loads {
        load.stop().assert_nothing_lost();
    }
}

#[test]
fn an_event_stream_goes_on_where_it_broke() {
    let api = Api::new();
    let server = api.serve();
    let document = document("shop");
    let load = load(&api.site, &document);
    let _ = api.site.apply(&document).expect_code(0);
    api.site.stage("shop", 1);

    let mut stream = Stream::open(&api, None);
    let _ = api.say("ci", &["pause", "shop"]).expect_code(0);
    let paused = stream.until("paused");
    drop(stream);
    // While nobody looks.
    let _ = api.say("ci", &["resume", "shop"]).expect_code(0);
    let _ = api.say("ci", &["weight", "shop", "30"]).expect_code(0);
    let mut stream = Stream::open(&api, Some(&paused.id));
    let overridden = stream.until("overridden");
    let seen: Vec<u64> = stream.seen.iter().map(|id| number(id)).collect();
    assert_eq!(seen[0], number(&paused.id) + 1, "what was missed is not given, or given twice");
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
    assert!(stream.kinds.contains(&"resumed".to_owned()), "{:?}", stream.kinds);

    // Another process does not know that event any more, and says so.
    assert_eq!(server.leave().code, Some(0));
    let _server = api.serve();
    let mut stream = Stream::open(&api, Some(&overridden.id));
    stream.line("event: reset");
    let _ = api.say("ci", &["abort", "shop"]).expect_code(0);
    let _ = stream.until("rollback-decided");
    load.stop().assert_nothing_lost();
}

fn number(id: &str) -> u64 {
    id.split_once('-').unwrap().1.parse().unwrap()
}

/// An event stream, read as it comes.
struct Stream {
    from: BufReader<TcpStream>,
    opened: Instant,
    /// Every event so far.
    seen: Vec<String>,
    /// The types of the journal entries among them.
    kinds: Vec<String>,
}

struct Happened {
    id: String,
}

impl Stream {
    fn open(api: &Api, after: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(api.listen).unwrap();
        // Signs of life come more often.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let after = after.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        let (token, listen) = (api.token("ann"), api.listen);
        write!(stream, "GET /v1/events?service=shop HTTP/1.1\r\nhost: {listen}\r\nauthorization: Bearer {token}\r\n{after}\r\n").unwrap();
        let mut opened = Self { from: BufReader::new(stream), opened: Instant::now(), seen: Vec::new(), kinds: Vec::new() };
        opened.line("HTTP/1.1 200 OK");
        // Sent once the subscription is there: nothing after it can be missed.
        opened.line(": serin");
        opened
    }

    fn next(&mut self) -> String {
        // Signs of life would keep it waiting for ever.
        assert!(self.opened.elapsed() < wait::PATIENCE, "waited in vain; seen: {:?} {:?}", self.seen, self.kinds);
        let mut line = String::new();
        assert_ne!(self.from.read_line(&mut line).unwrap(), 0, "the stream ended");
        line.trim_end().to_owned()
    }

    /// Reads on to the end.
    fn ends(&mut self) {
        let mut line = String::new();
        // Whether it is closed or cut off.
        while self.from.read_line(&mut line).is_ok_and(|length| length > 0) {
            assert!(self.opened.elapsed() < wait::PATIENCE, "the stream goes on");
        }
    }

    fn line(&mut self, wanted: &str) {
        while self.next() != wanted {}
    }

    /// Reads on to the journal entry of this type.
    fn until(&mut self, kind: &str) -> Happened {
        loop {
            let line = self.next();
            let Some(data) = line.strip_prefix("data: ").filter(|data| data.starts_with('{')) else { continue };
            let event: Value = serde_json::from_str(data).unwrap();
            // A reset has none.
            let Some(id) = event["id"].as_str().map(str::to_owned) else { continue };
            self.seen.push(id.clone());
            let found = event["entry"]["event"]["type"].as_str().unwrap_or_default().to_owned();
            self.kinds.push(found.clone());
            if found == kind {
                return Happened { id };
            }
        }
    }
}

#[test]
fn a_token_that_is_taken_away_opens_nothing_any_more() {
    let api = Api::new();
    let server = api.serve();
    let mut stream = Stream::open(&api, None);
    let asks = |who: &str| api.ask(Some(who), "GET", "/v1/services", "").status;
    assert_eq!((asks("ann"), asks("ci")), (200, 200));
    let original = fs::read_to_string(&api.config).unwrap();
    let mut config: Value = serde_json::from_str(&original).unwrap();
    let without = |config: &mut Value, index| _ = config["spec"]["api"]["tcp"]["tokens"].as_array_mut().unwrap().remove(index);

    // By itself. A stream that was opened with it ends.
    without(&mut config, 0);
    config["spec"]["retention"] = json!({"runs": 7});
    let _ = api.site.write("serin.yaml", &config.to_string());
    wait::until("the token to be refused", || (asks("ann") == 401).then_some(()));
    stream.ends();
    assert_eq!(asks("ci"), 200);
    wait::until("what needs a restart to be said", || server.stderr().contains("spec.retention").then_some(()));
    assert!(server.stderr().contains("gone=\"ann\""), "{}", server.stderr());

    // What cannot be used changes nothing, and is said until it is corrected.
    let failed = |value: u32| {
        let page = api.ask(Some("ci"), "GET", "/metrics", "").text();
        page.lines().any(|line| line == format!("serin_config_reload_failed {value}")).then_some(())
    };
    assert!(failed(0).is_some());
    let _ = api.site.write("serin.yaml", &config.to_string().replace("sha256:", "md5:"));
    wait::until("the failure to be said", || failed(1));
    assert!(server.stderr().contains("not the hash of a token"), "{}", server.stderr());
    assert_eq!((asks("ann"), asks("ci")), (401, 200));

    // At once.
    let _ = api.site.write("serin.yaml", &original);
    server.signal(rustix::process::Signal::HUP);
    wait::until("the token to be let in again", || (asks("ann") == 200).then_some(()));
    assert!(failed(0).is_some());
    api.site.stopped(server);
}

#[test]
fn prometheus_sees_the_release_and_how_fast_traffic_went_back() {
    let api = Api::new();
    let _server = api.serve();
    let document = document("shop");
    let load = load(&api.site, &document);
    let _ = api.site.apply(&document).expect_code(0);
    api.site.stage("shop", 1);
    let page = || api.ask(Some("ann"), "GET", "/metrics", "");
    let answer = page();
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"), "{:?}", answer.headers);
    for line in [
        "serin_release_weight_asked_ratio{service=\"shop\"} 0.2",
        "serin_service_state{service=\"shop\",state=\"releasing\"} 1",
        "serin_release_phase{service=\"shop\",phase=\"in a stage\"} 1",
        "serin_service_fault{service=\"shop\"} 0",
        "serin_release_journal_backlog{service=\"shop\"} 0",
        "serin_service_questions_waiting{service=\"shop\"} 0",
        "serin_config_reload_failed 0",
    ] {
        assert!(answer.text().lines().any(|one| one == line), "{line}\n{}", answer.text());
    }
    wait::until("a measured share", || {
        let text = page().text();
        let measured =
            text.lines().find_map(|line| line.strip_prefix("serin_release_weight_measured_ratio{service=\"shop\"} ")?.parse().ok());
        measured.filter(|share: &f64| *share > 0.0 && *share < 0.6)
    });
    let _ = api.say("ci", &["abort", "shop"]).expect_code(0);
    api.site.over("shop", 1);
    wait::until("the time until traffic was zero", || {
        let text = page().text();
        let once = text.lines().any(|line| line == "serin_rollback_traffic_zero_seconds_count{service=\"shop\"} 1");
        (once && !text.contains("serin_release_weight_asked_ratio{service=\"shop\"}")).then_some(())
    });
    load.stop().assert_nothing_lost();
}

#[test]
fn secrets_are_nowhere() {
    const OF_VARIABLE: &str = "planted-secret-of-a-variable-4711";
    const OF_FILE: &str = "planted-secret-of-a-file-4712";
    const WRONG: &str = "planted-wrong-token-4713";
    let api = Api::new();
    let serve = || {
        let mut command = api.site.command(&["--output", "json", "serve", "--config", &api.config]);
        command.env("PLANTED", OF_VARIABLE).env("SERIN_LOG", "debug");
        api.site.serve_by(command)
    };
    let _ = api.site.write("secret.txt", OF_FILE);
    let environment = json!({"TOKEN": {"env": "PLANTED"}, "KEY": {"file": "secret.txt"}});
    let document =
        document("shop").set("workload.processes.canary.env", environment.clone()).set("workload.processes.stable.env", environment);
    let load = load(&api.site, &document);
    let mut said = Vec::new();
    let mut keep = |finished: Finished| said.extend([finished.stdout, finished.stderr]);

    let server = serve();
    let file = api.site.write("shop.yaml", &document.text());
    keep(api.say("root", &["apply", &file]));
    api.site.stage("shop", 1);
    let canary = api.site.place().pids("v1")[0];
    let given = String::from_utf8_lossy(&fs::read(format!("/proc/{canary}/environ")).unwrap()).into_owned();
    assert!(given.contains(OF_VARIABLE) && given.contains(OF_FILE), "the secrets do not even reach the version");
    let _ = api.site.write("wrong.token", WRONG);
    keep(api.say("wrong", &["get"]));
    keep(api.say("ci", &["apply", &file]));
    let first = server.leave();
    let server = serve();
    api.site.entry("shop", "a new owner", |entry| entry["event"]["type"] == "taken-over");
    // A version that cannot be started says why, and with what.
    keep(api.say("ci", &["abort", "shop"]));
    api.site.over("shop", 1);
    let _ = api.site.serving("shop");
    let ends = document.set("workload.processes.canary.command", json!(["sh", "-c", "exit 3"]));
    let file = api.site.write("ends.yaml", &ends.text());
    keep(api.say("root", &["apply", &file]));
    api.site.over("shop", 2);
    for verb in [&["get", "shop"][..], &["explain", "shop"], &["history", "shop"], &["--output", "json", "history", "shop"], &["get", "-h"]]
    {
        keep(api.say("ann", verb));
    }
    for path in
        ["/v1/services/shop/runs/1/journal", "/v1/services/shop/runs/2/journal", "/v1/services/shop", "/metrics", "/v1/openapi.json"]
    {
        said.push(api.ask(Some("root"), "GET", path, "").text());
    }
    load.stop().assert_nothing_lost();
    let second = server.stop();
    assert!(!first.stderr.is_empty() && !second.stderr.is_empty(), "the servers were not asked to say much");
    for end in [first, second] {
        said.push(end.stderr);
        said.extend(end.events.iter().map(ToString::to_string));
    }
    let mut files = Vec::new();
    contents(&api.site.place().state(), &mut files);
    assert!(files.iter().any(|(name, _)| name.ends_with("serin.db")), "{:?}", files.iter().map(|(name, _)| name).collect::<Vec<_>>());

    let tokens = ["ann", "ci", "root", "alerts"].map(|name| api.token(name));
    let secrets = tokens.iter().map(String::as_str).chain([OF_VARIABLE, OF_FILE, WRONG]);
    for secret in secrets {
        for text in &said {
            assert!(!text.contains(secret), "{secret} was said:\n{text}");
        }
        for (name, bytes) in &files {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret} is in {name}");
        }
    }
    processes::assert_none_left(api.site.place().path());
}

/// Every file below a folder.
fn contents(folder: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            contents(&entry.path(), into);
        } else if kind.is_file() {
            into.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap()));
        }
    }
}
