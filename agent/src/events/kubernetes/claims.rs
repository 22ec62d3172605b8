//! Who speaks for a service in an environment.
//!
//! Two workloads of one name in one environment are, for everything behind this source, one service: a rollout of the
//! one would end the watch over the other without a word. So one of them has the name (the oldest when the agent begins to
//! listen, and from then on whoever has it keeps it), and of any other nothing is told, which is said. Only an Argo Rollout or a Canary shares the name of the workload that it leads.

use super::WatchedKind;
use super::naming::Names;
use rules::ids::{EnvironmentName, ServiceName};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Names that nobody has asked for again for so long are free; every listing asks for all that are in use, and one is
/// at most an hour after the other.
const FREE_AFTER: Duration = Duration::from_secs(2 * 3_600);
/// Names that are remembered, as many as objects are.
const MOST: usize = 50_000;

/// An object by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) kind: WatchedKind,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Place {
    /// Of an object.
    pub(super) fn of(kind: WatchedKind, object: &Value) -> Place {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        Place { kind, namespace: text("namespace"), name: text("name") }
    }

    /// The workload that an object leads: `targetRef` of a Canary, `workloadRef` of an Argo Rollout; any other is its
    /// own.
    fn led_by(kind: WatchedKind, object: &Value) -> Place {
        let led = match kind {
            WatchedKind::Canary => &object["spec"]["targetRef"],
            WatchedKind::Rollout => &object["spec"]["workloadRef"],
            _ => &Value::Null,
        };
        let own = Place::of(kind, object);
        let kind = [WatchedKind::Deployment, WatchedKind::StatefulSet, WatchedKind::DaemonSet]
            .into_iter()
            .find(|kind| led["kind"] == kind.kind());
        match (kind, led["name"].as_str()) {
            (Some(kind), Some(name)) => Place { kind, name: name.to_owned(), ..own },
            _ => own,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind.kind(), self.namespace, self.name)
    }
}

#[derive(Debug)]
struct Speaker {
    /// The workload that is spoken about.
    workload: Place,
    /// Who speaks: the workload, and what leads it.
    objects: Vec<Place>,
    asked: Instant,
}

/// Every name that somebody has.
#[derive(Debug, Default)]
pub(super) struct Claims {
    speakers: BTreeMap<(ServiceName, EnvironmentName), Speaker>,
}

impl Claims {
    /// Takes a name for an object, or for what it leads. Errors: the objects that have it.
    pub(super) fn claim(
        &mut self,
        names: &Names,
        kind: WatchedKind,
        object: &Value,
    ) -> Result<(), Vec<Place>> {
        let (workload, own) = (Place::led_by(kind, object), Place::of(kind, object));
        let now = Instant::now();
        let key = (names.service.clone(), names.environment.clone());
        match self.speakers.get_mut(&key) {
            Some(speaker) if speaker.workload == workload => {
                speaker.asked = now;
                if !speaker.objects.contains(&own) {
                    speaker.objects.push(own);
                }
                Ok(())
            }
            Some(speaker) => Err(speaker.objects.clone()),
            None => {
                if self.speakers.len() < MOST {
                    self.speakers.insert(key, Speaker { workload, objects: vec![own], asked: now });
                }
                Ok(())
            }
        }
    }

    /// This object is not there any more, is called something else by now, or has nothing to tell.
    pub(super) fn release(&mut self, names: &Names, gone: &Place) {
        let key = (names.service.clone(), names.environment.clone());
        if let Some(speaker) = self.speakers.get_mut(&key) {
            speaker.objects.retain(|object| object != gone);
            if speaker.objects.is_empty() {
                self.speakers.remove(&key);
            }
        }
    }

    /// Frees what nobody has asked for in long.
    pub(super) fn tidy(&mut self) {
        self.speakers.retain(|_, speaker| speaker.asked.elapsed() < FREE_AFTER);
    }
}

/// What is said of the second one.
pub(super) fn words(names: &Names, second: &Place, first: &[Place]) -> String {
    let first = first.first().map_or_else(|| "another object".to_owned(), Place::to_string);
    format!(
        "{second} and {first} are both called {} in {}; the latter has the name, and of the former nothing is told. Put \
         {{{{namespace}}}} or {{{{object}}}} into `service` or `environment`, or list only its own `namespaces`",
        names.service, names.environment
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_has_one_workload_and_whoever_leads_it_until_all_are_gone() {
        let names = Names {
            service: ServiceName::new("a").unwrap(),
            environment: EnvironmentName::new("b").unwrap(),
        };
        let object = |namespace: &str, name: &str, spec: Value| json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        let (prod, staging) = (object("prod", "web", json!({})), object("staging", "web", json!({})));
        let lead = |key: &str| {
            let mut spec = json!({});
            spec[key] = json!({"kind": "Deployment", "name": "web"});
            object("prod", "lead", spec)
        };
        let mut claims = Claims::default();
        use WatchedKind::{Canary, Deployment, Rollout};
        assert_eq!(claims.claim(&names, Deployment, &prod), Ok(()));
        assert_eq!(claims.claim(&names, Deployment, &prod), Ok(()));
        assert_eq!(claims.claim(&names, Canary, &lead("targetRef")), Ok(()));
        assert_eq!(claims.claim(&names, Rollout, &lead("workloadRef")), Ok(()));
        assert_eq!(claims.claim(&names, Deployment, &staging).unwrap_err().len(), 3);
        assert!(claims.claim(&names, Rollout, &prod).is_err(), "of the same name and no part of it");
        for (kind, gone) in [(Deployment, &prod), (Canary, &lead("")), (Rollout, &lead(""))] {
            assert!(claims.claim(&names, Deployment, &staging).is_err());
            claims.release(&names, &Place::of(kind, gone));
        }
        assert_eq!(claims.claim(&names, Deployment, &staging), Ok(()));
    }
}
