//! Runs cells side by side and says what came of each.

use super::cell::{Cell, Ended, run};
use crate::contract::{Command, Git, Http, Kubernetes, Redis, Sql};
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Cells mostly wait: for servers to start, for the agent to look, for a pause to pass.
const AT_ONCE: usize = 5;

/// Whose step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A program that knows keys.
    Command,
    /// A program that knows nothing.
    OneShot,
    Http,
    Git,
    Sql,
    Redis,
    Kubernetes,
}

impl Who {
    pub const ALL: [Who; 7] =
        [Who::Command, Who::OneShot, Who::Http, Who::Git, Who::Sql, Who::Redis, Who::Kubernetes];
}

async fn one(cell: Cell) -> Result<Option<Ended>> {
    match cell.who {
        Who::Command => run::<Command>(cell, false).await,
        Who::OneShot => run::<Command>(cell, true).await,
        Who::Http => run::<Http>(cell, false).await,
        Who::Git => run::<Git>(cell, false).await,
        Who::Sql => run::<Sql>(cell, false).await,
        Who::Redis => run::<Redis>(cell, false).await,
        Who::Kubernetes => run::<Kubernetes>(cell, false).await,
    }
}

/// Prints a line for each cell; an error names every cell that broke a promise.
pub async fn run_all(cells: impl IntoIterator<Item = Cell>) -> Result<()> {
    let began = Instant::now();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for cell in cells {
        let place = places.clone().acquire_owned().await?;
        // A thread and a runtime each: while one waits for `initdb`, the gates of the others go on.
        running.spawn_blocking(move || {
            let _place = place;
            let began = Instant::now();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let result = runtime.context("making a runtime").and_then(|runtime| runtime.block_on(one(cell)));
            let took = began.elapsed();
            println!("{}", line(cell, &result, took));
            (cell, result)
        });
    }
    let (mut failures, mut hit) = (Vec::new(), 0);
    while let Some(ended) = running.join_next().await {
        let (cell, result) = ended?;
        hit += usize::from(matches!(result, Ok(Some(_))));
        if let Err(error) = result {
            failures.push(format!("{cell}: {error:#}"));
        }
    }
    println!("{hit} cells with a fault that was met, {} broken, in {:.0?}", failures.len(), began.elapsed());
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    ensure!(hit > 0, "not one fault was met");
    Ok(())
}

fn line(cell: Cell, result: &Result<Option<Ended>>, took: Duration) -> String {
    let words = match result {
        Ok(Some(ended)) => format!("{} + {} undone, {}", ended.seen.applied, ended.seen.undone, ended.phase),
        Ok(None) => "not possible: the step has no undo".to_owned(),
        Err(_) => "BROKEN, see below".to_owned(),
    };
    format!("{:<60} {:>4.1} s  {words}", cell.to_string(), took.as_secs_f64())
}
