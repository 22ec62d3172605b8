//! A hosted platform's procedure goes back, in its four kinds: code with a recent migration, variables and a flag; code with
//! a backup; statements of one's own with a flag and no code.
//!
//! * `shop.rs`: what the service runs on.

mod shop;

use anyhow::Result;
use serde_json::json;

use super::rig::{BAD, GOOD};
use shop::{MIGRATION, RUNBOOK, Shop, look};

const RECENT: [&str; 4] = [
    "2. Database migration rollback, recent, step 1",
    "2. Database migration rollback, recent, step 2",
    "2. Database migration rollback, recent, step 3",
    "2. Database migration rollback, recent, step 4",
];
const VARIABLES: [&str; 4] = [
    "3. Environment variable rollback, step 1",
    "3. Environment variable rollback, step 2",
    "3. Environment variable rollback, step 3",
    "3. Environment variable rollback, step 4",
];
const FLAG: [&str; 3] = [
    "4. Feature flag rollback, step 1",
    "4. Feature flag rollback, step 2",
    "4. Feature flag rollback, step 3",
];
const BACKUP: &str = "2. Database migration rollback, critical, step 1";
const STATEMENTS: &str = "2. Database migration rollback, critical, step 2";
const MIGRATION_FAILURE: &str = "Common scenarios, 2: migration failure";

#[tokio::test]
async fn code_a_recent_migration_variables_and_a_flag_go_back() -> Result<()> {
    let mut shop = Shop::open().await?;
    let choices = json!({
        "database": "recent", "migration": MIGRATION,
        "variables": true, "variable": "CART_LIMIT", "variable_value": "20", "variable_now": "200",
        "redeploy_name": "shop", "flag": "edge_config", "edge_config": "ecfg_flags", "edge_config_backup": "v41",
    });
    let spoil = format!(
        "ALTER TABLE public.carts ADD COLUMN discount int; \
         INSERT INTO supabase_migrations.schema_migrations VALUES ('{MIGRATION}')"
    );
    let told = shop.turn_back(choices, &spoil, "approve", |platform| platform.live == BAD).await?;
    told.assert_procedure(RUNBOOK, &[BACKUP, STATEMENTS], &shop.rig.vendors);
    let columns = "SELECT string_agg(column_name, ',' ORDER BY column_name) FROM information_schema.columns WHERE table_name = 'carts'";
    assert_eq!(shop.postgres.value("shop", columns).await?.as_deref(), Some("currency,id"));
    assert!(told.output("migrations-listed").contains(MIGRATION), "{}", told.story);
    assert_eq!(shop.dumps()?, 1);
    let platform = look(&shop.platform);
    assert_eq!((platform.live.as_str(), platform.feature), (GOOD, false));
    assert_eq!(platform.variable, ["20", "20"], "the variable is set, and a build has it");
    assert!(shop.site.asked("/configuration") > 0);
    assert!(told.output("monitored").contains("good answers in 12 seconds"), "{}", told.story);
    shop.rig.assert_used();
    Ok(())
}

#[tokio::test]
async fn code_goes_back_and_a_backup_is_restored() -> Result<()> {
    let mut shop = Shop::open().await?;
    let choices = json!({
        "database": "backup", "backup_id": "4711",
        "integrity_question": "SELECT count(*) = 100 FROM public.carts WHERE currency = 'EUR'",
    });
    let spoil = "UPDATE public.carts SET currency = NULL";
    let told = shop.turn_back(choices, spoil, "approve", |platform| platform.live == BAD).await?;
    let left_out = [&RECENT[..], &VARIABLES, &FLAG, &[MIGRATION_FAILURE]].concat();
    told.assert_procedure(RUNBOOK, &left_out, &shop.rig.vendors);
    let whole = "SELECT count(*) FROM public.carts WHERE currency = 'EUR'";
    assert_eq!(shop.postgres.value("shop", whole).await?.as_deref(), Some("100"));
    assert_eq!(shop.dumps()?, 1);
    Ok(())
}

#[tokio::test]
async fn a_flag_goes_off_and_statements_repair_the_data_without_code() -> Result<()> {
    let mut shop = Shop::open().await?;
    let choices = json!({
        "code": false, "database": "statements", "flag": "unleash", "feature": "new-cart",
        "reverse_statement": "UPDATE public.carts SET currency = 'EUR' WHERE currency IS NULL",
        "integrity_question": "SELECT count(*) = 100 FROM public.carts WHERE currency = 'EUR'",
    });
    let spoil = "UPDATE public.carts SET currency = NULL WHERE id <= 10";
    let told = shop.turn_back(choices, spoil, "approve", |platform| platform.feature).await?;
    let code = [
        "1. Code rollback, step 1",
        "1. Code rollback, step 2",
        "1. Code rollback, step 3",
        "1. Code rollback, step 4",
        "Pre-rollback checklist, item 6",
    ];
    let left_out = [&code[..], &RECENT, &VARIABLES, &[BACKUP, MIGRATION_FAILURE]].concat();
    told.assert_procedure(RUNBOOK, &left_out, &shop.rig.vendors);
    let whole = "SELECT count(*) FROM public.carts WHERE currency = 'EUR'";
    assert_eq!(shop.postgres.value("shop", whole).await?.as_deref(), Some("100"));
    assert_eq!(look(&shop.platform).live, BAD, "the code stays");
    Ok(())
}
