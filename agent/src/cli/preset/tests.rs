//! The words of `turnback preset`.

use crate::cli::tests::testing::turnback;
use serde_json::Value;

/// No daemon is asked.
const NOWHERE: &str = "http://127.0.0.1:1";

async fn run(arguments: &[&str]) -> (u8, String, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    turnback(NOWHERE, arguments).await
}

#[tokio::test]
async fn the_list_has_a_line_for_each_preset() {
    let (code, out, err) = run(&["preset", "list"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.lines().count(), rules::preset::PRESETS.len() + 1);
    let lines: Vec<String> = out
        .lines()
        .filter(|line| {
            ["NAME", "vercel-rollback", "supabase-undo", "pg-dump"].iter().any(|one| line.starts_with(one))
        })
        .map(|line| {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join(" | ")
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @"
        NAME | VENDOR | CLASS | DANGER | SUMMARY
        pg-dump | PostgreSQL | keyed | none | Back up a database into a file of this plan
        supabase-undo | Supabase | one shot | destructive | Set the database back to a restore point
        vercel-rollback | Vercel | lookup | low | Point the production domains back to an earlier deployment, without a build
        vercel-rollback-status | Vercel | keyed | none | Ask whether the last rollback or promotion has come through
        ");
    let (code, out, _) = run(&["preset", "list", "--output", "json"]).await;
    let list: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, list.as_array().unwrap().len()), (0, rules::preset::PRESETS.len()));
    assert_eq!(list[0]["name"], "alembic-downgrade");
}

#[tokio::test]
async fn a_preset_is_shown_with_what_it_sends() {
    let (code, out, err) = run(&["preset", "show", "launchdarkly-flag-off"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out, @r#"
        launchdarkly-flag-off (LaunchDarkly): Switch a flag off in one environment
          read      https://launchdarkly.com/docs/api/feature-flags/patch-feature-flag
          danger    low
          class     lookup
          takes     at most 5m

        INPUT             TYPE      DEFAULT                           WHAT IT IS
        flag              text      (required)                        The flag, by its key.
        flag_environment  text      {{environment}}                   The environment, by its key.
        project           text      (required)                        The project, by its key.
        token             a secret  {env: LAUNCHDARKLY_ACCESS_TOKEN}  An API access token with the role writer.

        For example
          preset:
            name: launchdarkly-flag-off
            with:
              flag: "new-cart"
              project: "shop"
          sends     PATCH https://app.launchdarkly.com/api/v2/flags/shop/new-cart
                      with      content-type="application/json; domain-model=launchdarkly.semanticpatch"
                      secret    authorization from the daemon's variable LAUNCHDARKLY_ACCESS_TOKEN
                      body      {"environmentKey": "production", "instructions": [{"kind": "turnFlagOff"}], "comment": "turnback p-0a1b2c-1"}
                      success   HTTP [200]
          looks by  GET https://app.launchdarkly.com/api/v2/flags/shop/new-cart?env=production
                      secret    authorization from the daemon's variable LAUNCHDARKLY_ACCESS_TOKEN
                      success   HTTP [200]
                      and       /environments/production/on is false
          undone by PATCH https://app.launchdarkly.com/api/v2/flags/shop/new-cart
                      with      content-type="application/json; domain-model=launchdarkly.semanticpatch"
                      secret    authorization from the daemon's variable LAUNCHDARKLY_ACCESS_TOKEN
                      body      {"environmentKey": "production", "instructions": [{"kind": "turnFlagOn"}], "comment": "turnback p-0a1b2c-1"}
                      success   HTTP [200]
        "#);
    let (_, out, _) = run(&["preset", "show", "bullmq-pause"]).await;
    assert!(out.contains("(the script below)") && out.contains("              | queue.pause()"), "{out}");
    let (_, out, _) = run(&["preset", "show", "pg-dump", "--output", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["danger"], "none");
}

#[tokio::test]
async fn a_dry_run_prints_what_the_inputs_send() {
    let arguments = [
        "preset",
        "test",
        "cloudflare-purge-files",
        "--dry-run",
        "--with",
        "zone=0123456789abcdef0123456789abcdef",
        "--with",
        "files=https://shop.example.com/tasks",
        "--with",
        "files=https://shop.example.com/a\"b{{service}}",
        "--with",
        "token=file:/run/secrets/cloudflare",
    ];
    let (code, out, err) = run(&arguments).await;
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out, @r#"
        sends     POST https://api.cloudflare.com/client/v4/zones/0123456789abcdef0123456789abcdef/purge_cache
                    with      content-type="application/json"
                    secret    authorization from "Bearer " and what is in the file /run/secrets/cloudflare
                    body      {"files": ["https://shop.example.com/tasks","https://shop.example.com/a\"b{{service}}"]}
                    success   HTTP [200]
                    and       /success is true
        undo      not needed
        "#);
    let (code, out, _) = run(&[
        "preset",
        "test",
        "helm-rollback",
        "--dry-run",
        "--with",
        "release=a",
        "--with",
        "revision=3",
        "--with",
        "revision_now=4",
        "--output",
        "json",
    ])
    .await;
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["action"]["command"]["argv"][3]), (0, &Value::from("3")));
    let wrong = [
        (
            vec!["preset", "test", "helm-rollback", "--dry-run", "--with", "revision=x"],
            "input `revision`: found \"x\"; expected a whole number",
        ),
        (
            vec![
                "preset",
                "test",
                "helm-rollback",
                "--dry-run",
                "--with",
                "release=a",
                "--with",
                "release=b",
            ],
            "--with release is given twice",
        ),
        (
            vec!["preset", "test", "slack-message", "--dry-run", "--with", "token=xoxb-1"],
            "a secret must not stand in the configuration",
        ),
        (
            vec!["preset", "show", "vercel-rolback"],
            "there is no preset \"vercel-rolback\"; did you mean `vercel-rollback`?",
        ),
    ];
    for (arguments, words) in wrong {
        let (code, out, err) = run(&arguments).await;
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains(words) && !err.contains("xoxb"), "{err}");
    }
}

#[tokio::test]
async fn the_examples_are_carried_out() {
    let (code, out, err) = run(&["preset", "test", "vercel-rollback"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out, @"
        PRESET           EXAMPLE  RESULT  CASES
        vercel-rollback  1        ok      done, refused, lost, again, there, undone
        ");
    let (code, out, _) = run(&["preset", "test", "pg-dump", "--output", "json"]).await;
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &document[0]["result"], document[0]["cases"].as_array().unwrap().len()),
        (0, &Value::from("ok"), 4)
    );
}
