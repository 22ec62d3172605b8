//! The crash matrix: at each of nine boundaries of a step the agent is killed, aborts, or stands still for longer than
//! the step may take, for every family of actions on its real server. What really happened is told by the target itself,
//! never by the agent: no effect happens twice, and no plan ends in silence.
//!
//! `make test` runs a sample: every boundary for programs, killed, and one boundary for each other family.
//! `make test-crash` runs all of it and prints a line for each cell.

mod cell;
mod matrix;

use anyhow::Result;
use cell::{Boundary, Cell, Way};
use matrix::{Who, run_all};

#[tokio::test]
async fn a_keyed_step_happens_once_wherever_the_agent_is_killed() -> Result<()> {
    run_all(Boundary::ALL.map(|boundary| Cell { who: Who::Command, boundary, way: Way::Kill, second: None }))
        .await
}

#[tokio::test]
async fn a_one_shot_step_happens_at_most_once_wherever_the_agent_is_killed() -> Result<()> {
    run_all(Boundary::ALL.map(|boundary| Cell { who: Who::OneShot, boundary, way: Way::Kill, second: None }))
        .await
}

/// One boundary and one way for each family that is not in the two tests above, the nastier ones.
#[tokio::test]
async fn an_agent_that_ends_or_stands_still_acts_once_in_every_family() -> Result<()> {
    run_all(
        [
            (Who::Http, Boundary::BeforeReply, Way::Kill),
            (Who::Git, Boundary::BeforeReply, Way::Abort),
            (Who::Sql, Boundary::InDispatch, Way::Pause),
            (Who::Redis, Boundary::InCompensation, Way::Kill),
            (Who::Kubernetes, Boundary::BeforeReply, Way::Kill),
            (Who::Command, Boundary::BeforeDispatch, Way::Pause),
        ]
        .map(|(who, boundary, way)| Cell { who, boundary, way, second: None }),
    )
    .await
}

#[tokio::test]
#[ignore = "minutes long: `make test-crash`"]
async fn the_whole_matrix() -> Result<()> {
    let mut cells = Vec::new();
    for who in Who::ALL {
        for boundary in Boundary::ALL {
            for way in [Way::Kill, Way::Abort, Way::Pause] {
                cells.push(Cell { who, boundary, way, second: None });
            }
        }
    }
    run_all(cells).await
}

/// A crash while the agent recovers from one.
#[tokio::test]
#[ignore = "minutes long: `make test-crash`"]
async fn every_pair_of_crashes() -> Result<()> {
    let mut cells = Vec::new();
    for who in [Who::Command, Who::OneShot] {
        for boundary in Boundary::ALL {
            for second in Boundary::ALL {
                if second.point().is_some() && second != Boundary::InCompensation {
                    cells.push(Cell { who, boundary, way: Way::Kill, second: Some(second) });
                }
            }
        }
    }
    run_all(cells).await
}

#[tokio::test]
async fn a_step_that_takes_the_agent_down_three_times_is_stuck() -> Result<()> {
    cell::three_times(Boundary::BeforeDispatch).await
}

#[tokio::test]
async fn an_agent_that_stands_still_beyond_the_plans_time_begins_nothing() -> Result<()> {
    cell::beyond_the_plans_time().await
}
