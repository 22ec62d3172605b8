//! The runbooks of written procedures, each carried out whole: a bad release, a verdict, every step on real servers, and
//! the verification afterwards. The ledger and the post-mortem must show each step of the procedure.
//!
//! * `rig.rs`: what is the same for all: releases, users, Prometheus, vendors, the daemon, and what is asserted.
//! * `workloads.rs`: Deployments of those who run on Kubernetes.

mod rig;
#[path = "../../rules/tests/runbooks/trace.rs"]
mod trace;

mod coordinated;
mod hosted_front_and_api;
mod hosted_promote;
mod kubernetes_workers;
mod node_service;
mod workloads;
