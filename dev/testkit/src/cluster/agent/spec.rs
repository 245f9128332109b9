//! What is run for a pod: its first container as a local process.
//!
//! A container without a `command` runs what its image stands for ([`Images`]), with its `args` behind. `$(NAME)` is replaced as Kubernetes
//! does. Only the first container runs; others are shown as running and ready. Volumes are not mounted and init containers not run.

use std::collections::BTreeMap;

use serde_json::Value;

/// What images stand for: name without registry and tag, and its command. `{tag}` and `{port}` in it are the tag (`latest` without one)
/// and the first port of the container (8080 without one).
pub type Images = BTreeMap<String, Vec<String>>;

/// Images whose name begins with this cannot be pulled.
pub(super) const MISSING_IMAGE: &str = "missing/";

/// Settings and secrets that the environment of a container refers to.
pub(super) type References = BTreeMap<(Reference, String), BTreeMap<String, String>>;

/// What kind of object holds a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reference {
    ConfigMap,
    Secret,
}

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
}

/// Why nothing can be started: reason and message of the `waiting` state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The first container.
pub(super) fn container(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]
}

/// A port of the first container by number or name.
pub(super) fn port(pod: &Value, wanted: &Value) -> Option<u16> {
    let number = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    let named = |name: &str| {
        let ports = container(pod)["ports"].as_array()?;
        ports.iter().find(|port| port["name"] == name).and_then(|port| number(&port["containerPort"]))
    };
    number(wanted).or_else(|| named(wanted.as_str()?)).or_else(|| wanted.as_str()?.parse().ok())
}

/// Which ConfigMaps and Secrets the container's environment needs.
pub(super) fn references(pod: &Value) -> Vec<(Reference, String)> {
    let container = container(pod);
    let mut found = Vec::new();
    let mut add = |value: &Value, map: &str, secret: &str| {
        for (kind, field) in [(Reference::ConfigMap, map), (Reference::Secret, secret)] {
            found.extend(value[field]["name"].as_str().map(|name| (kind, name.to_owned())));
        }
    };
    for source in list(&container["envFrom"]) {
        add(source, "configMapRef", "secretRef");
    }
    for variable in list(&container["env"]) {
        add(&variable["valueFrom"], "configMapKeyRef", "secretKeyRef");
    }
    found.sort();
    found.dedup();
    found
}

/// What to run. `address` is where the pod's process has to listen.
///
/// # Errors
/// With the state that Kubernetes would show.
pub(super) fn run(pod: &Value, address: &str, images: &Images, references: &References) -> Result<Run, Refused> {
    let container = container(pod);
    let image = container["image"].as_str().unwrap_or_default();
    if image.starts_with(MISSING_IMAGE) {
        return Err(Refused { reason: "ErrImagePull", message: format!("failed to pull image \"{image}\": not found") });
    }
    let environment = environment(pod, address, references)?;
    let strings = |value: &Value| list(value).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    let mut command = strings(&container["command"]);
    if command.is_empty() {
        command = of_image(image, container, images).ok_or_else(|| Refused {
            reason: "RunContainerError",
            message: format!("no command, and image \"{image}\" stands for none"),
        })?;
    }
    command.extend(strings(&container["args"]));
    let command = command.iter().map(|word| expand(word, &environment)).collect();
    Ok(Run { command, environment })
}

fn of_image(image: &str, container: &Value, images: &Images) -> Option<Vec<String>> {
    let file = image.rsplit('/').next()?;
    let file = file.split('@').next()?;
    let (name, tag) = file.split_once(':').unwrap_or((file, "latest"));
    let port = container["ports"][0]["containerPort"].as_u64().unwrap_or(8080).to_string();
    Some(images.get(name)?.iter().map(|word| word.replace("{tag}", tag).replace("{port}", &port)).collect())
}

fn environment(pod: &Value, address: &str, references: &References) -> Result<BTreeMap<String, String>, Refused> {
    let container = container(pod);
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let mut all = BTreeMap::from([("POD_IP".to_owned(), address.to_owned()), ("HOSTNAME".to_owned(), name.to_owned())]);
    let missing = |what: String| Refused { reason: "CreateContainerConfigError", message: what };
    for source in list(&container["envFrom"]) {
        let prefix = source["prefix"].as_str().unwrap_or_default();
        for (kind, field) in [(Reference::ConfigMap, "configMapRef"), (Reference::Secret, "secretRef")] {
            let Some(object) = source[field]["name"].as_str() else { continue };
            match references.get(&(kind, object.to_owned())) {
                Some(values) => all.extend(values.iter().map(|(key, value)| (format!("{prefix}{key}"), value.clone()))),
                None if source[field]["optional"] == true => {}
                None => return Err(missing(format!("{} \"{object}\" not found", kind.word()))),
            }
        }
    }
    for variable in list(&container["env"]) {
        let Some(name) = variable["name"].as_str() else { continue };
        if let Some(value) = variable["value"].as_str() {
            let value = expand(value, &all);
            all.insert(name.to_owned(), value);
            continue;
        }
        let from = &variable["valueFrom"];
        if let Some(field) = from.pointer("/fieldRef/fieldPath").and_then(Value::as_str) {
            all.insert(name.to_owned(), field_of(pod, field, address));
        }
        for (kind, field) in [(Reference::ConfigMap, "configMapKeyRef"), (Reference::Secret, "secretKeyRef")] {
            let Some(object) = from[field]["name"].as_str() else { continue };
            let key = from[field]["key"].as_str().unwrap_or_default();
            match references.get(&(kind, object.to_owned())).and_then(|values| values.get(key)) {
                Some(value) => drop(all.insert(name.to_owned(), value.clone())),
                None if from[field]["optional"] == true => {}
                None => return Err(missing(format!("couldn't find key {key} in {} {object}", kind.word()))),
            }
        }
    }
    Ok(all)
}

/// The downward API. A pod's own address is the one where it has to listen.
fn field_of(pod: &Value, field: &str, address: &str) -> String {
    if matches!(field, "status.podIP" | "status.podIPs") {
        return address.to_owned();
    }
    let quoted = field.split_once("['").and_then(|(before, key)| Some((before, key.strip_suffix("']")?)));
    let value = match quoted {
        Some((before, key)) => &at(pod, before)[key],
        None => at(pod, field),
    };
    value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, part| &value[part])
}

/// `$(NAME)` of a known variable is its value, `$$(NAME)` is `$(NAME)`, all else stays.
fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        out += &rest[..start];
        rest = &rest[start..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix("$(").and_then(|inner| inner.split_once(')')).map(|(name, _)| name);
        match name.and_then(|name| Some((name, environment.get(name)?))) {
            Some((name, value)) => {
                out += value;
                rest = &rest[name.len() + 3..];
            }
            None => {
                out.push('$');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

/// The items of a list; none of anything else.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

impl Reference {
    fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }

    /// The kind of the object.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn images() -> Images {
        let command = ["serin", "sample-app", "--host=$(POD_IP)", "--port={port}", "--version={tag}"];
        BTreeMap::from([("app".to_owned(), command.map(str::to_owned).to_vec())])
    }

    fn pod(container: &Value) -> Value {
        json!({"metadata": {"name": "p", "labels": {"app": "web", "a/b": "c"}}, "spec": {"containers": [container]}})
    }

    fn command(container: &Value) -> Result<Vec<String>, Refused> {
        run(&pod(container), "127.1.2.3", &images(), &References::new()).map(|run| run.command)
    }

    #[test]
    fn a_command_or_what_the_image_stands_for() {
        let given = command(&json!({"image": "any", "command": ["x", "$(POD_IP)"], "args": ["$$(POD_IP)", "$(NONE)", "$"]}));
        assert_eq!(given.unwrap(), ["x", "127.1.2.3", "$(POD_IP)", "$(NONE)", "$"]);
        let image = command(&json!({"image": "registry.example:5000/team/app:v2", "ports": [{"containerPort": 81}], "args": ["--more"]}));
        assert_eq!(image.unwrap(), ["serin", "sample-app", "--host=127.1.2.3", "--port=81", "--version=v2", "--more"]);
        assert_eq!(command(&json!({"image": "missing/app:v2"})).unwrap_err().reason, "ErrImagePull");
        assert_eq!(command(&json!({"image": "other"})).unwrap_err().reason, "RunContainerError");
    }

    #[test]
    fn environment_from_fields_and_objects() {
        let container = json!({"image": "app", "envFrom": [{"configMapRef": {"name": "m"}, "prefix": "M_"}], "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)$(M_k)"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "O", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": true}}},
        ]});
        let pod = pod(&container);
        let named = |kind, name: &str| (kind, name.to_owned());
        assert_eq!(references(&pod), [named(Reference::ConfigMap, "m"), named(Reference::Secret, "none"), named(Reference::Secret, "s")]);
        let value = |text: &str| BTreeMap::from([("k".to_owned(), text.to_owned())]);
        let mut known = References::from([(named(Reference::ConfigMap, "m"), value("2")), (named(Reference::Secret, "s"), value("3"))]);
        let environment = run(&pod, "127.1.2.3", &images(), &known).unwrap().environment;
        for (name, value) in [("A", "1"), ("B", "12"), ("IP", "127.1.2.3"), ("L", "c"), ("S", "3"), ("M_k", "2"), ("HOSTNAME", "p")] {
            assert_eq!(environment[name], value, "{name}");
        }
        assert!(!environment.contains_key("O"));
        known.clear();
        assert_eq!(run(&pod, "", &images(), &known).unwrap_err().reason, "CreateContainerConfigError");
    }

    #[test]
    fn ports_by_number_and_name() {
        let pod = pod(&json!({"ports": [{"name": "http", "containerPort": 81}]}));
        assert_eq!(port(&pod, &json!(8)), Some(8));
        assert_eq!(port(&pod, &json!("http")), Some(81));
        assert_eq!(port(&pod, &json!("none")), None);
    }
}
