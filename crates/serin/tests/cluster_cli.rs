//! `kubectl serin` against a real cluster, as people with few rights use it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod cluster;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use cluster::{SERIN, Shop};
use serde_json::{Value, json};
use serin_testkit::cluster::access;

const RELEASES: &str = "serin.dev/v1alpha1";

/// What somebody needs who looks at releases and acts on them.
const OPERATOR: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: release-operator, namespace: shop}
rules:
- {apiGroups: [serin.dev], resources: [releases], verbs: [get, list, watch, patch]}
- {apiGroups: [apps], resources: [deployments], verbs: [get]}
- {apiGroups: [''], resources: [services], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: release-operator, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: release-operator}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: alice}]
";

/// Somebody with the plugin in the search path.
struct Person {
    kubeconfig: PathBuf,
    plugin: PathBuf,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Person {
    fn new(shop: &Shop, user: &str) -> Self {
        let plugin = shop.cluster.path().join("kubectl-serin");
        if !plugin.exists() {
            std::os::unix::fs::symlink(SERIN, &plugin).unwrap();
        }
        Self { kubeconfig: shop.cluster.kubeconfig(user), plugin }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.plugin);
        command.args(["-n", "shop"]).args(args).env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null());
        command
    }

    fn say(&self, args: &[&str]) -> Said {
        said(&self.command(args).output().unwrap())
    }

    /// With the exit code that is expected; the data.
    #[track_caller]
    fn json(&self, code: i32, args: &[&str]) -> Value {
        let said = self.say(&[&["-o", "json"], args].concat());
        assert_eq!(said.code, code, "{args:?}: {}{}", said.out, said.err);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out))
    }

    #[track_caller]
    fn text(&self, code: i32, args: &[&str]) -> Said {
        let said = self.say(args);
        assert_eq!(said.code, code, "{args:?}: {}{}", said.out, said.err);
        said
    }
}

fn said(output: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

#[test]
fn people_act_on_releases_with_their_own_rights_and_names() {
    let Some(shop) = Shop::open("people_act_on_releases_with_their_own_rights_and_names") else { return };
    shop.cluster.apply(OPERATOR);
    let (alice, bob) = (Person::new(&shop, access::ALICE), Person::new(&shop, access::BOB));
    alice.text(2, &["status", "shop"]);
    shop.release("{weight: 20, hold: 60s}, {weight: 50, hold: 60s}", "");

    // Nobody answers: what raises is withdrawn, what takes back stays for the next controller.
    let unanswered = alice.text(1, &["promote", "shop", "--timeout", "300ms"]);
    assert!(unanswered.err.contains("withdrawn") && unanswered.err.contains("serin controller"), "{}", unanswered.err);
    let command = |shop: &Shop| shop.get(RELEASES, "Release", "shop")["metadata"]["annotations"]["serin.dev/command"].clone();
    assert!(command(&shop).is_null());
    alice.text(1, &["abort", "shop", "--timeout", "300ms"]);
    assert!(command(&shop).as_str().unwrap().contains("abort"));
    assert_eq!(alice.json(0, &["get", "shop"])["state"], "starting");

    // Where nothing is under way there is an answer as well.
    shop.controller();
    shop.until("the abort to be answered", |shop| (shop.status()["lastCommand"]["accepted"] == false).then_some(()));
    let refused = alice.json(3, &["pause", "shop"]);
    assert!(refused["error"]["message"].as_str().unwrap().contains("no release is under way: Idle"), "{refused}");
    let refused = alice.text(3, &["retry", "shop"]);
    assert!(refused.err.contains("nothing to release") && refused.out.is_empty(), "{}", refused.err);
    assert_eq!(alice.json(0, &["status", "shop"])["state"], "serving");

    shop.new_version("v2");
    shop.until("the first stage", |shop| (shop.canary_weight() == (2_000, 2)).then_some(()));
    let shown = alice.text(0, &["status", "shop"]).out;
    assert!(shown.contains("stage 1 of 2") && shown.contains("canary 20 %") && shown.contains("HTTPRoute shop/shop"), "{shown}");
    assert!(alice.text(0, &["list"]).out.contains("in a stage"));
    let accepted = alice.json(0, &["pause", "shop", "--reason", "lunch"]);
    assert_eq!(accepted, json!({"service": "shop", "action": "pause", "by": "alice"}));
    let paused = alice.json(5, &["status", "shop"]);
    assert_eq!((&paused["release"]["paused"], &paused["release"]["wait"]["operator"]), (&json!(true), &json!(true)), "{paused:#}");
    alice.text(0, &["weight", "shop", "35"]);
    shop.until("the weight by hand", |shop| (shop.canary_weight().0 == 3_500).then_some(()));
    assert!(alice.text(0, &["explain", "shop"]).out.contains("kubectl serin resume shop"));
    // Both names of the program, and the same words.
    let mut other = Command::new(SERIN);
    other.args(["kubectl", "resume", "shop", "--namespace=shop", "--kubeconfig"]).arg(&alice.kubeconfig).env_remove("KUBECONFIG");
    assert_eq!(said(&other.output().unwrap()).code, 0);
    shop.until("the plan's weight", |shop| (shop.canary_weight().0 == 2_000).then_some(()));
    assert!(alice.text(3, &["approve", "shop"]).err.contains("approval"));

    // Who may not, may not.
    let forbidden = bob.json(2, &["abort", "shop"]);
    assert_eq!(forbidden["error"]["code"], "forbidden", "{forbidden}");
    assert_eq!(bob.text(2, &["get"]).out, "");
    assert_eq!(bob.text(2, &["watch"]).out, "");

    alice.text(0, &["abort", "shop", "--reason", "wrong build"]);
    shop.until_phase("RolledBack");
    let ended = alice.json(4, &["status", "shop"]);
    assert_eq!(ended["last"]["end"]["result"], "rolled-back", "{ended:#}");
    let history = alice.text(0, &["history", "shop"]).out;
    assert!(history.contains("rolled back") && history.contains("alice") && history.contains("wrong build"), "{history}");
    alice.text(0, &["retry", "shop"]);
    shop.until("the second run", |shop| (shop.status()["run"] == 2 && shop.canary_weight().0 == 2_000).then_some(()));
    let runs = alice.text(0, &["history", "shop", "--list"]).out;
    assert!(runs.lines().count() == 2 && runs.contains("run 2 · not ended") && runs.contains("run 1 · rolled back"), "{runs}");

    // Kubernetes has seen who it was.
    let (entries, _) = shop.cluster.audit(0);
    let commands = entries.iter().filter(|entry| entry.user == "alice" && entry.verb == "patch" && entry.resource == "releases");
    assert!(commands.clone().count() >= 6 && commands.clone().all(|entry| entry.code == 200), "{:#?}", commands.collect::<Vec<_>>());
    assert!(
        entries.iter().all(|entry| entry.user != "bob" || !entry.is_write() || entry.code == 403 || entry.resource.contains("selfsubject"))
    );
}

#[test]
fn a_pipeline_waits_for_the_version_that_it_has_just_set() {
    let Some(shop) = Shop::open("a_pipeline_waits_for_the_version_that_it_has_just_set") else { return };
    let pipeline = Person::new(&shop, access::ADMIN);
    shop.release("{weight: 50, hold: 1s, maxHold: 1s, minRequests: 1}", "");
    let first = shop.controller();
    shop.until_phase("Idle");
    shop.new_version("v2");
    // At once: what the status says is still about the version before.
    let waited = pipeline.text(0, &["status", "shop", "--wait"]);
    assert_eq!(shop.status()["phase"], "Succeeded");
    assert!(waited.out.contains("stage 1"), "{}", waited.out);
    let image = &shop.get("apps/v1", "Deployment", "shop")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "registry.example/sample-app:v2");

    // A success of yesterday is no success of a version that nobody has looked at, and a version that never serves is none either.
    shop.terminate(first);
    shop.change_canary(|container| container["image"] = json!("registry.example/missing:v3"));
    assert_eq!(pipeline.json(0, &["get", "shop"])["state"], "starting");
    let waiting =
        pipeline.command(&["status", "shop", "--wait", "-o", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shop.controller();
    let waited = said(&waiting.wait_with_output().unwrap());
    assert_eq!(waited.code, 4, "{}{}", waited.out, waited.err);
    let heads: Vec<String> = waited.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["head"].to_string()).collect();
    assert!(heads.iter().any(|head| head.contains("rollback")), "{heads:?}");
}

#[test]
fn a_plan_shows_every_field_and_touches_nothing() {
    let Some(shop) = Shop::open("a_plan_shows_every_field_and_touches_nothing") else { return };
    shop.cluster.apply(OPERATOR);
    // To try a change is to be allowed to make it.
    shop.cluster.apply(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: planner, namespace: shop}
rules:
- {apiGroups: [apps], resources: [deployments], verbs: [get, patch]}
- {apiGroups: [gateway.networking.k8s.io], resources: [httproutes], verbs: [get, patch]}
- {apiGroups: [serin.dev], resources: [releases], verbs: [get, patch, create]}
- {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [list, patch]}
- {apiGroups: [keda.sh], resources: [scaledobjects], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: planner, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: planner}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: alice}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: shop, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: shop}
  minReplicas: 1
  maxReplicas: 5
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]
",
    );
    let alice = Person::new(&shop, access::ALICE);
    shop.new_version("v2");
    let document = |weights: [u32; 2]| {
        format!(
            "
apiVersion: serin.dev/v1alpha1
kind: Release
metadata: {{name: shop, namespace: shop}}
spec:
  workload: {{kubernetes: {{stable: {{deployment: shop}}, canary: {{deployment: shop-canary, replicas: 1}}}}}}
  traffic: {{gatewayApi: {{route: shop, stableService: shop, canaryService: shop-canary, match: [{{header: {{x-canary: 'true'}}}}]}}}}
  strategy: {{canary: {{stages: [{{weight: {}, hold: 60s}}, {{weight: {}, hold: 60s}}], bake: 60s}}}}
  analysis: {{onNoData: continue, onInconclusive: advance}}
",
            weights[0], weights[1]
        )
    };
    let file = shop.cluster.path().join("release.yaml");
    std::fs::write(&file, document([20, 50])).unwrap();
    let file = file.to_str().unwrap();
    let objects = [
        ("apps/v1", "Deployment", "shop"),
        ("apps/v1", "Deployment", "shop-canary"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "shop"),
    ];
    let versions = |shop: &Shop| objects.map(|(version, kind, name)| shop.get(version, kind, name)["metadata"]["generation"].clone());
    let (before, (_, line)) = (versions(&shop), shop.cluster.audit(0));

    let planned = alice.json(0, &["plan", "-f", file]);
    assert_eq!(planned["possible"], true, "{planned:#}");
    let names: Vec<&str> = planned["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names[..4], ["deploy the canary at 0 %", "stage at 20 %", "stage at 50 %", "promote"]);
    let mut fields = std::collections::BTreeMap::new();
    for (step, changes) in planned["steps"].as_array().unwrap().iter().zip(0..).map(|(step, number)| (number, &step["changes"])) {
        for change in changes.as_array().unwrap() {
            assert_eq!(change["server"], "accepts", "{change:#}");
            for field in change["fields"].as_array().unwrap() {
                let at = format!("{step} {} {}", change["object"].as_str().unwrap(), field["path"].as_str().unwrap());
                fields.insert(at, (field["before"].clone(), field["after"].clone()));
            }
        }
    }
    let is = |at: &str, before: Value, after: Value| assert_eq!(fields.get(at), Some(&(before, after)), "{at} in {fields:#?}");
    is("0 Deployment shop/shop-canary spec.replicas", json!(0), json!(1));
    is("0 HorizontalPodAutoscaler shop/shop spec.minReplicas", json!(1), json!(2));
    is("1 HTTPRoute shop/shop spec.rules[1].backendRefs[shop].weight", json!(1), json!(8_000));
    is("2 HTTPRoute shop/shop spec.rules[1].backendRefs[shop].weight", json!(8_000), json!(5_000));
    is("2 HTTPRoute shop/shop spec.rules[1].backendRefs[shop-canary].weight", json!(2_000), json!(5_000));
    // All traffic needs as many as stable has.
    is("3 Deployment shop/shop-canary spec.replicas", json!(1), json!(2));
    let image = |version: &str| json!(format!("registry.example/sample-app:{version}"));
    is("5 Deployment shop/shop spec.template.spec.containers[app].image", image("v1"), image("v2"));
    is("5 Deployment shop/shop-canary spec.replicas", json!(2), json!(0));
    is("5 HorizontalPodAutoscaler shop/shop spec.minReplicas", json!(2), json!(1));
    assert!(
        fields.keys().all(|at| !at.contains("shop/shop spec.selector") && !at.contains("shop/shop spec.template.metadata.labels")),
        "{fields:#?}"
    );
    let back = planned["rollback"].as_array().unwrap();
    assert!(
        back.iter().flat_map(|one| one["fields"].as_array().unwrap()).any(|one| one["path"] == "spec.replicas" && one["after"] == 0),
        "{back:#?}"
    );
    let shown = alice.text(0, &["plan", "-f", file]).out;
    assert!(shown.contains("spec.rules[1].backendRefs[shop].weight: 8000 → 5000"), "{shown}");

    // Nothing was touched: every write was a try, and no object is another one.
    let (entries, next) = shop.cluster.audit(line);
    let writes = |entries: &[serin_testkit::cluster::AuditEntry]| {
        entries
            .iter()
            .filter(|one| one.user == "alice" && one.is_write())
            .map(|one| (one.resource.clone(), one.is_dry_run))
            .collect::<Vec<_>>()
    };
    let tried = writes(&entries);
    for resource in ["releases", "httproutes", "deployments"] {
        assert!(tried.contains(&(resource.to_owned(), true)), "{tried:?} {:#}", planned["checks"]);
    }
    assert!(tried.iter().all(|(_, is_dry_run)| *is_dry_run), "{tried:?}");
    assert_eq!(versions(&shop), before);
    assert!(shop.get(RELEASES, "Release", "shop").is_null());

    // What stands against it is said, with another exit code: a document that falls, an object that is missing, a server that refuses.
    std::fs::write(file, document([50, 20])).unwrap();
    assert!(alice.text(2, &["plan", "-f", file]).err.contains("weight"));
    std::fs::write(file, document([20, 50])).unwrap();
    shop.cluster.apply(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-half}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [gateway.networking.k8s.io], apiVersions: [v1], operations: [UPDATE], resources: [httproutes]}]}
  validations: [{expression: '!object.spec.rules.exists(rule, rule.backendRefs.exists(one, one.weight == 5000))', message: no halves here}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-half}
spec: {policyName: no-half, validationActions: [Deny]}
",
    );
    shop.until("the policy to be in force", |_| alice.say(&["plan", "-f", file]).out.contains("WOULD REFUSE").then_some(()));
    let refused = alice.text(3, &["plan", "-f", file]).out;
    assert!(refused.contains("no halves here"), "{refused}");
    shop.cluster.delete("v1", "Service", "shop", "shop-canary");
    let failed = alice.json(3, &["plan", "-f", file]);
    assert!(failed["checks"].as_array().unwrap().iter().any(|one| one["status"] == "fail" && one["name"] == "service"), "{failed:#}");
    let (entries, _) = shop.cluster.audit(next);
    assert!(writes(&entries).iter().all(|(_, is_dry_run)| *is_dry_run));
    assert_eq!(versions(&shop), before);
    // What is missing is said once, by its name.
    shop.cluster.delete("apps/v1", "Deployment", "shop", "shop");
    let failed = alice.json(3, &["plan", "-f", file]);
    let about = failed["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["detail"].as_str().unwrap_or_default().contains("Deployment shop/shop"));
    assert_eq!(about.count(), 1, "{failed:#}");
}

#[test]
fn every_example_could_be_released_as_it_stands() {
    let Some(shop) = Shop::open("every_example_could_be_released_as_it_stands") else { return };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let read = |file: &str| std::fs::read_to_string(examples.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    shop.cluster.namespace("checkout");
    shop.cluster.apply(&read("kubernetes/checkout.yaml"));
    shop.cluster.wait_available("checkout", "checkout");
    let mut canary = shop.cluster.get("apps/v1", "Deployment", "checkout", "checkout-canary").unwrap()["spec"]["template"]["spec"].clone();
    canary["containers"][0]["image"] = json!("registry.example/sample-app:v2");
    shop.cluster.patch(("apps/v1", "Deployment"), "checkout", "checkout-canary", &json!({"spec": {"template": {"spec": canary}}}));
    for (router, changed) in [
        ("gateway-api", "HTTPRoute checkout/checkout"),
        ("istio", "VirtualService checkout/checkout"),
        ("ingress-nginx", "Ingress checkout/checkout-canary"),
        ("service", "Service checkout/checkout-clients"),
        ("replicas", "Service checkout/checkout-clients"),
        ("traefik", "TraefikService checkout/checkout"),
    ] {
        shop.cluster.apply(&read(&format!("kubernetes-{router}/router.yaml")));
        let file = examples.join(format!("kubernetes-{router}/release.yaml"));
        // Its own namespace says where it is.
        let mut command = Command::new(SERIN);
        command.args(["--output", "json", "kubectl", "plan", "-f"]).arg(&file).env("KUBECONFIG", shop.cluster.kubeconfig(access::ADMIN));
        let said = said(&command.output().unwrap());
        assert_eq!(said.code, 0, "{router}: {}{}", said.out, said.err);
        let planned: Value = serde_json::from_str(&said.out).unwrap();
        let checks = planned["checks"].as_array().unwrap();
        assert!(checks.iter().all(|one| one["status"] == "pass"), "{router}: {checks:#?}");
        let changes: Vec<&Value> =
            planned["steps"].as_array().unwrap().iter().flat_map(|step| step["changes"].as_array().unwrap()).collect();
        assert!(changes.iter().all(|one| one["server"] == "accepts"), "{router}: {changes:#?}");
        // Each stage that gives another share, the promotion unless the canary has everything by then, and the end.
        let of_router = changes.iter().filter(|one| one["object"] == changed).count();
        assert!(of_router >= 2, "{router}: {changes:#?}");
        assert!(planned["rollback"].as_array().unwrap().iter().any(|one| one["object"] == changed), "{router}: {planned:#}");
    }
}
