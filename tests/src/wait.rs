//! Waiting for something to become true, with an end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Short enough not to slow a test down, long enough not to keep a core busy.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `check` again and again until it says `Some`, for at most `limit`; `what` completes "waited for …".
///
/// # Errors
/// If the time is over, or as soon as `check` fails: an error is not a "not yet".
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut check: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(value) = check().await? {
            return Ok(value);
        }
        if began.elapsed() > limit {
            bail!("waited {limit:?} for {what}, in vain");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
