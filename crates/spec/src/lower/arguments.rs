//! Commands with templates, and environments.

use std::collections::BTreeMap;

use super::Context;
use crate::{
    check::nearest,
    diagnostic::{list, quote},
    raw,
    tree::Path,
    validated::EnvValue,
};

/// Templates of a version's command.
pub(super) const ARM_TEMPLATES: [&str; 3] = ["port", "serin", "arm"];

/// Templates of the load command.
pub(super) const LOAD_TEMPLATES: [&str; 2] = ["serin", "url"];

/// Where each template works, for those that are used elsewhere.
const PLACES: [(&str, &str); 3] =
    [("port", "the commands of `stable` and `canary`"), ("arm", "the commands of `stable` and `canary`"), ("url", "the command of `load`")];

/// A command whose templates are all known and written without spaces.
pub(super) fn command(given: Vec<String>, templates: &[&str], path: &Path, cx: &mut Context<'_>) -> Vec<String> {
    let mut command = Vec::with_capacity(given.len());
    for (index, argument) in given.into_iter().enumerate() {
        let at = path.index(index);
        if index == 0 && argument.trim().is_empty() {
            cx.push(cx.error(&at, "empty-command", "the program has no name").expected("a program, such as `./checkout`"));
        }
        if index == 0 && argument.contains(' ') && !argument.contains('/') {
            let words: Vec<String> = argument.split_whitespace().map(|word| format!("{word:?}")).collect();
            cx.push(
                cx.warning(&at, "shell-command", format!("the program's name {} has spaces: no shell splits it", quote(&argument)))
                    .help(format!("if these are a program and its arguments, write `[{}]`", words.join(", "))),
            );
        }
        refuse_nul(&argument, &at, cx);
        command.push(normalised(&argument, templates, &at, cx));
    }
    command
}

/// An environment. Names are what an operating system allows; templates do not work here and are refused.
pub(super) fn environment(given: Option<BTreeMap<String, raw::EnvValue>>, path: &Path, cx: &mut Context<'_>) -> BTreeMap<String, EnvValue> {
    let mut environment = BTreeMap::new();
    for (name, value) in given.unwrap_or_default() {
        let at = path.key(&name);
        if name.is_empty() || name.contains(['=', '\0', ' ']) {
            let message = format!("a variable cannot be called {}", quote(&name));
            cx.push(cx.error_at_key(&at, "variable-name", message).expected("a name without `=` and spaces"));
        }
        if name == "PORT" {
            cx.push(cx.error_at_key(&at, "variable-name", "PORT is given by Serin: it is the replica's own port").help("leave it out"));
        }
        let value = match value {
            raw::EnvValue::Text(text) => {
                if let Some(used) = templates_of(&text).find(|used| [ARM_TEMPLATES.as_slice(), &LOAD_TEMPLATES].concat().contains(used)) {
                    let message = format!("the template {} does not work in `env`", quote(&format!("{{{{{used}}}}}")));
                    let help =
                        if used == "port" { "the program finds its port in the variable PORT" } else { "templates work in `command`" };
                    cx.push(cx.error(&at, "template", message).help(help));
                }
                refuse_nul(&text, &at, cx);
                EnvValue::Literal(text)
            }
            raw::EnvValue::Reference(raw::EnvReference { env: Some(variable), .. }) => EnvValue::Env(variable),
            raw::EnvValue::Reference(raw::EnvReference { file, .. }) => EnvValue::File(file.unwrap_or_default().into()),
        };
        environment.insert(name, value);
    }
    environment
}

fn refuse_nul(text: &str, path: &Path, cx: &mut Context<'_>) {
    if text.contains('\0') {
        cx.push(cx.error(path, "nul", "the text has a NUL character, which no program can be given"));
    }
}

/// The argument with `{{ port }}` written as `{{port}}`.
fn normalised(argument: &str, templates: &[&str], path: &Path, cx: &mut Context<'_>) -> String {
    let mut out = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, next)) = after.split_once("}}") else {
            let message = "a template begins with `{{` and does not end";
            cx.push(cx.error_within(path, "{{", "template", message).expected("`}}` after the template's name"));
            return out;
        };
        let name = name.trim();
        if !templates.contains(&name) {
            unknown(name, &rest[before.len()..rest.len() - next.len()], templates, path, cx);
        }
        out.push_str("{{");
        out.push_str(name);
        out.push_str("}}");
        rest = next;
    }
    out.push_str(rest);
    out
}

fn unknown(name: &str, written: &str, templates: &[&str], path: &Path, cx: &mut Context<'_>) {
    let braced = |name: &str| format!("{{{{{name}}}}}");
    let known: Vec<String> = templates.iter().map(|name| braced(name)).collect();
    let help = match PLACES.iter().find(|(known, _)| *known == name) {
        Some((_, place)) => Some(format!("it works in {place}")),
        None => nearest(name, templates.iter().copied()).map(|meant| format!("did you mean {}?", quote(&braced(meant)))),
    };
    let message = match PLACES.iter().any(|(known, _)| *known == name) {
        true => format!("the template {} does not work here", quote(&braced(name))),
        false => format!("unknown template {}", quote(&braced(name))),
    };
    cx.push(cx.error_within(path, written, "template", message).expected(list(known.iter().map(String::as_str), "or")).maybe_help(help));
}

fn templates_of(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).filter_map(|part| part.split_once("}}")).map(|(name, _)| name.trim())
}
