//! Turnback as a judge of the bench: the one place where the engine is plugged in.

use crate::bench::scenarios::{Method, Scenario};
use crate::bench::{ALPHA, WATCH_SECONDS};
use crate::judge::{Alarm, Judge};
use crate::traffic::Look;
use rules::stats::{Direction, ProportionTest};

/// Turnback's judge of a scenario, with one of its methods; `None` for a method that is not plugged in.
#[must_use]
pub fn turnback(_scenario: &Scenario, method: Method) -> Option<Box<dyn Judge>> {
    match method {
        Method::Absolute(percent) => {
            let level = f64::from(percent) / 100.0;
            let test = ProportionTest::new(level, WATCH_SECONDS, Direction::Worse).ok()?;
            Some(Box::new(Absolute(test)))
        }
        _ => None,
    }
}

/// Errors of the canary against a level.
struct Absolute(ProportionTest);

impl Judge for Absolute {
    fn look(&mut self, block: &Look) -> Option<Alarm> {
        let (bad, total) = (block.canary.errors() as f64, block.canary.requests() as f64);
        let log_e = self.0.update(bad, total, block.seconds).ok()?;
        (log_e >= -ALPHA.ln()).then_some(Alarm { because: "errors above the level" })
    }
}
