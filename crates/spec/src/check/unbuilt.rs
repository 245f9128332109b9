//! Names that are reserved for what Serin will have, and those of things that people try and that cannot be. They are not in the schema, so that
//! nobody writes documents against a promise; using one is an error that says so instead of "unknown field".

use crate::{
    Diagnostic,
    diagnostic::list,
    tree::{Path, Span},
};

/// Reserved fields by the place they belong to.
const FIELDS: [(&str, &[&str]); 4] = [
    ("spec", &["preflight", "hooks", "notify"]),
    ("spec.workload", &["cloudRun"]),
    ("spec.traffic", &["nginx", "haproxy", "envoy", "cloudRun", "dns"]),
    ("spec.strategy", &["hybrid"]),
];

/// Kinds of a cluster that run pods and cannot be released as Deployments are: why, what to do instead, and where one could write them.
const KINDS: [(&str, &str, &str, &[&str]); 4] = [
    (
        "statefulSet",
        "its pods have identities and volumes that others cannot share, so that Serin makes no canary of it by itself",
        "give a pair: `stable: {statefulSet: NAME}` and `canary: {statefulSet: NAME}`, with volumes of its own",
        &ALONE,
    ),
    (
        "daemonSet",
        "it has one pod on each node and cannot be scaled to zero, so that Serin makes no canary of it by itself",
        "give a pair: `stable: {daemonSet: NAME}` and a `canary`, which may be another DaemonSet or a Deployment",
        &ALONE,
    ),
    (
        "job",
        "it runs once and takes no requests, so that there is no traffic to split",
        "release the Deployment that takes the requests",
        &OF_KINDS,
    ),
    ("cronJob", "it takes no requests, so that there is no traffic to split", "release the Deployment that takes the requests", &OF_KINDS),
];

const ALONE: [&str; 1] = ["spec.workload.kubernetes"];
const OF_KINDS: [&str; 3] = ["spec.workload.kubernetes", "spec.workload.kubernetes.stable", "spec.workload.kubernetes.canary"];

/// Where a reserved field has alternatives that are built.
const UNIONS: [&str; 3] = ["workload.", "traffic.", "strategy."];

/// A use of something that is not built yet, or will never be.
pub(super) struct Unbuilt {
    code: &'static str,
    message: String,
    /// What to do, where that is more than to leave it out.
    help: Option<String>,
    /// What there is instead.
    built: Option<String>,
}

impl Unbuilt {
    pub(super) fn diagnostic(self, place: Span) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.code, place, self.message);
        match (self.built, self.help) {
            (_, Some(help)) => diagnostic.expected("`deployment`").help(help),
            (Some(built), None) => diagnostic.expected(format!("what this version has: {built}")),
            (None, None) => diagnostic.help("leave it out for now"),
        }
    }
}

/// Whether a field is reserved at that place.
pub(super) fn is_reserved(path: &Path, name: &str) -> bool {
    let place = path.pattern();
    kind(&place, name).is_some() || FIELDS.iter().any(|(at, names)| *at == place && names.contains(&name))
}

/// What to say about a reserved field.
pub(super) fn field(path: &Path, name: &str, built: &[&str]) -> Option<Unbuilt> {
    if !is_reserved(path, name) {
        return None;
    }
    if let Some((_, why, instead, _)) = kind(&path.pattern(), name) {
        let message = format!("`{name}` cannot be released: {why}");
        return Some(Unbuilt { code: "not-for-this-kind", message, help: Some((*instead).to_owned()), built: None });
    }
    let place = path.key(name).pattern();
    let place = place.strip_prefix("spec.").unwrap_or(&place);
    let instead = match place {
        place if UNIONS.iter().any(|union| place.starts_with(union)) => Some(list(built.iter().copied(), "and")),
        _ => None,
    };
    Some(Unbuilt { code: "not-built", message: format!("`{place}` is not built yet"), help: None, built: instead })
}

fn kind(place: &str, name: &str) -> Option<&'static (&'static str, &'static str, &'static str, &'static [&'static str])> {
    KINDS.iter().find(|(kind, .., places)| *kind == name && places.contains(&place))
}
