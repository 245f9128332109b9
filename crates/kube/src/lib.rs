//! Releases in a cluster. The only crate that knows Kubernetes.
//!
//! A `Release` object is the release document; the engine that runs it is the same as on one machine: the pure state machine of `serin-core`
//! in an async shell. What is different is where things are: the journal's fold is in the object's status ([`release`]), traffic is
//! split by a route ([`route`]), versions are Deployments ([`workload`]), and one of several controllers leads ([`lease`]).
//! [`controller`] wires them: reads come from watches, an idle release costs nothing, an active one is a task of its own.

pub mod api;
pub mod controller;
pub mod crd;
pub mod install;
pub mod lease;
pub mod outside;
pub mod rbac;
pub mod release;
pub mod route;
#[cfg(test)]
mod testing;
pub mod watch;
pub mod workload;

pub use kube::Client;
