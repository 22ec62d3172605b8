//! The two arms of a canary analysis: pods of the release that serves, and pods of the one that wants to.
//!
//! Each pod is a process of its own with dice of its own: pods that failed at the same requests would be one pod with
//! five times the figures. Users reach the arms through [`Envoy`], which splits them by chance, or directly at a rate
//! per arm, when a test needs to know how many requests each arm had.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::envoy::{Arm, Envoy};
use crate::load::{Load, Target};
use crate::prometheus::{ScrapeJob, ScrapeTarget};
use crate::victim::{Release, Victim};

/// The label `job` of all pods.
pub const JOB: &str = "checkout";

/// More pods than that are processes for their own sake: two cores run them all.
const PODS_LIMIT: usize = 20;

/// One of the two arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What serves.
    Control,
    /// What wants to.
    Canary,
}

impl Side {
    /// The label `track` of its series, `up` among them, and the name of its cluster in Envoy.
    pub fn name(self) -> &'static str {
        match self {
            Side::Control => "control",
            Side::Canary => "canary",
        }
    }
}

/// Running pods of both arms, killed on drop.
#[derive(Debug)]
pub struct Arms {
    /// The pods `control-0`, `control-1` and so on.
    pub control: Vec<Victim>,
    /// The pods `canary-0`, `canary-1` and so on.
    pub canary: Vec<Victim>,
}

impl Arms {
    /// Starts `pods` pods of each release. The field `pod` of a release is replaced, pod by
    /// pod; `seed` says which series of dice all of them are in.
    ///
    /// # Errors
    /// If `pods` is 0 or above 20, or a pod does not start.
    pub async fn start(pods: usize, control: &Release, canary: &Release) -> Result<Arms> {
        ensure!((1..=PODS_LIMIT).contains(&pods), "{pods} pods an arm: expected 1 to {PODS_LIMIT}");
        let control = start(pods, Side::Control, control).await?;
        let canary = start(pods, Side::Canary, canary).await?;
        Ok(Arms { control, canary })
    }

    /// The pods of an arm.
    pub fn pods(&self, side: Side) -> &[Victim] {
        match side {
            Side::Control => &self.control,
            Side::Canary => &self.canary,
        }
    }

    /// Where the pods of an arm listen.
    pub fn addresses(&self, side: Side) -> Vec<SocketAddr> {
        self.pods(side).iter().map(Victim::address).collect()
    }

    /// What Prometheus has to scrape: the job `checkout` with a target for each pod. Labels of the series: `job`,
    /// `instance`, `track` (`control` or `canary`), and from the pods themselves `version` and `pod`; `up` has the
    /// first three.
    pub fn jobs(&self) -> Vec<ScrapeJob> {
        let targets = [Side::Control, Side::Canary].into_iter().flat_map(|side| {
            let labels = BTreeMap::from([("track".to_owned(), side.name().to_owned())]);
            let target = move |address: SocketAddr| ScrapeTarget {
                address: address.to_string(),
                labels: labels.clone(),
            };
            self.addresses(side).into_iter().map(target)
        });
        vec![ScrapeJob { name: JOB.to_owned(), targets: targets.collect() }]
    }

    /// From now on the share `rate` of requests to each pod of the arm fails, from 0.0 to 1.0.
    ///
    /// # Errors
    /// If `rate` is not a share, or a pod does not answer.
    pub async fn step_errors(&self, side: Side, rate: f64) -> Result<()> {
        for pod in self.pods(side) {
            pod.set_errors(rate).await?;
        }
        Ok(())
    }

    /// From now on requests to each pod of the arm take `latency` (in the median, where the release has a spread).
    ///
    /// # Errors
    /// If a pod does not answer, or takes it for too long.
    pub async fn step_latency(&self, side: Side, latency: Duration) -> Result<()> {
        for pod in self.pods(side) {
            pod.set_latency(latency).await?;
        }
        Ok(())
    }

    /// An Envoy before both arms, with the clusters `control` and `canary`.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub async fn envoy(&self, control_weight: u32, canary_weight: u32) -> Result<Envoy> {
        let arm = |side: Side, weight| Arm::new(side.name(), self.addresses(side), weight);
        Envoy::start(&[arm(Side::Control, control_weight), arm(Side::Canary, canary_weight)]).await
    }

    /// `rate` requests a second to one arm, its pods in turn, without an Envoy between.
    ///
    /// # Errors
    /// As [`Load::start`].
    pub fn load(&self, side: Side, rate: u32) -> Result<Load> {
        Load::start(Target::in_turn(&self.addresses(side))?, rate)
    }
}

async fn start(pods: usize, side: Side, release: &Release) -> Result<Vec<Victim>> {
    let mut started = Vec::with_capacity(pods);
    for index in 0..pods {
        let name = format!("{}-{index}", side.name());
        // Any two that differ will do: the seed is where a pod begins in one long series of dice.
        let seed = release.seed.wrapping_sub(1) << 40 | (1 + side as u64) << 32 | index as u64;
        let release = Release { pod: Some(name.clone()), seed, ..release.clone() };
        started.push(Victim::start(&release).await.with_context(|| format!("starting the pod {name}"))?);
    }
    Ok(started)
}
