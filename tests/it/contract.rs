//! The contract that every family of actions keeps on its real server, and one suite that holds all of them to it.
//!
//! A family says how its target is set up, what its step is, how its effects are counted from outside, how its server is
//! made to refuse, and who else changes the same object. `suite` does the rest: rehearsed, run twice, refused before, answer lost
//! after, undone twice, cancelled before and during, timed out, delivered late, overtaken by a third party. Every injected
//! fault is counted where it is injected, and a fault that was not met fails the test.
//!
//! What a family cannot have stands in its row with the reason. A new variant of [`ActionSpec`] does not compile without a
//! row in [`row`].

pub mod family;
mod suite;

mod command;
mod git;
mod http;
mod kubernetes;
mod redis;
mod sql;

pub use command::Command;
pub use git::Git;
pub use http::Http;
pub use kubernetes::Kubernetes;
pub use redis::Redis;
pub use sql::Sql;

use family::{Family, Row, Rule};
use rules::action::ActionSpec;

/// The suite for one family, as tests of their own names.
macro_rules! kept_by {
    ($name:ident, $family:ty) => {
        mod $name {
            use super::suite;

            #[tokio::test]
            async fn rehearsed_it_has_no_effect() -> anyhow::Result<()> {
                suite::rehearsed::<$family>().await
            }

            #[tokio::test]
            async fn run_twice_it_acts_once() -> anyhow::Result<()> {
                suite::twice::<$family>().await
            }

            #[tokio::test]
            async fn refused_before_it_says_so_and_a_retry_acts_once() -> anyhow::Result<()> {
                suite::refused::<$family>().await
            }

            #[tokio::test]
            async fn an_answer_lost_after_the_effect_is_found_again() -> anyhow::Result<()> {
                suite::answer_lost::<$family>().await
            }

            #[tokio::test]
            async fn undone_twice_it_is_undone_once() -> anyhow::Result<()> {
                suite::undone_twice::<$family>().await
            }

            #[tokio::test]
            async fn the_kill_switch_ends_it_before_and_during() -> anyhow::Result<()> {
                suite::cancelled::<$family>().await
            }

            #[tokio::test]
            async fn a_time_out_leaves_it_unknown_and_findable() -> anyhow::Result<()> {
                suite::timed_out::<$family>().await
            }

            #[tokio::test]
            async fn an_effect_that_arrives_late_is_not_a_second_one() -> anyhow::Result<()> {
                suite::arrives_late::<$family>().await
            }

            #[tokio::test]
            async fn a_third_party_between_look_and_write_is_respected() -> anyhow::Result<()> {
                suite::third_party::<$family>().await
            }
        }
    };
}

kept_by!(of_command, crate::contract::Command);
kept_by!(of_http, crate::contract::Http);
kept_by!(of_git, crate::contract::Git);
kept_by!(of_sql, crate::contract::Sql);
kept_by!(of_redis, crate::contract::Redis);
kept_by!(of_kubernetes, crate::contract::Kubernetes);

/// The row of the family that an action belongs to.
fn row(action: &ActionSpec) -> Row {
    match action {
        ActionSpec::Command(_) => Command::ROW,
        ActionSpec::Http(_) => Http::ROW,
        ActionSpec::Git(_) => Git::ROW,
        ActionSpec::Sql(_) => Sql::ROW,
        ActionSpec::Redis(_) => Redis::ROW,
        ActionSpec::Kubernetes(_) => Kubernetes::ROW,
    }
}

/// Every family's own step is of that family, and what a family cannot have has a reason that says something.
#[tokio::test]
async fn every_family_has_a_row_with_reasons() -> anyhow::Result<()> {
    async fn check<F: Family>() -> anyhow::Result<Row> {
        let rig = suite::Stand::<F>::new().await?.rig()?;
        let row = row(&rig.step.action);
        assert_eq!(row.name, rig.step.action.family());
        assert_eq!(row.name, F::ROW.name);
        Ok(row)
    }
    let rows = [
        check::<Command>().await?,
        check::<Http>().await?,
        check::<Git>().await?,
        check::<Sql>().await?,
        check::<Redis>().await?,
        check::<Kubernetes>().await?,
    ];
    for row in rows {
        for rule in [row.undo, row.late, row.third_party] {
            match rule {
                Rule::Kept => println!("{:<12} kept", row.name),
                Rule::NotPossible(reason) => {
                    println!("{:<12} not possible: {reason}", row.name);
                    assert!(reason.split(' ').count() > 6, "{}: {reason:?} is no reason", row.name);
                }
            }
        }
    }
    Ok(())
}
