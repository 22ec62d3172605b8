//! What is wrong with the configuration of a hook is told by its key, and secrets are replaced without a gap.

use super::*;

#[test]
fn problems_of_the_configuration_name_their_keys() {
    let table = [
        ("{preset: githup, secret: {env: S}, services: [a]}", "preset", "there is no preset \"githup\""),
        ("{preset: github, services: [a]}", "", "write `credential`, or only `secret`"),
        ("{services: [a], secret: {env: S}}", "secret", "does not say how the sender proves itself"),
        (
            "{preset: github, secret: {env: S}, credential: {nobody: {}}, services: [a]}",
            "secret",
            "stands beside",
        ),
        ("{preset: github, secret: {file: x}, services: [a]}", "secret", "absolute path"),
        (
            "{preset: github, secret: {env: S}, old_secret: {env: ''}, services: [a]}",
            "old_secret",
            "environment variable",
        ),
        ("{preset: github, secret: {env: S}, services: []}", "services", "is empty"),
        (
            "{preset: github, secret: {env: S}, services: [a], values: {brnch: x}}",
            "values.brnch",
            "has no value `brnch`; it has branch",
        ),
        ("{credential: {nobody: {}}, services: [a]}", "mapping", "has no rules"),
        ("{credential: {nobody: {}}, services: [a], mapping: [{name: x}]}", "mapping.0", "gives 0 things"),
        (
            "{credential: {nobody: {}}, services: [a], mapping: [{name: x, when: 'bdy == 1', nothing: x}]}",
            "mapping.0.when",
            "column 1: there is no variable `bdy`",
        ),
        (
            "{credential: {nobody: {}}, services: [a], mapping: [{name: x, deployment: {service: 'body.', version: body.v}}]}",
            "mapping.0.deployment.service",
            "column",
        ),
        (
            "{credential: {nobody: {}}, services: [a], mapping: [{name: x, deployment: {version: body.v}}]}",
            "mapping.0.deployment.service",
            "is empty",
        ),
        (
            "{credential: {nobody: {}}, services: [a], mapping: [{name: x, nothing: y}, {name: x, nothing: y}]}",
            "mapping.1.name",
            "used before",
        ),
        (
            "{credential: {hmac: {secret: {env: S}, header: x, signs: '{body'}}, services: [a], preset: github}",
            "credential.hmac.signs",
            "brace",
        ),
        (
            "{credential: {hmac: {secret: {env: S}, header: x, signs: '{timestamp}{body}'}}, services: [a], preset: github}",
            "credential.hmac.signs",
            "exactly when `timestamp_header`",
        ),
    ];
    for (yaml, key, words) in table {
        let config: HookConfig =
            serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
        let problems = config.problems();
        let found = problems.iter().any(|(at, text)| at.starts_with(key) && text.contains(words));
        assert!(found, "{yaml}: {problems:#?}");
        let error =
            config.hook(SourceName::new("h").unwrap(), |_| Ok(SECRET.into())).unwrap_err().to_string();
        assert!(error.contains("`h`") && !error.contains(SECRET), "{error}");
    }
    let weak: HookConfig =
        serde_saphyr::from_str("{preset: github, secret: {env: S}, services: [a]}").unwrap();
    let error = weak.hook(SourceName::new("h").unwrap(), |_| Ok("short".into())).unwrap_err().to_string();
    assert!(error.contains("secret: has 5 bytes") && !error.contains("hmac"), "{error}");
}

#[test]
fn the_secret_before_is_good_while_the_sender_is_moved() {
    let yaml = "{preset: github, secret: {env: NEW}, old_secret: {env: OLD}, services: [checkout]}";
    let config: HookConfig = serde_saphyr::from_str(yaml).unwrap();
    let read = |secret: &rules::action::SecretRef| match secret {
        rules::action::SecretRef::Env(name) if name == "OLD" => Ok(SECRET.to_owned()),
        _ => Ok("a-new-secret-0123456789".to_owned()),
    };
    let both = config.hook(SourceName::new("h").unwrap(), read).unwrap();
    assert!(send_to(both, GITHUB, samples()[0].2).prove(0).is_ok());
}

#[test]
fn a_large_group_of_grafana_is_read_whole_and_a_foreign_alert_in_it_costs_the_others_nothing() {
    let alert = |number: usize| {
        json!({
            "status": "firing", "fingerprint": format!("{number:016x}"), "startsAt": "2026-03-20T14:22:00Z",
            "labels": { "alertname": "Errors", "service": if number == 7 { "bank" } else { "checkout" } },
            "annotations": { "description": "x".repeat(400) }
        })
    };
    let alerts: Vec<Value> = (0..1_200).map(alert).collect();
    let body = json!({ "version": "1", "alerts": alerts }).to_string();
    assert!(body.len() > 600 * 1024);
    let heard = send(GRAFANA, &body).read().unwrap();
    assert_eq!((heard.accepted.len(), heard.left_out.foreign, heard.notes.len()), (1_199, 1, 0));
    assert!(
        heard.accepted[0].notes[0].contains("1 about the service `bank`"),
        "{:?}",
        heard.accepted[0].notes
    );
    let refused = send(GITHUB, &body).read().unwrap_err();
    assert_eq!(refused.status, 413, "a hook that has no alerts takes less: {refused}");
    let foreign = json!({ "version": "1", "alerts": [alert(7)] }).to_string();
    assert_eq!(send(GRAFANA, &foreign).read().unwrap_err().status, 403);
}
