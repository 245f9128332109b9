//! Whether a pod fits on the one node: its selector and the sum of requests. The words are the scheduler's.

use serde_json::Value;

use super::spec::list;

/// What the node has.
#[derive(Debug, Clone)]
pub struct Capacity {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// How many pods.
    pub pods: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { cpu_milli: 64_000, memory_bytes: 256 << 30, pods: 1000 }
    }
}

/// The labels of the node beside its name.
pub(super) const LABELS: [(&str, &str); 3] =
    [("kubernetes.io/os", "linux"), ("kubernetes.io/arch", "amd64"), ("topology.kubernetes.io/zone", "local")];

/// Why the pod cannot run on the node beside the others that do; nothing if it can.
pub(super) fn obstacle(pod: &Value, node: &str, bound: &[&Value], capacity: &Capacity) -> Option<String> {
    let selector = pod["spec"]["nodeSelector"].as_object();
    let has = |key: &str, value: &Value| {
        let name = ("kubernetes.io/hostname", node);
        LABELS.iter().chain([&name]).any(|(known, is)| *known == key && value == is)
    };
    if selector.is_some_and(|selector| selector.iter().any(|(key, value)| !has(key, value))) {
        return Some("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.".to_owned());
    }
    let sum = |field: &str| bound.iter().map(|other| request(other, field)).sum::<u64>() + request(pod, field);
    let mut lacks = Vec::new();
    if bound.len() >= capacity.pods {
        lacks.push("1 Too many pods");
    }
    if sum("cpu") > capacity.cpu_milli {
        lacks.push("1 Insufficient cpu");
    }
    if sum("memory") > capacity.memory_bytes.saturating_mul(1000) {
        lacks.push("1 Insufficient memory");
    }
    (!lacks.is_empty()).then(|| format!("0/1 nodes are available: {}.", lacks.join(", ")))
}

/// The sum of what a pod's containers request, in thousandths.
fn request(pod: &Value, field: &str) -> u64 {
    list(&pod["spec"]["containers"])
        .iter()
        .filter_map(|container| {
            let resources = &container["resources"];
            // A limit alone is a request too; the API server fills that in.
            quantity_milli(resources["requests"][field].as_str()?)
        })
        .sum()
}

/// A quantity of Kubernetes in thousandths, rounded up.
fn quantity_milli(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 12] = [
        ("Ki", 1024e3),
        ("Mi", 1_048_576e3),
        ("Gi", 1_073_741_824e3),
        ("Ti", 1_099_511_627_776e3),
        ("m", 1.0),
        ("k", 1e6),
        ("M", 1e9),
        ("G", 1e12),
        ("T", 1e15),
        ("P", 1e18),
        ("u", 1e-3),
        ("n", 1e-6),
    ];
    let (number, unit) = UNITS.iter().find_map(|(unit, by)| Some((text.strip_suffix(unit)?, *by))).unwrap_or((text, 1e3));
    let value = number.parse::<f64>().ok()? * unit;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within the range")]
    (0.0..=1.8e19).contains(&value).then(|| value.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, memory: &str) -> Value {
        json!({"spec": {"containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}]}})
    }

    #[test]
    fn quantities() {
        for (text, milli) in [("1", 1000), ("250m", 250), ("1.5", 1500), ("1Ki", 1_024_000), ("2M", 2_000_000_000), ("1e2", 100_000)] {
            assert_eq!(quantity_milli(text), Some(milli), "{text}");
        }
        assert_eq!(quantity_milli("much"), None);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let capacity = Capacity { cpu_milli: 1000, memory_bytes: 1 << 30, pods: 2 };
        let small = pod("500m", "100Mi");
        assert_eq!(obstacle(&small, "node", &[&small], &capacity), None);
        let says = |pod: &Value, bound: &[&Value]| obstacle(pod, "node", bound, &capacity).unwrap();
        assert!(says(&pod("501m", "1"), &[&small]).contains("Insufficient cpu"));
        assert!(says(&pod("1m", "2Gi"), &[]).contains("Insufficient memory"));
        assert!(says(&pod("1m", "1"), &[&small, &pod("1m", "1")]).contains("Too many pods"));
        let mut chosen = small;
        chosen["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "node"});
        assert_eq!(obstacle(&chosen, "node", &[], &capacity), None);
        chosen["spec"]["nodeSelector"] = json!({"gpu": "yes"});
        assert!(says(&chosen, &[]).contains("node affinity/selector"));
    }
}
