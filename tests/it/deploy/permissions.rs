//! permissions.md: it leaves nothing out, and what it tells people to type is enough and not more.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use rules::action::{ActionSpec, EffectClass};
use rules::preset::{PRESETS, shipped_preset};
use tests::postgres::PostgresServer;
use tests::redis::RedisServer;
use tests::steps::{Rig, kind, words};

use super::{names, read};

fn document() -> Result<String> {
    read("permissions.md")
}

/// What stands in the fence of a language.
fn block(text: &str, language: &str) -> Result<String> {
    let begin = format!("\n```{language}\n");
    let rest = text.split_once(&begin).with_context(|| format!("no ```{language} block"))?.1;
    Ok(rest.split_once("\n```").context("a block without an end")?.0.to_owned())
}

#[test]
fn every_family_and_every_vendor_has_its_place() -> Result<()> {
    // The reader itself tells which families there are, so that none that comes later is forgotten.
    let refused = serde_json::from_str::<ActionSpec>(r#"{"nonsense": {}}"#);
    let known = refused.err().context("an action of the family nonsense")?.to_string();
    let families: Vec<&str> = known.split('`').skip(3).step_by(2).collect();
    assert!(families.len() >= 6, "{known}");
    let text = document()?;
    for family in families {
        assert!(text.contains(&format!("\nFamily `{family}`")), "permissions.md has no part for {family}");
    }
    let mut cells = BTreeSet::new();
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let first = row.trim_start_matches("| ").split(" | ").next().unwrap_or_default();
        cells.extend(first.split(", ").map(str::to_owned));
    }
    for (name, _) in PRESETS {
        let vendor = shipped_preset(name).with_context(|| format!("the preset {name}"))?.vendor;
        assert!(cells.contains(&vendor), "permissions.md does not say what {name} needs of {vendor}");
    }
    Ok(())
}

/// Verbs and resources of the rows `| `get`, `list` on pods, deployments | …`.
fn explained(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("| `")) {
        let Some((verbs, resources)) = row.split(" | ").next().and_then(|cell| cell.split_once("` on "))
        else {
            continue;
        };
        for verb in verbs.split("`, `") {
            found.extend(resources.split(", ").map(|resource| (verb.to_owned(), resource.to_owned())));
        }
    }
    found
}

#[test]
fn every_right_of_the_manifests_is_explained_and_no_other() -> Result<()> {
    let text = document()?;
    let part =
        text.split("\n## ").find(|part| part.starts_with("Kubernetes\n")).context("no part Kubernetes")?;
    let mut given = BTreeSet::new();
    for name in names("kubernetes", ".yaml")? {
        for object in read(&format!("kubernetes/{name}"))?.split("\n---\n") {
            let object: serde_json::Value = serde_saphyr::from_str(object)?;
            for rule in object["rules"].as_array().into_iter().flatten() {
                for (verb, resource) in pairs(&rule["verbs"], &rule["resources"]) {
                    given.insert((verb, resource));
                }
            }
        }
    }
    assert!(given.len() >= 18, "{given:?}");
    assert_eq!(explained(part), given);
    Ok(())
}

fn pairs(verbs: &serde_json::Value, resources: &serde_json::Value) -> Vec<(String, String)> {
    let words = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| Some(one.as_str()?.to_owned())).collect()
    };
    let resources = words(resources);
    words(verbs).iter().flat_map(|verb| resources.iter().map(|one| (verb.clone(), one.clone()))).collect()
}

/// One operation in the name of a role of the document, whose password is the document's.
fn sql(server: &PostgresServer, role: &str, operation: &str) -> Result<Rig> {
    let url = format!("postgres://{role}:change-me@127.0.0.1:{}/shop?sslmode=disable", server.port());
    let action = format!("sql: {{ url: {{ env: U }}, operation: {operation} }}");
    Rig::of_class(&action, EffectClass::Lookup, &[("U", &url)])
}

#[tokio::test]
async fn the_roles_of_postgresql_are_enough_and_not_more() -> Result<()> {
    let server = PostgresServer::start().await?;
    let before = "CREATE ROLE shop_owner; GRANT CREATE, USAGE ON SCHEMA public TO shop_owner; SET ROLE shop_owner; \
                  CREATE TABLE schema_migrations (version varchar PRIMARY KEY); \
                  INSERT INTO schema_migrations VALUES ('1'), ('2'); \
                  CREATE TABLE added (a int); CREATE TABLE orders (id int); \
                  CREATE TABLE flags (name text PRIMARY KEY, value boolean); \
                  INSERT INTO flags VALUES ('maintenance', false)";
    server.run("shop", before).await?;
    server.run("shop", &block(&document()?, "sql")?).await?;

    let looking = "{ migrations: { tool: dbmate, newest: '2' } }";
    assert_eq!(kind(&sql(&server, "turnback", looking)?.first().await), "there already");
    let switch = "{ maintenance: { turn: set, is_set: { sql: \"SELECT value FROM flags WHERE name = 'maintenance'\" }, \
                  set: { sql: \"UPDATE flags SET value = true WHERE name = 'maintenance'\" }, \
                  unset: { sql: \"UPDATE flags SET value = false WHERE name = 'maintenance'\" } } }";
    let outcome = sql(&server, "turnback", switch)?.first().await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    let down = "{ down: { tool: dbmate, version: '2', sql: DROP TABLE added } }";
    for (role, operation) in [
        ("turnback", "{ statement: { statements: [{ sql: DELETE FROM flags }] } }"),
        ("turnback", "{ statement: { statements: [{ sql: UPDATE orders SET id = 1 }] } }"),
        ("turnback", "{ statement: { statements: [{ sql: CREATE TABLE mine (a int) }] } }"),
        ("turnback", down),
        ("turnback_backup", down),
    ] {
        // All steps here have one key, and the first one that was done has taken it.
        server.run("shop", "DELETE FROM turnback_fence").await?;
        let outcome = sql(&server, role, operation)?.first().await;
        assert_eq!(kind(&outcome), "failed, permanent", "{role}: {operation}: {outcome:?}");
        assert!(
            ["permission denied", "must be owner"].iter().any(|one| words(&outcome).contains(one)),
            "{outcome:?}"
        );
    }
    assert_eq!(
        server.value("shop", "SELECT max(version) FROM schema_migrations").await?.as_deref(),
        Some("2")
    );
    let outcome = sql(&server, "turnback_migrations", down)?.first().await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    assert_eq!(server.value("shop", "SELECT to_regclass('added')").await?, None);

    let folder = tempfile::tempdir()?;
    let (directory, programs) = (folder.path().display(), server.programs().display());
    let backup = format!("{{ backup: {{ directory: {directory}, name: shop, programs: {programs} }} }}");
    let outcome = sql(&server, "turnback_backup", &backup)?.first().await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    let outcome = sql(&server, "turnback", &backup.replace("name: shop", "name: other"))?.first().await;
    assert!(kind(&outcome).starts_with("failed"), "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn the_user_of_redis_is_enough_and_not_more() -> Result<()> {
    let server = RedisServer::start(&[]).await?;
    for command in ["SET page:1 x", "SET flags:old on", "RPUSH rq:queue:default a", "SET theirs x"] {
        server.say::<::redis::Value>(command).await?;
    }
    for line in block(&document()?, "redis")?.lines() {
        server.say::<String>(line).await.with_context(|| line.to_owned())?;
    }
    let (_, place) =
        server.url().split_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).context("an address")?;
    let url = format!("redis://turnback:change-me@{place}");
    let run = async |operation: &str| {
        let action = format!("redis: {{ url: {{ env: U }}, operation: {operation} }}");
        Ok::<_, anyhow::Error>(Rig::new(&action, &[("U", &url)])?.first().await)
    };
    for (operation, expected) in [
        ("{ rq_suspend: { duration: 10m } }", "done"),
        ("rq_resume", "done"),
        ("{ depth: { queue: { rq: default }, at_most: 1 } }", "there already"),
        ("{ set: { key: 'flags:new', value: 'off' } }", "done"),
        ("{ delete: { key: 'flags:old' } }", "done"),
        ("{ delete_pattern: { pattern: 'page:*', at_most: 10 } }", "done"),
    ] {
        let outcome = run(operation).await?;
        assert_eq!(kind(&outcome), expected, "{operation}: {outcome:?}");
    }
    for operation in [
        "{ delete: { key: theirs } }",
        "{ set: { key: theirs, value: y } }",
        "{ delete_pattern: { pattern: 'theirs*', at_most: 9 } }",
    ] {
        let outcome = run(operation).await?;
        assert!(kind(&outcome).starts_with("failed"), "{operation}: {outcome:?}");
        assert!(words(&outcome).to_lowercase().contains("permission"), "{operation}: {outcome:?}");
    }
    assert_eq!(server.say::<String>("GET theirs").await?, "x");
    Ok(())
}
