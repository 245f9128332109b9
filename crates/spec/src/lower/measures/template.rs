//! Templates in questions: `{{arm}}`, `{{window}}`, `{{release}}`.

use crate::{
    check::nearest,
    diagnostic::{list, quote},
    lower::{Context, context::MINUTE},
    raw,
    tree::Path,
    validated::PerArm,
};

const KNOWN: [&str; 3] = ["{{arm}}", "{{window}}", "{{release}}"];
/// `{{window}}` is this many looks, as Prometheus recommends for rates, and at least a minute.
const WINDOW_INTERVALS: u64 = 4;

/// What the versions are called where they are measured.
#[derive(Debug, Clone)]
pub(super) struct Names {
    stable: String,
    canary: String,
}

/// What templates become.
#[derive(Debug, Clone)]
pub(super) struct Variables {
    names: Names,
    window: String,
    release: String,
}

impl Names {
    /// `others`: what they are called where this does not say it.
    pub(super) fn new(given: Option<&raw::Arms>, others: Option<&Self>, path: &Path, cx: &mut Context<'_>) -> Self {
        let mut name = |field: &str, given: Option<&String>, other: Option<&String>| {
            let name = given.or(other).map_or(field, String::as_str);
            if let Some(odd) = name.chars().find(|character| "\"'`\\{}".contains(*character) || character.is_control()) {
                let message = format!("{} cannot stand in a query: it has {}", quote(name), quote(&odd.escape_debug().to_string()));
                cx.push(cx.error(&path.key(field), "bad-name", message).expected("a name without quotes, braces and backslashes"));
            }
            name.to_owned()
        };
        let names = Self {
            stable: name("stable", given.and_then(|arms| arms.stable.as_ref()), others.map(|names| &names.stable)),
            canary: name("canary", given.and_then(|arms| arms.canary.as_ref()), others.map(|names| &names.canary)),
        };
        if names.stable == names.canary {
            let message = format!("both versions are called {}: nothing would tell them apart", quote(&names.stable));
            cx.push(cx.error(path, "duplicate-name", message).expected("two names"));
        }
        names
    }
}

impl Variables {
    pub(super) fn new(release: &str, interval_ms: u64, names: Names) -> Self {
        let window_ms = interval_ms.saturating_mul(WINDOW_INTERVALS).max(MINUTE);
        Self { names, window: format!("{}s", window_ms.div_ceil(1_000)), release: release.to_owned() }
    }

    /// With other names of the versions.
    pub(super) fn with(&self, given: &raw::Arms, path: &Path, cx: &mut Context<'_>) -> Self {
        Self { names: Names::new(Some(given), Some(&self.names), path, cx), ..self.clone() }
    }

    /// A text for each version; the same for both, and none for stable, where it does not tell them apart.
    pub(super) fn fill(&self, text: &str, path: &Path, cx: &mut Context<'_>) -> PerArm {
        let (mut stable, mut canary) = (String::new(), String::new());
        let (mut rest, mut has_arm) = (text, false);
        while let Some((before, after)) = rest.split_once("{{") {
            for out in [&mut stable, &mut canary] {
                out.push_str(before);
            }
            let Some((name, next)) = after.split_once("}}") else {
                let message = "a template begins with `{{` and does not end";
                cx.push(cx.error_within(path, "{{", "template", message).expected("`}}` after the template's name"));
                break;
            };
            let (of_stable, of_canary) = match name.trim() {
                "arm" => {
                    has_arm = true;
                    (self.names.stable.as_str(), self.names.canary.as_str())
                }
                "window" => (self.window.as_str(), self.window.as_str()),
                "release" => (self.release.as_str(), self.release.as_str()),
                unknown => {
                    let written = &rest[before.len()..rest.len() - next.len()];
                    let known = KNOWN.map(|known| known.trim_matches(['{', '}']));
                    let help = nearest(unknown, known).map(|meant| format!("did you mean {}?", quote(&format!("{{{{{meant}}}}}"))));
                    let message = format!("unknown template {}", quote(&format!("{{{{{unknown}}}}}")));
                    let diagnostic = cx.error_within(path, written, "template", message);
                    cx.push(diagnostic.expected(list(KNOWN, "or")).maybe_help(help));
                    ("", "")
                }
            };
            stable.push_str(of_stable);
            canary.push_str(of_canary);
            rest = next;
        }
        for out in [&mut stable, &mut canary] {
            out.push_str(rest);
        }
        PerArm { stable: has_arm.then_some(stable), canary }
    }
}
