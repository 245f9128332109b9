//! `serin check` and `serin plan`: everything that can be known beforehand is said, and nothing is touched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{collections::BTreeMap, fs, net::TcpListener, path::Path, time::SystemTime};

use serin_testkit::prompt::Prompt;

fn prompt() -> Prompt {
    Prompt::new(env!("CARGO_BIN_EXE_serin"))
}

/// A document with these two commands and whatever belongs to the canary beside its command.
fn document(listen: &str, stable: &str, canary: &str) -> String {
    format!(
        "apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: checked}}
spec:
  workload:
    processes:
      stable: {{{stable}, ready: {{path: /ready}}}}
      canary: {{{canary}, ready: {{path: /ready}}}}
  traffic:
    embedded: {{listen: \"{listen}\"}}
  strategy:
    canary:
      stages:
        - {{weight: 5, hold: 10m, minRequests: 500}}
        - {{weight: 50, hold: 10m, gate: manual}}
      bake: 5m
  analysis:
    criteria:
      - {{metric: error-rate, max: 5%}}
"
    )
}

const SAMPLE: &str = "command: [\"{{serin}}\", sample-app, \"--port={{port}}\"]";

/// An address that nobody listens on; nothing is started there.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Text with everything that differs from machine to machine replaced.
fn normal(text: &str, prompt: &Prompt, address: &str) -> String {
    let folder = prompt.folder().canonicalize().unwrap();
    let text =
        text.replace(&*folder.to_string_lossy(), "DIR").replace(&*prompt.folder().to_string_lossy(), "DIR").replace(address, "ADDRESS");
    let lines = text.lines().map(|line| match line {
        line if line.starts_with("  ok   open files") => "  ok   open files           …",
        line if line.starts_with("  ok   disk space") => "  ok   disk space           …",
        line => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Checks a document and compares what is said.
#[track_caller]
fn check(document: &str, address: &str, code: i32, expected: &str) {
    let prompt = prompt();
    prompt.write("release.yaml", document);
    let finished = prompt.run(&["check", "release.yaml"]).expect_code(code);
    assert_eq!(finished.stderr, "");
    assert_eq!(normal(finished.stdout.trim_end(), &prompt, address), expected.trim_matches('\n'));
    assert!(!prompt.folder().join(".serin").exists(), "check made a state folder");

    let data = prompt.run(&["check", "release.yaml", "--output", "json"]).expect_code(code).json();
    assert_eq!((&data["valid"], &data["ready"]), (&true.into(), &(code == 0).into()), "{data}");
    let words: Vec<_> = data["checks"].as_array().unwrap().iter().map(|check| check["status"].as_str().unwrap()).collect();
    assert_eq!(words.contains(&"fail"), code != 0, "{data}");
}

#[test]
fn a_machine_that_is_ready() {
    let address = free_address();
    let expected = "
release.yaml is valid, and this machine is ready for it
  ok   listen address       ADDRESS is free
  ok   open files           …
  ok   disk space           …
  ok   stable command       {{serin}} found
  ok   canary command       {{serin}} found";
    check(&document(&address, SAMPLE, SAMPLE), &address, 0, expected);
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let expected = "
release.yaml is valid, but this machine is not ready for it
  FAIL listen address       cannot listen on ADDRESS: Address already in use (os error 98)
                            hint: stop what uses the address (`ss -ltnp` shows it) or change traffic.embedded.listen
  ok   open files           …
  ok   disk space           …
  ok   stable command       {{serin}} found
  ok   canary command       {{serin}} found";
    check(&document(&address, SAMPLE, SAMPLE), &address, 3, expected);
}

#[test]
fn commands_that_are_not_there() {
    let address = free_address();
    let expected = "
release.yaml is valid, but this machine is not ready for it
  ok   listen address       ADDRESS is free
  ok   open files           …
  ok   disk space           …
  FAIL stable command       no-such-program-here is not in PATH
                            hint: install it or correct workload.processes.stable.command
  FAIL canary command       DIR/./no-such-file: No such file or directory (os error 2)
                            hint: install it or correct workload.processes.canary.command";
    check(&document(&address, "command: [no-such-program-here]", "command: [./no-such-file]"), &address, 3, expected);
}

#[test]
fn references_that_lead_nowhere() {
    let address = free_address();
    let canary = format!("{SAMPLE}, env: {{TOKEN: {{env: SERIN_TEST_NO_SUCH_VARIABLE}}, KEY: {{file: ./no-such-key}}, MODE: plain}}");
    let expected = "
release.yaml is valid, but this machine is not ready for it
  ok   listen address       ADDRESS is free
  ok   open files           …
  ok   disk space           …
  ok   stable command       {{serin}} found
  ok   canary command       {{serin}} found
  FAIL canary environment   KEY refers to DIR/./no-such-key: No such file or directory (os error 2); TOKEN refers to SERIN_TEST_NO_SUCH_VARIABLE, which is not set
                            hint: set what is missing or correct workload.processes.canary.env";
    check(&document(&address, SAMPLE, &canary), &address, 3, expected);
}

#[test]
fn a_working_directory_that_is_not_there() {
    let address = free_address();
    let expected = "
release.yaml is valid, but this machine is not ready for it
  ok   listen address       ADDRESS is free
  ok   open files           …
  ok   disk space           …
  ok   stable command       {{serin}} found
  FAIL canary command       the working directory DIR/nowhere does not exist
                            hint: create it or correct workload.processes.canary.workingDir";
    check(&document(&address, SAMPLE, &format!("{SAMPLE}, workingDir: nowhere")), &address, 3, expected);
}

#[test]
fn a_document_that_is_wrong() {
    let prompt = prompt();
    prompt.write("release.yaml", &document("127.0.0.1:8080", SAMPLE, SAMPLE).replace("hold: 10m, gate", "holt: 10m, gate"));
    for verb in ["check", "plan", "run"] {
        let finished = prompt.run(&[verb, "release.yaml"]).expect_code(2);
        assert_eq!(finished.stdout, "", "{verb}");
        assert!(finished.stderr.contains("release.yaml:15:"), "{verb} names no place: {}", finished.stderr);
        assert!(finished.stderr.contains("`holt`") && finished.stderr.contains("`hold`"), "{verb} has no suggestion: {}", finished.stderr);
        let data = prompt.run(&[verb, "release.yaml", "--output", "json"]).expect_code(2).json();
        assert!(data["diagnostics"].to_string().contains("holt"), "{verb}: {data}");
    }
    let _ = prompt.run(&["check", "no-such-file.yaml"]).expect_code(2);
    assert_eq!(names(prompt.folder()), ["release.yaml"]);
}

#[test]
fn traffic_that_cannot_decide_is_a_warning() {
    let prompt = prompt();
    let address = free_address();
    let expecting =
        |rps: u32| document(&address, SAMPLE, SAMPLE).replace("    criteria:", &format!("    expect: {{rps: {rps}}}\n    criteria:"));
    prompt.write("release.yaml", &expecting(2));
    let finished = prompt.run(&["check", "release.yaml"]).expect_code(0);
    assert_eq!(finished.stderr, "");
    for text in [
        "release.yaml is valid, and this machine is ready for it",
        "  warn forecast             the stage at 5 % waits for 500 canary requests, which take about 1h 23m; it is given up after 30m 00s",
        "hint: lower `minRequests`, or make the stage longer or heavier",
        "the stage at 5 % cannot show that a canary at half of the limit keeps error-rate: about ",
    ] {
        assert!(finished.stdout.contains(text), "no '{text}' in\n{}", finished.stdout);
    }
    let data = prompt.run(&["check", "release.yaml", "--output", "json"]).expect_code(0).json();
    assert!(data["checks"].as_array().unwrap().iter().any(|check| check["name"] == "forecast" && check["status"] == "warn"), "{data}");
    prompt.write("release.yaml", &expecting(1_000));
    let finished = prompt.run(&["check", "release.yaml"]).expect_code(0);
    assert!(!finished.stdout.contains("forecast"), "{}", finished.stdout);
}

#[test]
fn what_can_never_be_decided_is_refused_by_every_verb_that_reads_documents() {
    let prompt = prompt();
    let whole = document("127.0.0.1:8080", SAMPLE, SAMPLE)
        .replace("        - {weight: 5, hold: 10m, minRequests: 500}\n", "")
        .replace("weight: 50", "weight: 100")
        .replace("max: 5%", "versusStable: {ratio: 1.5}");
    prompt.write("release.yaml", &whole);
    for verb in ["check", "plan", "run"] {
        let finished = prompt.run(&[verb, "release.yaml"]).expect_code(2);
        assert!(finished.stderr.contains("the criterion `error-rate` can never be decided"), "{verb}: {}", finished.stderr);
        assert!(finished.stderr.contains("release.yaml:18:"), "{verb} names no place: {}", finished.stderr);
        let data = prompt.run(&[verb, "release.yaml", "--output", "json"]).expect_code(2).json();
        assert_eq!(data["diagnostics"]["diagnostics"][0]["code"], "undecidable", "{verb}: {data}");
    }
    prompt.write("release.yaml", &whole.replace("versusStable: {ratio: 1.5}", "max: 5%, versusStable: {ratio: 1.5}"));
    let _ = prompt.run(&["plan", "release.yaml"]).expect_code(0);
}

#[test]
fn a_document_from_standard_input() {
    let prompt = prompt();
    let address = free_address();
    let finished = prompt.run_with_input(&["check", "-"], &document(&address, SAMPLE, SAMPLE)).expect_code(0);
    assert!(finished.stdout.starts_with("<stdin> is valid"), "{}", finished.stdout);
}

#[test]
fn a_plan_lists_every_step_and_touches_nothing() {
    let prompt = prompt();
    let address = free_address();
    let with_load = "  load: {command: [\"{{serin}}\", load, \"{{url}}\", --rps=20]}\n  traffic:";
    prompt.write("release.yaml", &document(&address, SAMPLE, SAMPLE).replace("  traffic:", &format!("    {with_load}")));
    // A state folder with something in it, to see that it is left alone as well.
    prompt.write(".serin/serin.db", "not a database");
    let before = Machine::now(&prompt);
    let text = prompt.run(&["plan", "release.yaml"]).expect_code(0);
    let data = prompt.run(&["plan", "release.yaml", "--output", "json"]).expect_code(0);
    assert_eq!(Machine::now(&prompt), before);
    assert_eq!((text.stderr.as_str(), data.stderr.as_str()), ("", ""));
    let expected = "
checked  (document HASH, release.yaml)
about 25m 00s if nothing holds it up; nothing is changed by this command

  1  preflight
       checks the machine, stable and the proxy; a failed check ends the release here
       starts stable: 1 × {{serin}} sample-app --port={{port}}
       starts the proxy on ADDRESS
       then sends traffic: {{serin}} load {{url}} --rps=20
  2  deploy the canary at 0 %
       starts 1 × {{serin}} sample-app --port={{port}}
       ready within 35 s, else rollback
  3  stage at 5 %
       proxy: canary 5 %, stable 95 %
       holds 10m 00s from the proof of the weight, at least 500 compared requests; undecided after 30m 00s → policy
  4  stage at 50 %
       proxy: canary 50 %, stable 50 %
       holds 10m 00s from the proof of the weight, at least 1,000 compared requests; undecided after 30m 00s → policy
       then waits for `serin approve` or `serin reject`
  5  promote
       proxy: canary 100 %; stable stays warm
  6  bake for 5m 00s
       still measured; one breach and stable serves again
  7  finish
       drains and stops the old version

judged all the time (sequential, alpha 1 %, beta 5 %):
  error-rate: error-rate at most 5 % → rollback
  outage (guard): error-rate at most 5 %, by evidence → rollback at once
  a canary that crash-loops, never gets ready or does not respond → rollback
on rollback: all traffic to stable first, then the canary is drained and stopped

what the expected traffic can decide (rough: half or twice the time is common):
  add analysis.expect.rps to see times
  stage at 5 %, held 10m 00s and at most 30m 00s:
    error-rate, at most 5 %: 10 % about 340 requests; 20 % about 50 requests; an outage 3 failures; a canary at half of the limit passes: about 510 requests; a clean canary passes: about 89 requests
    outage (guard), at most 5 %: 10 % about 340 requests; 20 % about 50 requests; an outage 3 failures
  stage at 50 %, held 10m 00s and at most 30m 00s: the same
  bake at 100 %, held 5m 00s and at most 15m 00s: the same";
    let hash = data.json()["document_hash"].as_str().unwrap().to_owned();
    assert_eq!(normal(text.stdout.trim_end(), &prompt, &address).replace(&hash, "HASH"), expected.trim_matches('\n'));
    let steps = data.json()["steps"].as_array().unwrap().clone();
    let listed: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap().to_owned()).collect();
    let expected = ["preflight", "deploy the canary at 0 %", "stage at 5 %", "stage at 50 %", "promote", "bake for 5m 00s", "finish"];
    assert_eq!(listed, expected);
}

/// What a command that touches nothing must leave as it is.
#[derive(Debug, PartialEq)]
struct Machine {
    files: BTreeMap<String, (u64, SystemTime)>,
    processes: Vec<String>,
    addresses: Vec<String>,
}

impl Machine {
    fn now(prompt: &Prompt) -> Self {
        let (mut files, mut folders) = (BTreeMap::new(), vec![prompt.folder().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    folders.push(entry.path());
                }
                files.insert(entry.path().display().to_string(), (metadata.len(), metadata.modified().unwrap()));
            }
        }
        Self { files, processes: processes_in(prompt.folder()), addresses: listeners_of_here(prompt.folder()) }
    }
}

/// Processes that work in the folder or name it: other tests start some of their own all the time.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    let text = folder.to_string_lossy().into_owned();
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let here = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&folder));
        let command = String::from_utf8_lossy(&command).into_owned();
        (here || command.contains(&text)).then_some(command)
    })
    .collect()
}

/// Unix sockets in the folder.
fn listeners_of_here(folder: &Path) -> Vec<String> {
    let folder = folder.canonicalize().unwrap();
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    table.lines().filter(|line| line.contains(&*folder.to_string_lossy())).map(str::to_owned).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_the_plan_says_is_free_stays_free() {
    let prompt = prompt();
    let address = free_address();
    prompt.write("release.yaml", &document(&address, SAMPLE, SAMPLE));
    for verb in ["plan", "check"] {
        let _ = prompt.run(&[verb, "release.yaml"]).expect_code(0);
        drop(TcpListener::bind(&address).unwrap_or_else(|error| panic!("{verb} left {address} bound: {error}")));
    }
}

#[test]
fn a_document_for_a_cluster_is_checked_and_not_run() {
    let prompt = prompt();
    let text = "apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {name: checkout}
spec:
  workload: {kubernetes: {stable: {deployment: a}, canary: {deployment: b}}}
  traffic: {gatewayApi: {route: a, stableService: a, canaryService: b}}
  strategy: {canary: {stages: [{weight: 5, hold: 10m}], bake: 5m}}
";
    fs::write(prompt.folder().join("release.yaml"), text).unwrap();
    let finished = prompt.run(&["check", "release.yaml"]).expect_code(0);
    assert!(finished.stdout.contains("for a cluster: `serin controller` runs it there"), "{finished:?}");
    assert!(finished.stderr.contains("nothing judges this release"), "{finished:?}");
    let finished = prompt.run_with_input(&["check", "-"], text).expect_code(0);
    assert!(finished.stdout.starts_with("<stdin> is valid, for a cluster"), "{finished:?}");
    let finished = prompt.run(&["run", "release.yaml"]).expect_code(2);
    assert!(finished.stderr.contains("`workload.kubernetes` is for a cluster"), "{finished:?}");
}
