//! Which steps of a runbook undo what a deployment brought, and whether going back is possible at all.
//!
//! A runbook says of a step what it undoes; a deployment says, where its source knows, what it brought. The plan then holds
//! the steps that undo just that, in the runbook's order, and the steps that belong to every rollback: a deployment that
//! only turned a flag on is undone by turning the flag off, and no image moves. Of a deployment that says nothing,
//! everything is undone. What nothing in the runbook undoes, and what cannot be undone, is a person's: a plan is refused
//! with the reason and the way forward.

use crate::deployment::{Change, Deployment};
use crate::ids::Version;
use crate::plan::CannotPlan;
use crate::runbook::{Runbook, RunbookStep};
use std::collections::BTreeSet;

/// The steps for this deployment. `moved`: releases deployed since the release to return to, this one included, that
/// brought a migration which cannot be taken back.
///
/// # Errors
/// If nothing undoes what it brought, or if the schema has moved on and no step brings it back.
pub fn choose<'a>(
    runbook: &'a Runbook,
    deployment: &Deployment,
    moved: &[Version],
) -> Result<Vec<&'a RunbookStep>, CannotPlan> {
    let undoes = |step: &RunbookStep, change: Change| step.undoes.contains(&change);
    // Only a runbook that says what its steps undo can be asked what it does not undo.
    let says = runbook.steps.iter().any(|step| !step.undoes.is_empty());
    let brought: Option<&BTreeSet<Change>> = deployment.changes.as_ref();
    let steps: Vec<&RunbookStep> = runbook
        .steps
        .iter()
        .filter(|step| match &brought {
            Some(brought) => {
                step.undoes.is_empty() || step.undoes.iter().any(|change| brought.contains(change))
            }
            None => true,
        })
        .collect();
    if let Some(brought) = brought.filter(|_| says) {
        let left = brought
            .iter()
            .copied()
            .filter(|change| *change != Change::IrreversibleMigrations)
            .find(|change| !steps.iter().any(|step| undoes(step, *change)));
        if let Some(change) = left {
            return Err(CannotPlan::NothingUndoes { change });
        }
    }
    let brings_back = |step: &&&RunbookStep| undoes(step, Change::IrreversibleMigrations);
    if let (Some(version), false) = (moved.first(), steps.iter().any(|step| brings_back(&step))) {
        return Err(CannotPlan::SchemaMoved { version: version.to_string() });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::Release;
    use crate::ids::{EnvironmentName, ServiceName, SourceName};
    use jiff::Timestamp;

    const RUNBOOK: &str = r#"
steps:
- { name: announce, class: keyed, action: { command: { argv: [/bin/say] } } }
- { name: image, undoes: [code], class: keyed, action: { command: { argv: [/bin/image] } } }
- { name: flag, undoes: [flags], class: keyed, action: { command: { argv: [/bin/flag] } } }
- { name: schema, undoes: [migrations], class: keyed, action: { command: { argv: [/bin/down] } } }
- { name: verify, class: keyed, action: { command: { argv: [/bin/look] } } }
"#;

    fn deployment(changes: Option<&[Change]>) -> Deployment {
        Deployment {
            service: ServiceName::new("shop").unwrap(),
            environment: EnvironmentName::new("production").unwrap(),
            release: Release { version: Version::new("v2").unwrap() },
            previous: None,
            at: Timestamp::UNIX_EPOCH,
            source: SourceName::new("ci").unwrap(),
            sequence: None,
            changes: changes.map(|changes| changes.iter().copied().collect()),
            security_fix: false,
        }
    }

    fn chosen(runbook: &str, changes: Option<&[Change]>, moved: &[&str]) -> Result<String, CannotPlan> {
        let runbook: Runbook = serde_saphyr::from_str(runbook).unwrap();
        let moved: Vec<Version> = moved.iter().map(|version| Version::new(*version).unwrap()).collect();
        let steps = choose(&runbook, &deployment(changes), &moved)?;
        Ok(steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_least_that_undoes_what_was_brought() {
        use Change::{Code, Configuration, Flags, IrreversibleMigrations, Migrations};
        let whole = "announce image flag schema verify";
        let plain = "steps:\n- { name: all, class: keyed, action: { command: { argv: [/bin/all] } } }\n";
        let moved = |version: &str| Err(CannotPlan::SchemaMoved { version: version.into() });
        let nothing = |change| Err(CannotPlan::NothingUndoes { change });
        type Row<'a> = (&'a str, Option<&'a [Change]>, &'a [&'a str], Result<&'a str, CannotPlan>);
        let table: [Row<'_>; 10] = [
            (RUNBOOK, None, &[], Ok(whole)),
            (RUNBOOK, Some(&[Flags]), &[], Ok("announce flag verify")),
            (RUNBOOK, Some(&[Code]), &[], Ok("announce image verify")),
            (RUNBOOK, Some(&[Code, Migrations]), &[], Ok("announce image schema verify")),
            (RUNBOOK, Some(&[]), &[], Ok("announce verify")),
            (RUNBOOK, Some(&[Code, Configuration]), &[], nothing(Configuration)),
            // A runbook that says nothing is used as a whole.
            (plain, Some(&[Configuration]), &[], Ok("all")),
            (RUNBOOK, Some(&[Code, IrreversibleMigrations]), &["v2"], moved("v2")),
            (RUNBOOK, None, &["v3"], moved("v3")),
            (plain, None, &["v3"], moved("v3")),
        ];
        for (runbook, changes, since, expected) in table {
            assert_eq!(chosen(runbook, changes, since), expected.map(str::to_owned), "{changes:?} {since:?}");
        }
    }

    #[test]
    fn a_step_that_brings_the_schema_back_makes_it_possible() {
        let restore = format!(
            "{RUNBOOK}- {{ name: restore, undoes: [irreversible_migrations], class: keyed, action: {{ command: {{ argv: [/bin/r] }} }} }}\n"
        );
        let all = "announce image flag schema verify restore";
        assert_eq!(chosen(&restore, None, &["v2"]), Ok(all.to_owned()));
        let changes: &[Change] = &[Change::IrreversibleMigrations];
        assert_eq!(chosen(&restore, Some(changes), &["v2"]), Ok("announce verify restore".to_owned()));
    }
}
