//! The presets that ship, embedded into the binary.

use super::Preset;
use crate::suggest::closest;

/// The names and texts of the presets that ship, by name.
pub const PRESETS: [(&str, &str); 101] = [
    ("alembic-downgrade", include_str!("../../library/actions/alembic-downgrade.yaml")),
    ("alertmanager-silence", include_str!("../../library/actions/alertmanager-silence.yaml")),
    ("argo-rollouts-abort", include_str!("../../library/actions/argo-rollouts-abort.yaml")),
    ("argo-rollouts-undo", include_str!("../../library/actions/argo-rollouts-undo.yaml")),
    ("argocd-auto-sync-off", include_str!("../../library/actions/argocd-auto-sync-off.yaml")),
    ("argocd-auto-sync-on", include_str!("../../library/actions/argocd-auto-sync-on.yaml")),
    ("argocd-rollback", include_str!("../../library/actions/argocd-rollback.yaml")),
    ("browser-smoke", include_str!("../../library/actions/browser-smoke.yaml")),
    ("bullmq-pause", include_str!("../../library/actions/bullmq-pause.yaml")),
    ("bullmq-resume", include_str!("../../library/actions/bullmq-resume.yaml")),
    ("celery-add-consumer", include_str!("../../library/actions/celery-add-consumer.yaml")),
    ("celery-cancel-consumer", include_str!("../../library/actions/celery-cancel-consumer.yaml")),
    ("cloud-run-traffic", include_str!("../../library/actions/cloud-run-traffic.yaml")),
    ("cloudflare-pages-rollback", include_str!("../../library/actions/cloudflare-pages-rollback.yaml")),
    ("cloudflare-purge-everything", include_str!("../../library/actions/cloudflare-purge-everything.yaml")),
    ("cloudflare-purge-files", include_str!("../../library/actions/cloudflare-purge-files.yaml")),
    ("cloudflare-purge-prefixes", include_str!("../../library/actions/cloudflare-purge-prefixes.yaml")),
    ("cloudflare-worker-deploy", include_str!("../../library/actions/cloudflare-worker-deploy.yaml")),
    ("cloudfront-invalidate", include_str!("../../library/actions/cloudfront-invalidate.yaml")),
    ("datadog-event", include_str!("../../library/actions/datadog-event.yaml")),
    ("dbmate-rollback", include_str!("../../library/actions/dbmate-rollback.yaml")),
    ("docker-compose-stop", include_str!("../../library/actions/docker-compose-stop.yaml")),
    ("docker-compose-up", include_str!("../../library/actions/docker-compose-up.yaml")),
    ("ecs-task-definition", include_str!("../../library/actions/ecs-task-definition.yaml")),
    ("fastly-activate-version", include_str!("../../library/actions/fastly-activate-version.yaml")),
    ("fastly-purge-all", include_str!("../../library/actions/fastly-purge-all.yaml")),
    ("fastly-purge-key", include_str!("../../library/actions/fastly-purge-key.yaml")),
    ("flagsmith-feature-off", include_str!("../../library/actions/flagsmith-feature-off.yaml")),
    ("flux-resume", include_str!("../../library/actions/flux-resume.yaml")),
    ("flux-suspend", include_str!("../../library/actions/flux-suspend.yaml")),
    ("github-auto-merge-off", include_str!("../../library/actions/github-auto-merge-off.yaml")),
    ("github-cancel-run", include_str!("../../library/actions/github-cancel-run.yaml")),
    ("github-cancel-workflow-runs", include_str!("../../library/actions/github-cancel-workflow-runs.yaml")),
    ("github-comment", include_str!("../../library/actions/github-comment.yaml")),
    ("github-deployment-status", include_str!("../../library/actions/github-deployment-status.yaml")),
    (
        "github-pull-request-auto-merge-off",
        include_str!("../../library/actions/github-pull-request-auto-merge-off.yaml"),
    ),
    ("github-revert-pull-request", include_str!("../../library/actions/github-revert-pull-request.yaml")),
    ("github-workflow-disable", include_str!("../../library/actions/github-workflow-disable.yaml")),
    ("github-workflow-dispatch", include_str!("../../library/actions/github-workflow-dispatch.yaml")),
    ("github-workflow-enable", include_str!("../../library/actions/github-workflow-enable.yaml")),
    ("gitlab-cancel-auto-merge", include_str!("../../library/actions/gitlab-cancel-auto-merge.yaml")),
    ("gitlab-cancel-pipeline", include_str!("../../library/actions/gitlab-cancel-pipeline.yaml")),
    ("gitlab-retry-job", include_str!("../../library/actions/gitlab-retry-job.yaml")),
    ("gitlab-revert-commit", include_str!("../../library/actions/gitlab-revert-commit.yaml")),
    ("grafana-annotation", include_str!("../../library/actions/grafana-annotation.yaml")),
    ("helm-rollback", include_str!("../../library/actions/helm-rollback.yaml")),
    ("heroku-rollback", include_str!("../../library/actions/heroku-rollback.yaml")),
    ("http-check", include_str!("../../library/actions/http-check.yaml")),
    ("http-steady", include_str!("../../library/actions/http-steady.yaml")),
    ("http-switch", include_str!("../../library/actions/http-switch.yaml")),
    ("kubectl-rollout-undo", include_str!("../../library/actions/kubectl-rollout-undo.yaml")),
    ("kubectl-scale", include_str!("../../library/actions/kubectl-scale.yaml")),
    ("kubectl-set-env", include_str!("../../library/actions/kubectl-set-env.yaml")),
    ("kubectl-set-image", include_str!("../../library/actions/kubectl-set-image.yaml")),
    ("lambda-alias", include_str!("../../library/actions/lambda-alias.yaml")),
    ("launchdarkly-flag-off", include_str!("../../library/actions/launchdarkly-flag-off.yaml")),
    ("launchdarkly-flag-on", include_str!("../../library/actions/launchdarkly-flag-on.yaml")),
    ("maintenance-page", include_str!("../../library/actions/maintenance-page.yaml")),
    ("netlify-lock", include_str!("../../library/actions/netlify-lock.yaml")),
    ("netlify-restore", include_str!("../../library/actions/netlify-restore.yaml")),
    ("netlify-unlock", include_str!("../../library/actions/netlify-unlock.yaml")),
    ("nginx-cache-purge", include_str!("../../library/actions/nginx-cache-purge.yaml")),
    ("nomad-revert", include_str!("../../library/actions/nomad-revert.yaml")),
    ("npm-smoke-test", include_str!("../../library/actions/npm-smoke-test.yaml")),
    ("otel-collector-check", include_str!("../../library/actions/otel-collector-check.yaml")),
    ("pagerduty-event", include_str!("../../library/actions/pagerduty-event.yaml")),
    ("pg-create-database", include_str!("../../library/actions/pg-create-database.yaml")),
    ("pg-dump", include_str!("../../library/actions/pg-dump.yaml")),
    ("pg-query-check", include_str!("../../library/actions/pg-query-check.yaml")),
    ("pg-restore", include_str!("../../library/actions/pg-restore.yaml")),
    ("pm2-reload", include_str!("../../library/actions/pm2-reload.yaml")),
    ("pm2-restart", include_str!("../../library/actions/pm2-restart.yaml")),
    ("pm2-start", include_str!("../../library/actions/pm2-start.yaml")),
    ("pm2-stop", include_str!("../../library/actions/pm2-stop.yaml")),
    ("prometheus-check", include_str!("../../library/actions/prometheus-check.yaml")),
    ("release-link-switch", include_str!("../../library/actions/release-link-switch.yaml")),
    ("render-rollback", include_str!("../../library/actions/render-rollback.yaml")),
    ("rq-resume", include_str!("../../library/actions/rq-resume.yaml")),
    ("rq-suspend", include_str!("../../library/actions/rq-suspend.yaml")),
    ("sentry-liveness", include_str!("../../library/actions/sentry-liveness.yaml")),
    ("slack-message", include_str!("../../library/actions/slack-message.yaml")),
    ("sqlx-migrate-revert", include_str!("../../library/actions/sqlx-migrate-revert.yaml")),
    ("statuspage-incident", include_str!("../../library/actions/statuspage-incident.yaml")),
    ("statuspage-update", include_str!("../../library/actions/statuspage-update.yaml")),
    ("supabase-migrations", include_str!("../../library/actions/supabase-migrations.yaml")),
    ("supabase-migrations-rollback", include_str!("../../library/actions/supabase-migrations-rollback.yaml")),
    ("supabase-restore-point", include_str!("../../library/actions/supabase-restore-point.yaml")),
    (
        "supabase-restore-point-in-time",
        include_str!("../../library/actions/supabase-restore-point-in-time.yaml"),
    ),
    ("supabase-undo", include_str!("../../library/actions/supabase-undo.yaml")),
    ("systemd-restart", include_str!("../../library/actions/systemd-restart.yaml")),
    ("systemd-start", include_str!("../../library/actions/systemd-start.yaml")),
    ("systemd-stop", include_str!("../../library/actions/systemd-stop.yaml")),
    ("teams-message", include_str!("../../library/actions/teams-message.yaml")),
    ("unleash-feature-off", include_str!("../../library/actions/unleash-feature-off.yaml")),
    ("unleash-feature-on", include_str!("../../library/actions/unleash-feature-on.yaml")),
    ("vercel-config-restore", include_str!("../../library/actions/vercel-config-restore.yaml")),
    ("vercel-env-set", include_str!("../../library/actions/vercel-env-set.yaml")),
    ("vercel-promote", include_str!("../../library/actions/vercel-promote.yaml")),
    ("vercel-redeploy", include_str!("../../library/actions/vercel-redeploy.yaml")),
    ("vercel-rollback", include_str!("../../library/actions/vercel-rollback.yaml")),
    ("vercel-rollback-status", include_str!("../../library/actions/vercel-rollback-status.yaml")),
];

/// Every name, sorted.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// Reads a preset that ships. `None` if there is none of this name. Every shipped text is read by a test.
pub fn shipped_preset(name: &str) -> Option<Preset> {
    let (_, text) = PRESETS.iter().find(|(shipped, _)| *shipped == name)?;
    serde_saphyr::from_str(text).ok()
}

/// The shipped name that a mistyped one was most likely meant to be.
pub fn closest_preset(wrong: &str) -> Option<&'static str> {
    closest(wrong, preset_names())
}
