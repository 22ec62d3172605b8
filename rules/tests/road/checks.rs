//! Steps that only ask: a "no" behind what was turned back calls a person, and brings no bad release back.

use super::*;
use rules::deployment::Change;
use rules::execution::ExecutionEnd;

/// A queue is paused, the release goes back, and a check says no: the steps, whether each only asks, what each undoes.
fn ends(check_first: bool, says: bool) -> (Option<ExecutionEnd>, Vec<String>) {
    let order = if check_first { ["pause", "check", "back"] } else { ["pause", "back", "check"] };
    let mut rules = impatient(Auto);
    let mut book = runbook(&order.map(|name| (name, EffectClass::Keyed, undo())));
    for step in &mut book.steps {
        step.asks = step.name.as_str() == "check";
        if step.asks {
            step.undo = Undo::NotNeeded;
        }
        if says && step.name.as_str() == "back" {
            step.undoes = [Change::Code].into();
        }
    }
    rules.runbook = Some(book);
    let mut world = World::new(rules, WELL, BAD, 20.0, 33);
    let no = failed(FailureKind::Permanent);
    let done = || Some(world::done());
    world.script.extend(if check_first { vec![done(), Some(no)] } else { vec![done(), done(), Some(no)] });
    world.run_to(AN_HOUR);
    let end = world.entries.iter().find_map(|(_, entry)| match entry {
        Entry::ExecutionEnded { end } => Some(end.clone()),
        _ => None,
    });
    let undone = world.begun.iter().filter(|permit| permit.direction == rules::execution::Direction::Undo);
    (end, undone.map(|permit| permit.step.name.to_string()).collect())
}

#[test]
fn a_check_that_says_no_behind_the_rollback_stops_it_and_brings_nothing_back() {
    let (end, undone) = ends(false, true);
    assert!(matches!(&end, Some(ExecutionEnd::Stuck(why)) if why.contains("which stays so")), "{end:?}");
    assert_eq!(undone, [""; 0], "nothing is undone");
}

#[test]
fn a_check_that_says_no_before_it_takes_back_what_was_prepared() {
    let (end, undone) = ends(true, true);
    assert!(matches!(&end, Some(ExecutionEnd::Unwound(_))), "{end:?}");
    assert_eq!(undone, ["pause"]);
}

/// Where no step says what it undoes, any that could be undone again counts: better one page too many than a bad release
/// that comes back.
#[test]
fn where_nothing_says_what_it_undoes_every_change_counts() {
    let (end, undone) = ends(true, false);
    assert!(matches!(&end, Some(ExecutionEnd::Stuck(_))), "{end:?}");
    assert_eq!(undone, [""; 0]);
}
