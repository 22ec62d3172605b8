//! GitHub: a repository with a workflow that is enabled and runs, auto-merge that is on, and issues that take comments.

use super::{Answer, Vendors};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What GitHub knows of a repository.
#[derive(Debug)]
pub struct Repository {
    /// Whether pull requests may merge by themselves.
    pub auto_merge: bool,
    /// Whether the workflow may start.
    pub enabled: bool,
    /// Its runs that have not ended: number to status.
    pub runs: BTreeMap<u64, &'static str>,
    /// Comments, as the issue's number and the text.
    pub comments: Vec<(String, String)>,
}

/// A repository that a test looks into.
pub type Shared = Arc<Mutex<Repository>>;

fn look(repository: &Shared) -> MutexGuard<'_, Repository> {
    repository.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vendors {
    /// Plays GitHub under the name `github`, with one repository `OWNER/NAME` and one workflow.
    pub fn github(&self, name: &str, workflow: &str) -> Shared {
        let runs = BTreeMap::from([(41, "in_progress"), (42, "queued")]);
        let repository = Repository { auto_merge: true, enabled: true, runs, comments: Vec::new() };
        let shared = Arc::new(Mutex::new(repository));
        let root = format!("/repos/{name}");
        self.settings(&root, &shared);
        self.workflow(&root, &format!("{root}/actions/workflows/{workflow}"), &shared);
        let own = shared.clone();
        self.on("github", "POST", &format!("{root}/issues/*"), move |asked| {
            let issue = asked.path.split('/').nth_back(1).unwrap_or_default().to_owned();
            look(&own).comments.push((issue, asked.json()["body"].as_str().unwrap_or_default().to_owned()));
            Answer::json(201, &json!({ "id": 1 }))
        });
        shared
    }

    fn settings(&self, root: &str, shared: &Shared) {
        let own = shared.clone();
        self.on("github", "GET", root, move |_| {
            Answer::json(200, &json!({ "allow_auto_merge": look(&own).auto_merge }))
        });
        let own = shared.clone();
        self.on("github", "PATCH", root, move |asked| {
            let mut repository = look(&own);
            if let Some(wanted) = asked.json()["allow_auto_merge"].as_bool() {
                repository.auto_merge = wanted;
            }
            Answer::json(200, &json!({ "allow_auto_merge": repository.auto_merge }))
        });
    }

    fn workflow(&self, root: &str, workflow: &str, shared: &Shared) {
        let own = shared.clone();
        self.on("github", "GET", workflow, move |_| {
            let state = if look(&own).enabled { "active" } else { "disabled_manually" };
            Answer::json(200, &json!({ "state": state }))
        });
        for (word, enabled) in [("enable", true), ("disable", false)] {
            let own = shared.clone();
            self.on("github", "PUT", &format!("{workflow}/{word}"), move |_| {
                look(&own).enabled = enabled;
                Answer::empty(204)
            });
        }
        let own = shared.clone();
        self.on("github", "GET", &format!("{workflow}/runs"), move |asked| {
            let repository = look(&own);
            let wanted = |status: &str| asked.query.contains(&format!("status={status}"));
            let runs = repository.runs.iter().filter(|(_, status)| wanted(status));
            let runs: Vec<_> = runs.map(|(id, status)| json!({ "id": id, "status": status })).collect();
            Answer::json(200, &json!({ "total_count": runs.len(), "workflow_runs": runs }))
        });
        let own = shared.clone();
        self.on("github", "POST", &format!("{root}/actions/runs/*"), move |asked| {
            let run = asked.path.split('/').nth_back(1).and_then(|id| id.parse().ok());
            match run.and_then(|id: u64| look(&own).runs.remove(&id)) {
                Some(_) => Answer::json(202, &json!({})),
                None => Answer::json(
                    409,
                    &json!({ "message": "Cannot cancel a workflow run that is completed." }),
                ),
            }
        });
    }
}
