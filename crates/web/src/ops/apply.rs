//! Release documents.

use std::path::{Path, PathBuf};

use serin_engine::{
    preflight::forecast,
    run::{Document, plain},
    serve::Applied,
};
use serin_spec::Diagnostics;

use crate::{
    answer::{Answer, json},
    intake::parse_some,
    model::{self, AppliedResult, Apply},
    pipeline::Call,
    problem::Problem,
};

/// What a document is called if nobody says.
const UNNAMED: &str = "release.yaml";
const LONGEST_DIR: usize = 4_096;

pub(super) async fn apply(call: &Call) -> Result<Answer, Problem> {
    let wish: Apply = parse_some(&call.body)?;
    let who = call.who(wish.reason.as_deref())?;
    let dry_run = wish.dry_run;
    let dir = directory(wish.dir.as_deref())?;
    let loaded = call.shared.aside(move |_| load(wish, dir).map(|loaded| (dry_run.then(|| forecast(&loaded.0.release.plan)), loaded)));
    let (expected, (document, warnings)) = loaded.await??;
    let service = document.release.name.clone();
    let warnings = serde_json::to_value(&warnings).unwrap_or_default();
    let server = call.shared.server.clone();
    let (applied, checks) = if let Some(expected) = expected {
        let (applied, mut checks) = call.shared.on_engine(async move { server.dry_run(document).await }).await??;
        checks.extend(expected);
        (applied, Some(checks))
    } else {
        (call.shared.on_engine(async move { server.apply(document, who).await }).await??, None)
    };
    let (result, supersedes, why) = match applied {
        Applied::Unchanged { why } => (AppliedResult::Unchanged, None, Some(why)),
        Applied::Supersedes { what } if dry_run => (AppliedResult::Checked, Some(what), None),
        Applied::Supersedes { what } => (AppliedResult::Supersedes, Some(what), None),
        _ if dry_run => (AppliedResult::Checked, None, None),
        Applied::Created => (AppliedResult::Created, None, None),
        Applied::Begun => (AppliedResult::Begun, None, None),
    };
    json(&model::Applied { service, result, supersedes, why, warnings, checks })
}

fn load(wish: Apply, dir: PathBuf) -> Result<(Document, Diagnostics), Problem> {
    let name = wish.name.map_or_else(|| UNNAMED.to_owned(), |name| plain(&name));
    let loaded = serin_spec::load(&name, &wish.document).map_err(|diagnostics| Problem::document(&diagnostics))?;
    let file = Path::new(&name).file_name();
    let origin = file.map_or_else(|| name.clone(), |file| dir.join(file).display().to_string());
    Ok((Document { name, origin, text: wish.document, dir, release: loaded.release }, loaded.warnings))
}

fn directory(dir: Option<&str>) -> Result<PathBuf, Problem> {
    let dir = Path::new(dir.unwrap_or("/"));
    let text = dir.to_str().unwrap_or_default();
    if !dir.is_absolute() || text.len() > LONGEST_DIR || text.chars().any(char::is_control) {
        return Err(Problem::invalid("dir must be an absolute path on the daemon's machine"));
    }
    Ok(dir.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_absolute() {
        assert_eq!(directory(None).unwrap(), Path::new("/"));
        assert_eq!(directory(Some("/srv/shop")).unwrap(), Path::new("/srv/shop"));
        for bad in ["", "shop", "./shop", "/a\0b", "/a\nb"] {
            assert!(directory(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
