//! The action `sql` on a real PostgreSQL: all or nothing, once, and looked up where nobody can know.

mod dump;

use anyhow::Result;
use rules::action::{EffectClass, StepOutcome};
use rules::rehearsal::Tried;
use sqlx::Connection as _;
use std::time::Duration;
use tests::cutter::{Cutter, Fate};
use tests::postgres::PostgresServer;
use tests::steps::{Rig, kind, words};

fn rig_at(url: &str, operation: &str) -> Result<Rig> {
    rig_of(url, operation, EffectClass::Lookup, "")
}

fn rig_of(url: &str, operation: &str, class: EffectClass, more: &str) -> Result<Rig> {
    Rig::of_class(
        &format!("sql: {{ url: {{ env: U }}, operation: {operation}{more} }}"),
        class,
        &[("U", url)],
    )
}

fn rig(server: &PostgresServer, operation: &str) -> Result<Rig> {
    rig_at(&server.url("shop"), operation)
}

async fn assert_value(server: &PostgresServer, query: &str, expected: Option<&str>) -> Result<()> {
    assert_eq!(server.value("shop", query).await?.as_deref(), expected, "{query}");
    Ok(())
}

const FENCES: &str =
    "SELECT count(*) FROM turnback_fence WHERE key = 'p-1-0123abcd' AND plan = 'p-1' AND step = 'turn'";

/// The tools, each with what its table looks like after the migrations 1, 9 and 10, and how to see that 10 is gone.
const TOOLS: [(&str, &str, &str); 5] = [
    (
        "sqlx",
        "CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, description text, installed_on timestamptz DEFAULT now(), \
         success boolean, checksum bytea, execution_time bigint); \
         INSERT INTO _sqlx_migrations (version, success) VALUES (1, true), (9, true), (10, true)",
        "SELECT max(version) FROM _sqlx_migrations",
    ),
    (
        "golang_migrate",
        "CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean); INSERT INTO schema_migrations VALUES (10, false)",
        "SELECT max(version) FROM schema_migrations",
    ),
    (
        "dbmate",
        "CREATE TABLE schema_migrations (version varchar PRIMARY KEY); INSERT INTO schema_migrations VALUES ('1'), ('9'), ('10')",
        "SELECT max(version::int) FROM schema_migrations",
    ),
    (
        "rails",
        "CREATE SCHEMA supabase; CREATE TABLE supabase.migrations (version text); INSERT INTO supabase.migrations VALUES ('1'), ('9'), ('10')",
        "SELECT max(version::int) FROM supabase.migrations",
    ),
    (
        "drizzle",
        "CREATE SCHEMA drizzle; CREATE TABLE drizzle.__drizzle_migrations (id serial, hash text, created_at bigint); \
         INSERT INTO drizzle.__drizzle_migrations (created_at) VALUES (1), (9), (10)",
        "SELECT max(created_at) FROM drizzle.__drizzle_migrations",
    ),
];

#[tokio::test]
async fn a_dry_run_takes_a_migration_back_and_keeps_nothing_of_it() -> Result<()> {
    let server = PostgresServer::start().await?;
    let tables = "CREATE TABLE schema_migrations (version varchar PRIMARY KEY); \
        INSERT INTO schema_migrations VALUES ('1'), ('9'); CREATE TABLE rates (n int)";
    server.run("shop", tables).await?;
    let down = |version: &str, sql: &str| {
        let operation = format!(
            "{{ down: {{ tool: dbmate, table: schema_migrations, version: '{version}', sql: '{sql}' }} }}"
        );
        rig(&server, &operation)
    };
    let works = down("9", "DROP TABLE rates;")?;
    let tried = works.rehearse().await;
    assert!(matches!(&tried, Tried::Works { how } if how.contains("rolled back")), "{tried:?}");
    assert_value(&server, "SELECT count(*) FROM schema_migrations", Some("2")).await?;
    assert_value(&server, "SELECT to_regclass('rates')::text", Some("rates")).await?;
    assert_value(&server, "SELECT to_regclass('turnback_fence')::text", None).await?;
    for (version, sql, part) in
        [("1", "DROP TABLE rates;", "not the newest"), ("9", "DROP TABLE tariffs;", "does not exist")]
    {
        let tried = down(version, sql)?.rehearse().await;
        assert!(matches!(&tried, Tried::Fails { reason } if reason.contains(part)), "{tried:?}");
    }
    // Somebody at work is no reason against it: whether it will be free in time, nobody knows.
    let mut other = sqlx::PgConnection::connect(&server.url("shop")).await?;
    let mut theirs = other.begin().await?;
    sqlx::query("LOCK TABLE rates").execute(&mut *theirs).await?;
    let tried = works.rehearse().await;
    assert!(matches!(&tried, Tried::Unclear { reason } if reason.contains("lock")), "{tried:?}");
    theirs.rollback().await?;
    let outcome = works.first().await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    assert_eq!(works.rehearse().await, Tried::AlreadyThere);
    Ok(())
}

#[tokio::test]
async fn a_migration_of_each_tool_is_taken_back_with_its_row_once() -> Result<()> {
    let server = PostgresServer::start().await?;
    for (tool, setup, newest) in TOOLS {
        server.run("postgres", "DROP DATABASE shop WITH (FORCE)").await?;
        server.run("postgres", "CREATE DATABASE shop").await?;
        server.run("shop", setup).await?;
        server.run("shop", "CREATE TABLE added (a int)").await?;
        let table = if tool == "rails" { "table: supabase.migrations, " } else { "" };
        let previous = if tool == "golang_migrate" { "previous: '9', " } else { "" };
        let down = |version: &str, sql: &str| {
            format!("{{ down: {{ tool: {tool}, {table}{previous}version: '{version}', sql: \"{sql}\" }} }}")
        };
        let state = |newest: &str| format!("{{ migrations: {{ tool: {tool}, {table}newest: '{newest}' }} }}");
        assert_eq!(kind(&rig(&server, &state("10"))?.first().await), "there already", "{tool}");
        assert_eq!(kind(&rig(&server, &state("9"))?.first().await), "failed, permanent", "{tool}");

        // Half of it fails: all of it is as it was.
        let outcome = rig(&server, &down("10", "DROP TABLE added; DROP TABLE nowhere"))?.first().await;
        assert_eq!(kind(&outcome), "failed, permanent", "{tool}: {outcome:?}");
        assert!(words(&outcome).contains("nowhere"), "{outcome:?}");
        assert_value(&server, newest, Some("10")).await?;
        assert_value(&server, "SELECT count(*) FROM added", Some("0")).await?;
        assert_value(&server, FENCES, Some("0")).await?;

        let rig = rig(&server, &down("10", "BEGIN; DROP TABLE added; -- gone\\n COMMIT;"))?;
        let outcome = rig.first().await;
        assert_eq!(kind(&outcome), "done", "{tool}: {outcome:?}");
        assert_value(&server, newest, Some("9")).await?;
        assert_value(&server, "SELECT to_regclass('added')", None).await?;
        assert_value(&server, FENCES, Some("1")).await?;
        for outcome in [rig.first().await, rig.again().await] {
            assert_eq!(kind(&outcome), "there already", "{tool}: {outcome:?}");
        }
        assert_value(&server, newest, Some("9")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn only_the_newest_whole_migration_is_taken_back_and_only_as_approved() -> Result<()> {
    let server = PostgresServer::start().await?;
    server.run("shop", TOOLS[0].1).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("1.4.0.sql");
    std::fs::write(
        &file,
        "-- migrate:up\nDROP TABLE _sqlx_migrations;\n-- migrate:down\nCREATE TABLE downed ();\n",
    )?;
    let file = file.display().to_string().replace("1.4.0", "{{from.version}}");
    let sum = "0".repeat(64);
    let cases = [
        ("version: '9', sql: SELECT 1".to_owned(), "is not the newest, 10 is"),
        ("version: '11', sql: SELECT 1".into(), "is not applied"),
        ("version: '1 OR true', sql: SELECT 1".into(), "is not applied"),
        ("version: '10', file: /nonexistent.sql".into(), "cannot read"),
        (format!("version: '10', file: '{file}', sha256: '{sum}'"), "was approved"),
    ];
    for (more, expected) in cases {
        let outcome = rig(&server, &format!("{{ down: {{ tool: sqlx, {more} }} }}"))?.first().await;
        assert_eq!(kind(&outcome), "failed, permanent", "{more}: {outcome:?}");
        assert!(words(&outcome).contains(expected), "{more}: {outcome:?}");
    }
    // A deferred constraint speaks up at COMMIT.
    let deferred = "CREATE TABLE a (x int PRIMARY KEY, y int REFERENCES a DEFERRABLE INITIALLY DEFERRED); INSERT INTO a VALUES (1, 2)";
    let outcome = rig(&server, &format!("{{ down: {{ tool: sqlx, version: '10', sql: '{deferred}' }} }}"))?
        .first()
        .await;
    assert_eq!(kind(&outcome), "failed, permanent", "{outcome:?}");
    assert!(words(&outcome).contains("refuses to commit"), "{outcome:?}");
    assert_value(&server, FENCES, Some("0")).await?;

    server.run("shop", "UPDATE _sqlx_migrations SET success = false WHERE version = 9").await?;
    let good = format!("{{ down: {{ tool: sqlx, version: '10', file: '{file}' }} }}");
    let outcome = rig(&server, &good)?.first().await;
    assert!(words(&outcome).contains("9 failed half way"), "{outcome:?}");
    server.run("shop", "UPDATE _sqlx_migrations SET success = true").await?;
    let outcome = rig(&server, &good)?.first().await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    assert_value(&server, "SELECT to_regclass('downed')::text", Some("downed")).await?;
    Ok(())
}

const ADD_ONE: &str =
    "{ statement: { statements: [{ sql: 'UPDATE counter SET n = n + 1 WHERE true', rows: 1 }] } }";

async fn counter(server: &PostgresServer) -> Result<()> {
    server.run("shop", "CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)").await
}

#[tokio::test]
async fn a_lock_that_is_not_free_is_a_certain_failure_that_may_pass() -> Result<()> {
    let server = PostgresServer::start().await?;
    counter(&server).await?;
    let mut holder = server.connect("shop").await?;
    let mut holding = holder.begin().await?;
    sqlx::query("LOCK TABLE counter").execute(&mut *holding).await?;
    let limited = rig_of(&server.url("shop"), ADD_ONE, EffectClass::Lookup, ", lock_timeout: 300ms")?;
    let outcome = limited.first().await;
    assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
    assert!(words(&outcome).contains("somebody holds a lock"), "{outcome:?}");

    let slow = "{ statement: { statements: [{ sql: SELECT pg_sleep(60) }] } }";
    let outcome =
        rig_of(&server.url("shop"), slow, EffectClass::Lookup, ", statement_timeout: 300ms")?.first().await;
    assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
    assert!(words(&outcome).contains("statement_timeout"), "{outcome:?}");

    // The kill switch does not wait for the lock.
    let patient = rig(&server, ADD_ONE)?;
    let pull = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        patient.switch.send_replace(true);
        std::time::Instant::now()
    };
    let (outcome, pulled) = tokio::join!(patient.first(), pull);
    assert!(pulled.elapsed() < Duration::from_secs(5), "{:?}", pulled.elapsed());
    assert_eq!(kind(&outcome), "not begun", "{outcome:?}");
    holding.rollback().await?;
    assert_value(&server, "SELECT n FROM counter", Some("0")).await?;
    assert_eq!(kind(&limited.first().await), "done");
    assert_value(&server, "SELECT n FROM counter", Some("1")).await?;
    Ok(())
}

#[tokio::test]
async fn a_connection_that_breaks_at_commit_leaves_one_effect_whatever_happened() -> Result<()> {
    let server = PostgresServer::start().await?;
    let cutter = Cutter::start(server.port()).await?;
    // Where COMMIT is late, the row is not there when it is looked for; the next attempt meets it at the fence.
    let fates = [
        (Fate::Lost, "0", "done"),
        (Fate::AnswerLost, "1", "there already"),
        (Fate::Late(Duration::from_secs(10)), "0", "there already"),
    ];
    for (number, (fate, before, then)) in fates.into_iter().enumerate() {
        server.run("shop", "DROP TABLE IF EXISTS counter, turnback_fence").await?;
        counter(&server).await?;
        // Longer than a late one takes to arrive.
        let url = server.url_through(cutter.port(), "shop");
        let rig = rig_of(&url, ADD_ONE, EffectClass::Lookup, ", lock_timeout: 40s")?;
        cutter.arm(fate);
        let outcome = rig.first().await;
        assert_eq!(cutter.hits(), number + 1, "the fault was not injected");
        assert_eq!(kind(&outcome), "unknown", "{fate:?}: {outcome:?}");
        assert_value(&server, "SELECT n FROM counter", Some(before)).await?;
        let outcome = rig.again().await;
        assert_eq!(kind(&outcome), then, "{fate:?}: {outcome:?}");
        assert_eq!(kind(&rig.again().await), "there already", "{fate:?}");
        assert_value(&server, "SELECT n FROM counter", Some("1")).await?;
        assert_value(&server, FENCES, Some("1")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_attempts_at_once_have_one_effect() -> Result<()> {
    let server = PostgresServer::start().await?;
    counter(&server).await?;
    server.run("shop", "CREATE TABLE turnback_fence (key text PRIMARY KEY, plan text, step text, done_at timestamptz DEFAULT now())").await?;
    let slowly = "{ statement: { statements: [{ sql: 'UPDATE counter SET n = n + 1 WHERE true' }, { sql: 'SELECT pg_sleep(1)' }] } }";
    let (one, other) = (rig(&server, slowly)?, rig(&server, slowly)?);
    let (one, other) = tokio::join!(one.first(), other.again());
    let mut kinds = [kind(&one), kind(&other)];
    kinds.sort_unstable();
    assert_eq!(kinds, ["done", "there already"], "{one:?} {other:?}");
    assert_value(&server, "SELECT n FROM counter", Some("1")).await?;
    Ok(())
}

#[tokio::test]
async fn values_from_outside_are_values() -> Result<()> {
    let server = PostgresServer::start().await?;
    server.run("shop", "CREATE TABLE production_notes (note text); CREATE TABLE secret (x int)").await?;
    let corpus = [
        "'; DROP TABLE secret; --",
        "1 OR 1=1",
        "\" OR \"\"=\"",
        "$$; DROP TABLE secret; $$",
        "\\'; DROP TABLE secret; --",
        "') ; DELETE FROM secret; --",
        "{{plan}}",
        "${table}",
        "%s%n",
        "\u{2019}; DROP TABLE secret",
        "'||(SELECT 1)||'",
        "/*",
        "*/; TRUNCATE secret; /*",
        "E'\\x27'",
        "';SELECT pg_sleep(60)--",
        "",
    ];
    let insert = "{ statement: { statements: [{ sql: 'INSERT INTO ${table} VALUES ($1)', parameters: [x], rows: 1, \
                  identifiers: { table: { name: '{{environment}}_notes', one_of: [production_notes] } } }] } }";
    for (number, evil) in corpus.iter().enumerate() {
        let mut rig = rig(&server, insert)?;
        rig.step.key = format!("p-1-{number}");
        let rules::action::ActionSpec::Sql(spec) = &mut rig.step.action else { panic!("not sql") };
        let rules::action::sql::SqlOperation::Statement(all) = &mut spec.operation else {
            panic!("no statement")
        };
        all.statements[0].parameters[0] = (*evil).into();
        assert_eq!(kind(&rig.first().await), "done", "{evil:?}");
        assert_value(
            &server,
            &format!(
                "SELECT count(*) FROM production_notes WHERE note = convert_from('\\x{}', 'UTF8')",
                hex::encode(evil)
            ),
            Some("1"),
        )
        .await?;

        let rules::action::ActionSpec::Sql(spec) = &mut rig.step.action else { panic!("not sql") };
        let rules::action::sql::SqlOperation::Statement(all) = &mut spec.operation else {
            panic!("no statement")
        };
        all.statements[0].identifiers.values_mut().for_each(|one| one.name = (*evil).into());
        rig.step.key = format!("p-2-{number}");
        assert_eq!(kind(&rig.first().await), "failed, permanent", "{evil:?}");
    }
    assert_value(&server, "SELECT count(*) FROM production_notes", Some(&corpus.len().to_string())).await?;
    assert_value(&server, "SELECT count(*) FROM secret", Some("0")).await?;
    Ok(())
}

#[tokio::test]
async fn statements_are_all_or_none_and_those_outside_of_transactions_stand_alone() -> Result<()> {
    let server = PostgresServer::start().await?;
    counter(&server).await?;
    let two = "{ statement: { statements: [{ sql: 'UPDATE counter SET n = $1 WHERE true', parameters: [7] }, \
               { sql: 'UPDATE counter SET n = 8 WHERE n = $1::text::int', parameters: ['6'], rows: 1 }] } }";
    let outcome = rig(&server, two)?.first().await;
    assert_eq!(kind(&outcome), "failed, permanent", "{outcome:?}");
    assert!(words(&outcome).contains("statement 2 changed 0 rows and should change 1"), "{outcome:?}");
    assert_value(&server, "SELECT n FROM counter", Some("0")).await?;

    let index = "{ statement: { statements: [{ sql: CREATE INDEX CONCURRENTLY by_n ON counter (n) }] } }";
    assert!(rig(&server, index).is_err(), "without one_shot the configuration is refused");
    let alone = rig_of(&server.url("shop"), index, EffectClass::OneShot, "")?;
    assert_eq!(kind(&alone.first().await), "done");
    assert_value(&server, "SELECT to_regclass('by_n')::text", Some("by_n")).await?;
    assert_eq!(kind(&alone.again().await), "unknown", "a one-shot step is not tried again");
    // It failed half way (the name is taken), or not at all: nobody is told that nothing happened.
    assert_eq!(
        kind(&rig_of(&server.url("shop"), index, EffectClass::OneShot, "")?.first().await),
        "failed, permanent"
    );
    let unique =
        "{ statement: { statements: [{ sql: CREATE UNIQUE INDEX CONCURRENTLY u ON counter ((1)) }] } }";
    server.run("shop", "INSERT INTO counter VALUES (1)").await?;
    let outcome = rig_of(&server.url("shop"), unique, EffectClass::OneShot, "")?.first().await;
    assert_eq!(kind(&outcome), "unknown", "an invalid index is left behind: {outcome:?}");
    assert_value(&server, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'u'::regclass", Some("false"))
        .await?;
    Ok(())
}

#[tokio::test]
async fn checks_see_what_a_user_sees_and_the_maintenance_switch_goes_both_ways() -> Result<()> {
    let server = PostgresServer::start().await?;
    server
        .run(
            "shop",
            "CREATE TABLE orders (owner text); INSERT INTO orders VALUES ('ada'), ('bob'); \
             ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE ROLE customer; GRANT SELECT ON orders TO customer; \
             CREATE POLICY own ON orders USING (owner = current_setting('app.user')); \
             CREATE TABLE flags (name text PRIMARY KEY, value boolean)",
        )
        .await?;
    let count = |more: &str| {
        format!("{{ check: {{ ask: {{ sql: 'SELECT count(*) FROM orders -- all' }}, {more} }} }}")
    };
    let cases = [
        (count("equals: '2'"), "there already"),
        (count("equals: '1', role: customer, settings: { app.user: ada }"), "there already"),
        (count("equals: '2', role: customer, settings: { app.user: ada }"), "failed, permanent"),
        (count("equals: '1', role: nobody-there"), "failed, permanent"),
        (
            "{ check: { ask: { sql: SELECT owner FROM orders WHERE owner = $1, parameters: [eve] } } }"
                .into(),
            "failed, permanent",
        ),
        ("{ check: { ask: { sql: 'SELECT nextval($$s$$)' } } }".into(), "failed, permanent"),
    ];
    server.run("shop", "CREATE SEQUENCE s").await?;
    for (check, expected) in cases {
        let outcome = rig(&server, &check)?.first().await;
        assert_eq!(kind(&outcome), expected, "{check}: {outcome:?}");
    }
    assert_value(&server, "SELECT is_called FROM s", Some("false")).await?;

    let switch = |turn: &str| {
        format!(
            "{{ maintenance: {{ turn: {turn}, is_set: {{ sql: SELECT value FROM flags WHERE name = $1, parameters: [maintenance] }}, \
             set: {{ sql: 'INSERT INTO flags VALUES ($1, true) ON CONFLICT (name) DO UPDATE SET value = true', parameters: [maintenance] }}, \
             unset: {{ sql: UPDATE flags SET value = false WHERE name = $1, parameters: [maintenance] }} }} }}"
        )
    };
    let value = "SELECT value FROM flags WHERE name = 'maintenance'";
    assert_eq!(kind(&rig(&server, &switch("unset"))?.first().await), "there already", "it was never set");
    let set = rig(&server, &switch("set"))?;
    assert_eq!(kind(&set.first().await), "done");
    assert_value(&server, value, Some("true")).await?;
    assert_eq!(kind(&set.again().await), "there already");
    let mut unset = rig(&server, &switch("unset"))?;
    unset.step.key = "p-1-other".into();
    assert_eq!(kind(&unset.first().await), "done");
    assert_value(&server, value, Some("false")).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_or_does_not_know_us_is_told_without_the_password() -> Result<()> {
    let mut server = PostgresServer::start().await?;
    counter(&server).await?;
    let wrong = server.url("shop").replace("everything", "nothing-at-all");
    for (url, expected) in
        [(wrong, "password authentication failed"), (server.url("nowhere"), "does not exist")]
    {
        let outcome = rig_at(&url, ADD_ONE)?.first().await;
        assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
        assert!(words(&outcome).contains(expected) && !words(&outcome).contains("pass:word"), "{outcome:?}");
    }
    let outcome = rig_at("https://user:hunter2-hunter2@host/x", ADD_ONE)?.first().await;
    assert!(words(&outcome).contains("sql.url") && !words(&outcome).contains("hunter2"), "{outcome:?}");
    let rig = rig(&server, ADD_ONE)?;
    server.stop()?;
    let outcome = rig.first().await;
    assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
    assert!(matches!(rig.again().await, StepOutcome::Unknown { .. }));
    Ok(())
}
