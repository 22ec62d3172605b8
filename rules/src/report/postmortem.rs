//! The post-mortem draft in Markdown: what the ledger knows, and blanks for what only people know.

use super::messages::standing_words;
use super::why::{card_of_the_decision, decision_words, state_words};
use crate::units::Span;
use crate::watch::Watch;
use jiff::Timestamp;
use std::fmt::Write as _;

/// The draft. Text from outside (versions, summaries) is written so that Markdown does not interpret it.
pub fn postmortem(watch: &Watch, now: Timestamp) -> String {
    let mut text = String::new();
    // Writing into a `String` cannot fail.
    let _infallible = write_all(&mut text, watch, now);
    text
}

/// Keeps Markdown and HTML in foreign text from being interpreted, and the text on one line.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '!' => {
                plain.push('\\');
                plain.push(c);
            }
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '&' => plain.push_str("&amp;"),
            // Control characters; marks that turn the direction of writing or take no room.
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
            {
                plain.push(' ');
            }
            c => plain.push(c),
        }
    }
    plain
}

fn write_all(out: &mut String, watch: &Watch, now: Timestamp) -> std::fmt::Result {
    let deployment = &watch.deployment;
    writeln!(
        out,
        "# Post-mortem: {} {}\n",
        plain(deployment.service.as_str()),
        plain(deployment.release.version.as_str())
    )?;
    writeln!(
        out,
        "*Draft from the ledger of watch {}. Lines with … are for people to fill in.*\n",
        watch.id
    )?;
    writeln!(out, "## Summary\n")?;
    writeln!(out, "| | |\n|---|---|")?;
    writeln!(
        out,
        "| Service | {} in {} |",
        plain(deployment.service.as_str()),
        plain(deployment.environment.as_str())
    )?;
    writeln!(out, "| Release | {} |", plain(deployment.release.version.as_str()))?;
    if let Some(previous) = &deployment.previous {
        writeln!(out, "| Release before | {} |", plain(previous.version.as_str()))?;
    }
    writeln!(out, "| Deployed | {:.0} |", deployment.at)?;
    writeln!(out, "| Outcome | {} |", plain(&standing_words(watch)))?;
    write_times(out, watch)?;
    writeln!(out, "\n## Impact\n\n…\n")?;
    writeln!(out, "## Why it was decided so\n")?;
    if let Some(decided) = &watch.decision {
        writeln!(
            out,
            "Decision: **{}**, autonomy level {}.\n",
            plain(&decision_words(&decided.decision)),
            decided.level
        )?;
        for hold in &decided.holds {
            writeln!(out, "- held by: {}", plain(&hold.words))?;
        }
    }
    // Indented, so that nothing in it is read as Markdown; a paragraph before it, because after a list indented lines
    // would belong to its last point and be read as Markdown after all.
    writeln!(out, "\nWhat it rested on:\n")?;
    for line in card_of_the_decision(watch, now).to_string().lines() {
        writeln!(out, "    {line}")?;
    }
    write_plan(out, watch)?;
    write_checkpoints(out, watch)?;
    writeln!(out, "\n## Timeline\n\n| time | what |\n|---|---|")?;
    for (at, words) in &watch.timeline {
        writeln!(out, "| {at:.0} | {} |", plain(words))?;
    }
    writeln!(
        out,
        "\n## Root cause\n\n…\n\n## What went well\n\n…\n\n## What went badly\n\n…\n\n## Actions\n\n- [ ] …"
    )
}

fn write_times(out: &mut String, watch: &Watch) -> std::fmt::Result {
    let Some(incident) = &watch.incident else { return Ok(()) };
    writeln!(out, "| Severity | {} ({}) |", incident.severity, plain(&incident.row))?;
    writeln!(out, "| Time to detect | {} |", Span::between(watch.deployment.at, incident.opened))?;
    if let Some(acted) = incident.acted {
        writeln!(out, "| Time to decide | {} |", Span::between(incident.opened, acted))?;
    }
    if let Some(recovered) = incident.recovered {
        writeln!(out, "| Time to recover | {} |", Span::between(incident.opened, recovered))?;
    }
    Ok(())
}

fn write_plan(out: &mut String, watch: &Watch) -> std::fmt::Result {
    let Some((plan, digest)) = &watch.plan else { return Ok(()) };
    writeln!(out, "\n## Plan {}\n", plan.id)?;
    writeln!(
        out,
        "Back from {} to {}: {}.",
        plain(plan.from.version.as_str()),
        plain(plan.to.version.as_str()),
        plain(&plan.proof)
    )?;
    writeln!(out, "Digest `{digest}`.\n\n| # | step | what ran | state |\n|---|---|---|---|")?;
    let states: Vec<String> = match &watch.execution {
        Some(execution) => execution.states().map(|(_, state)| state_words(state)).collect(),
        None => vec!["not carried out".to_owned(); plan.steps.len()],
    };
    for (number, (step, state)) in plan.steps.iter().zip(states).enumerate() {
        writeln!(
            out,
            "| {} | {} | {} | {} |",
            number + 1,
            plain(&step.title()),
            plain(&step.action.words()),
            plain(&state)
        )?;
    }
    Ok(())
}

/// Each checkpoint with its bounds, and those that lie ahead.
fn write_checkpoints(out: &mut String, watch: &Watch) -> std::fmt::Result {
    let Some(care) = watch.aftercare.as_ref().filter(|_| watch.execution.is_some()) else { return Ok(()) };
    if care.taken.is_empty() && !watch.in_aftercare() {
        return Ok(());
    }
    writeln!(
        out,
        "\n## Checkpoints after the rollback\n\n| taken | checkpoint | verdict | what it must keep |\n|---|---|---|---|"
    )?;
    for (at, taken) in &care.taken {
        let late = taken.late.map(|late| format!(" ({late} late)")).unwrap_or_default();
        let verdict = match &taken.row {
            Some(row) => format!("{} ({row})", taken.verdict),
            None => taken.verdict.to_string(),
        };
        let lines: Vec<String> = taken.lines().iter().map(|line| plain(line)).collect();
        let kept = if lines.is_empty() { "–".to_owned() } else { lines.join("; ") };
        writeln!(out, "| {at:.0}{late} | {} | {} | {kept} |", plain(&taken.checkpoint), plain(&verdict))?;
    }
    if watch.in_aftercare() {
        for due in care.ahead(&watch.rules) {
            writeln!(out, "| due {:.0} | {} | – | – |", due.at, plain(&due.checkpoint))?;
        }
    }
    Ok(())
}
