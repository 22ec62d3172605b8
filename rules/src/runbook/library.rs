//! The runbooks that ship, embedded into the binary.

use super::RunbookTemplate;
use crate::ruleset::Shipped;

/// The runbooks that ship, by name: five written procedures of real teams, whole, and five short ones for the usual places
/// where services run.
pub const SHIPPED_RUNBOOKS: [Shipped; 10] = [
    Shipped { name: "compose", text: include_str!("../../library/runbooks/compose.yaml") },
    Shipped {
        name: "coordinated-back-and-front",
        text: include_str!("../../library/runbooks/coordinated-back-and-front.yaml"),
    },
    Shipped { name: "gitops", text: include_str!("../../library/runbooks/gitops.yaml") },
    Shipped { name: "hosted", text: include_str!("../../library/runbooks/hosted.yaml") },
    Shipped {
        name: "hosted-front-and-api",
        text: include_str!("../../library/runbooks/hosted-front-and-api.yaml"),
    },
    Shipped { name: "hosted-promote", text: include_str!("../../library/runbooks/hosted-promote.yaml") },
    Shipped { name: "kubernetes", text: include_str!("../../library/runbooks/kubernetes.yaml") },
    Shipped {
        name: "kubernetes-workers",
        text: include_str!("../../library/runbooks/kubernetes-workers.yaml"),
    },
    Shipped { name: "node-service", text: include_str!("../../library/runbooks/node-service.yaml") },
    Shipped { name: "systemd", text: include_str!("../../library/runbooks/systemd.yaml") },
];

/// Reads a runbook that ships. `None` if there is none of this name. Every shipped text is read by a test.
pub fn shipped_runbook(name: &str) -> Option<RunbookTemplate> {
    let shipped = SHIPPED_RUNBOOKS.iter().find(|shipped| shipped.name == name)?;
    serde_saphyr::from_str(shipped.text).ok()
}
