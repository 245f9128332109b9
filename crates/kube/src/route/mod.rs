//! Routers of a cluster: objects that hold the canary's share.
//!
//! A [`Lens`] reads and changes one kind of object as data: `gateway`, `istio`, `ingress_nginx`, `selector`, `replicas`, `traefik`, `custom`; three of them
//! write `rules` alike. [`ObjectRouter`] is what all have in common, behind the engine's [`Router`](serin_engine::router::Router); `decision` is
//! the note that every write leaves on the object. [`lens_of`] is the one table of kinds.

mod custom;
mod decision;
mod gateway;
mod ingress_nginx;
mod istio;
mod lens;
mod object_router;
mod replicas;
mod rules;
mod selector;
mod traefik;

use std::sync::Arc;

use serin_spec::validated::{ClusterRouter, ClusterTraffic};

pub use custom::CustomLens;
pub use decision::{Decision, Owner, Standing};
pub use gateway::GatewayLens;
pub use ingress_nginx::IngressNginxLens;
pub use istio::IstioLens;
pub(crate) use lens::kind;
pub use lens::{Lens, LensError, Seen, difference};
pub use object_router::{Fence, ObjectRouter};
pub use replicas::ReplicaLens;
pub use selector::SelectorLens;
pub use traefik::TraefikLens;

/// The lens for a router. `namespace`: where its object is.
#[must_use]
pub fn lens_of(traffic: &ClusterTraffic, namespace: &str) -> Arc<dyn Lens> {
    let (namespace, declared) = (namespace.to_owned(), traffic.matches.clone());
    match traffic.router.clone() {
        ClusterRouter::GatewayApi { kind, route, services } => Arc::new(GatewayLens { kind, route, namespace, services, declared }),
        ClusterRouter::Istio { virtual_service, stable, canary, routes } => {
            Arc::new(IstioLens { virtual_service, namespace, stable, canary, routes, declared })
        }
        ClusterRouter::IngressNginx { canary_ingress, services, .. } => Arc::new(IngressNginxLens { canary_ingress, services, declared }),
        ClusterRouter::Service { service, stable, canary } => Arc::new(SelectorLens { service, stable, canary }),
        ClusterRouter::Replicas { service, stable, canary, .. } => Arc::new(ReplicaLens { service, stable, canary }),
        ClusterRouter::Traefik { traefik_service, services } => Arc::new(TraefikLens { traefik_service, namespace, services }),
        ClusterRouter::Custom(custom) => Arc::new(CustomLens(custom)),
    }
}
