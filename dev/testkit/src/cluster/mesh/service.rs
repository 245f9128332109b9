//! Plain Services: requests for a service's name go to its endpoints.

use super::{
    table::{Action, Host, Rule},
    world::{UpstreamKey, World, list, text},
};

/// All names of a service within the cluster, without and with each of its ports.
pub(super) fn all_names(world: &World, namespace: &str, service: &str) -> Vec<String> {
    let names = names(namespace, service);
    let ports = world.service(namespace, service).map(|service| list(&service["spec"]["ports"])).unwrap_or_default();
    let with_port = names.iter().flat_map(|name| ports.iter().map(move |port| format!("{name}:{}", port["port"])));
    let with_port: Vec<String> = with_port.collect();
    names.into_iter().chain(with_port).collect()
}

/// Without a port.
fn names(namespace: &str, service: &str) -> Vec<String> {
    let base = format!("{service}.{namespace}");
    vec![base.clone(), format!("{base}.svc"), format!("{base}.svc.cluster.local")]
}

/// A host for each port of each service; the first port has the names without a number.
pub(super) fn hosts(world: &World) -> Vec<Host> {
    let mut hosts = Vec::new();
    for ((namespace, name), service) in &world.services {
        for (index, port) in list(&service["spec"]["ports"]).iter().enumerate() {
            let Some(number) = port["port"].as_u64().and_then(|port| u16::try_from(port).ok()) else { continue };
            if text(&service["spec"]["type"]) == "ExternalName" {
                continue;
            }
            let key = UpstreamKey { namespace: namespace.clone(), service: name.clone(), port: number, subset: None };
            let names = names(namespace, name);
            let with_port = names.iter().map(|name| format!("{name}:{number}"));
            let domains = if index == 0 { names.iter().cloned().chain(with_port).collect() } else { with_port.collect() };
            let rule = Rule { matches: Vec::new(), action: Action::Split(vec![(Some(key), 1)]), timeout_ms: None };
            hosts.push(Host { domains, rules: vec![rule] });
        }
    }
    hosts
}
