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

/// Kinds of a cluster that run pods and cannot be released as Deployments are: why, and what to do instead.
const KINDS: [(&str, &str, &str); 4] = [
    (
        "statefulSet",
        "its pods have identities and volumes that a second one cannot share, and cannot have replicas of two versions beside each other",
        "put a pair of Deployments in front of the state, or roll it out with its own `updateStrategy.rollingUpdate.partition`",
    ),
    (
        "daemonSet",
        "it has one pod on each node, so that there is no canary to scale beside it",
        "roll it out node by node with its own `updateStrategy`, or run what takes requests as a Deployment",
    ),
    ("job", "it runs once and takes no requests, so that there is no traffic to split", "release the Deployment that takes the requests"),
    ("cronJob", "it takes no requests, so that there is no traffic to split", "release the Deployment that takes the requests"),
];

/// Where one could write them.
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
    if let Some((_, why, instead)) = kind(&path.pattern(), name) {
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

fn kind(place: &str, name: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    KINDS.iter().find(|(kind, ..)| *kind == name && OF_KINDS.contains(&place))
}
