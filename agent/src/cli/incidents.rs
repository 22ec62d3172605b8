//! `turnback incidents`: every case in the daemon's memory, the newest deployment first.

use super::console::{Console, Tone, severity_tone, verdict_tone};
use super::model::Watch;
use super::table::{self, Field};
use super::text::{moment, rough};
use super::{Context, Exit};
use rules::units::Span;

pub(super) async fn execute(context: &Context<'_>) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let path = ["v1", "incidents"];
    let answer = client.get(&path).await?;
    if context.console.is_json() {
        context.console.document(&answer)?;
        return Ok(Exit::Done);
    }
    let watches: Vec<Watch> = client.understand(&path, &answer)?;
    context.console.print(&render(context.console, &watches))?;
    Ok(Exit::Done)
}

fn render(console: &Console, watches: &[Watch]) -> String {
    let rows: Vec<Vec<Field>> = watches.iter().filter_map(row).collect();
    if rows.is_empty() {
        return "No incidents. Older ones are in the ledger: turnback ledger export.\n".into();
    }
    let headings = [
        "OPENED",
        "ID",
        "SERVICE",
        "VERSION",
        "SEVERITY",
        "ROW",
        "OUTCOME",
        "DETECTED IN",
        "DECIDED IN",
        "RECOVERED IN",
    ];
    table::render(console, &headings, rows)
}

fn row(watch: &Watch) -> Option<Vec<Field>> {
    let incident = watch.incident.as_ref()?;
    let time = |span: Option<Span>| Field::plain(span.map(rough).unwrap_or_default());
    let outcome = match watch.outcome() {
        Some(outcome) => Field::new(outcome, verdict_tone(outcome)),
        // The incident is over; that its rollback holds is still looked at.
        None if watch.is_looked_after() => Field::new(&watch.phase, Tone::Good),
        None => Field::new(format!("open: {}", watch.phase), Tone::Warning),
    };
    Some(vec![
        Field::plain(moment(incident.opened)),
        Field::plain(&watch.id),
        Field::plain(watch.place()),
        Field::plain(&watch.version),
        Field::new(&incident.severity, severity_tone(&incident.severity)),
        Field::plain(&incident.row),
        outcome,
        time(Some(incident.time_to_detect)),
        time(incident.time_to_decide),
        time(incident.time_to_recover),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::console::Format;
    use crate::cli::tests::testing::{console, watch};

    #[test]
    fn each_case_has_its_clocks_and_its_end() {
        let (console, _said) = console(Format::Text);
        let mut over = watch();
        (over.closed, over.phase) = (true, "closed: rolled back, recovered".into());
        if let Some(incident) = &mut over.incident {
            incident.time_to_decide = Some(Span::from_seconds(9));
            incident.time_to_recover = Some(Span::from_minutes(7));
        }
        let mut quiet = watch();
        quiet.incident = None;
        let mut looked_after = over.clone();
        (looked_after.closed, looked_after.phase) =
            (false, "recovered, next checkpoint 30-minutes at 2026-03-01T12:39:00Z".into());
        let table = render(&console, &[looked_after]);
        assert!(
            table.contains(" recovered, next checkpoint 30-minutes at") && !table.contains("open:"),
            "{table}"
        );
        insta::assert_snapshot!(render(&console, &[watch(), over, quiet.clone()]), @r"
        OPENED                ID   SERVICE   VERSION  SEVERITY  ROW                      OUTCOME                 DETECTED IN  DECIDED IN  RECOVERED IN
        2026-03-01T12:02:00Z  w-1  checkout  1.4.0    P1        errors-above-10-percent  open: turning back      2m           –           –
        2026-03-01T12:02:00Z  w-1  checkout  1.4.0    P1        errors-above-10-percent  rolled back, recovered  2m           9s          7m
        ");
        assert_eq!(
            render(&console, &[quiet]),
            "No incidents. Older ones are in the ledger: turnback ledger export.\n"
        );
    }
}
