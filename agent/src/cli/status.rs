//! `turnback status`: what is being watched, and whether anything keeps Turnback from acting.

use super::console::{Console, Tone, verdict_tone};
use super::model::{CutOff, Fleet, Freeze, Watch};
use super::table::{self, Field};
use super::text::{moment, rough, safe};
use super::{Context, Exit};
use crate::clock;
use jiff::Timestamp;
use rules::units::Span;
use serde_json::json;
use std::collections::BTreeSet;

/// Which watches.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Every watch in the daemon's memory, not only the open ones and the last of each service
    #[arg(long)]
    pub all: bool,
}

pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let (fleet_path, watches_path) = (["v1", "fleet"], ["v1", "watches"]);
    let (fleet, watches) = (client.get(&fleet_path).await?, client.get(&watches_path).await?);
    if context.console.is_json() {
        context.console.document(&json!({ "fleet": fleet, "watches": watches }))?;
        return Ok(Exit::Done);
    }
    let fleet: Fleet = client.understand(&fleet_path, &fleet)?;
    let watches: Vec<Watch> = client.understand(&watches_path, &watches)?;
    context.console.print(&render(context.console, &fleet, &watches, args.all, clock::now()))?;
    Ok(Exit::Done)
}

fn render(console: &Console, fleet: &Fleet, watches: &[Watch], all: bool, now: Timestamp) -> String {
    let mut text = fleet_lines(console, fleet);
    let shown: Vec<&Watch> = if all { watches.iter().collect() } else { of_interest(watches) };
    if shown.is_empty() {
        text.push_str("No deployment is known yet. Tell of one with POST /v1/events.\n");
        return text;
    }
    let rows = shown.into_iter().map(|watch| row(watch, now)).collect();
    let headings = ["ID", "SERVICE", "VERSION", "AGE", "VERDICT", "PHASE", "DECISION", "HELD BY"];
    text.push_str(&table::render(console, &headings, rows));
    text
}

/// Open watches, and of each service without one the newest (the daemon names the newest first).
fn of_interest(watches: &[Watch]) -> Vec<&Watch> {
    let place = |watch: &Watch| (watch.service.clone(), watch.environment.clone());
    let mut seen: BTreeSet<_> = watches.iter().filter(|watch| !watch.closed).map(place).collect();
    watches.iter().filter(|watch| !watch.closed || seen.insert(place(watch))).collect()
}

fn row(watch: &Watch, now: Timestamp) -> Vec<Field> {
    let held: Vec<&str> = watch.holds.iter().map(|hold| hold.words.as_str()).collect();
    let verdict = match &watch.row {
        Some(row) => format!("{}: {row}", watch.verdict),
        None => watch.verdict.clone(),
    };
    let tone = if watch.closed { Tone::Quiet } else { Tone::Plain };
    vec![
        Field::new(&watch.id, tone),
        Field::new(watch.place(), tone),
        Field::new(&watch.version, tone),
        Field::new(rough(Span::between(watch.deployed_at, now)), tone),
        Field::new(verdict, verdict_tone(&watch.verdict)),
        Field::new(&watch.phase, watch.outcome().map_or(Tone::Plain, verdict_tone)),
        Field::new(watch.decision.clone().unwrap_or_default(), tone),
        Field::new(held.join("; "), tone),
    ]
}

fn fleet_lines(console: &Console, fleet: &Fleet) -> String {
    let mut lines = Vec::new();
    if let Some(why) = &fleet.stopped {
        let until = match &fleet.stop_file {
            None => "`turnback resume`",
            Some(file) if file == why => "that file is removed",
            Some(_) => "that file is removed and `turnback resume` is said",
        };
        lines.push((Tone::Bad, format!("STOPPED: {}. Nothing is begun until {until}.", safe(why))));
    }
    if let Some(why) = &fleet.auto_suspended {
        lines.push((
            Tone::Bad,
            format!("SUSPENDED: {}. Nothing is done alone until `turnback resume`.", safe(why)),
        ));
    }
    lines.extend(fleet.freezes.iter().map(|freeze| (Tone::Warning, freeze_words(freeze))));
    lines.extend(fleet.cut_off.iter().map(|source| (Tone::Warning, cut_off_words(source))));
    if lines.is_empty() {
        lines.push((Tone::Quiet, "Not stopped, not suspended, not frozen.".to_owned()));
    }
    lines.into_iter().map(|(tone, line)| console.paint(&line, tone) + "\n").collect::<String>() + "\n"
}

fn freeze_words(freeze: &Freeze) -> String {
    let what = freeze.service.as_deref().unwrap_or("every service");
    let until = freeze.until.map_or_else(|| "it is lifted".to_owned(), moment);
    format!("FROZEN: {} until {until}, by {}: {}", safe(what), safe(&freeze.by), safe(&freeze.reason))
}

fn cut_off_words(cut_off: &CutOff) -> String {
    let CutOff { name, source, since, reason } = cut_off;
    let reason = reason.as_deref().unwrap_or("it has not been heard yet");
    let since = moment(*since);
    format!("CUT OFF: {} ({}) has not been heard since {since}: {}", safe(name), safe(source), safe(reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::console::Format;
    use crate::cli::tests::testing::{at, console, watch};

    fn closed(mut watch: Watch, id: &str, phase: &str) -> Watch {
        (watch.id, watch.phase, watch.closed, watch.holds) = (id.into(), phase.into(), true, Vec::new());
        watch
    }

    #[test]
    fn the_table_shows_what_matters() {
        let (console, _said) = console(Format::Text);
        let fleet = Fleet {
            stopped: None,
            stop_file: None,
            auto_suspended: None,
            freezes: Vec::new(),
            cut_off: Vec::new(),
        };
        let mut other = closed(watch(), "w-2", "closed: healthy");
        (other.service, other.environment, other.verdict, other.row) =
            ("cart".into(), "staging".into(), "healthy".into(), None);
        let watches = [watch(), other, closed(watch(), "w-0", "closed: superseded by a newer deployment")];
        let now = at("2026-03-01T12:05:30Z");
        insta::assert_snapshot!(render(&console, &fleet, &watches, false, now), @r"
        Not stopped, not suspended, not frozen.

        ID   SERVICE          VERSION  AGE    VERDICT                                 PHASE            DECISION   HELD BY
        w-1  checkout         1.4.0    5m30s  degraded (P1): errors-above-10-percent  turning back     roll back  2 rollbacks in the last hour
        w-2  cart in staging  1.4.0    5m30s  healthy                                 closed: healthy  roll back  –
        ");
        assert!(render(&console, &fleet, &watches, true, now).contains("w-0"));
    }

    #[test]
    fn what_keeps_turnback_from_acting_comes_first() {
        let (console, _said) = console(Format::Text);
        let freeze = Freeze {
            service: None,
            until: Some(at("2026-03-01T14:00:00Z")),
            reason: "sale\u{1b}[2J".into(),
            by: "ada".into(),
        };
        let fleet = Fleet {
            stopped: Some("drill".into()),
            stop_file: None,
            auto_suspended: Some("plan p-1 is stuck".into()),
            freezes: vec![freeze],
            cut_off: vec![CutOff {
                name: "bus".into(),
                source: "Kafka at a:9092, topics deployments".into(),
                since: at("2026-03-01T11:00:00Z"),
                reason: Some("no broker answers".into()),
            }],
        };
        insta::assert_snapshot!(render(&console, &fleet, &[], false, at("2026-03-01T12:00:00Z")), @r"
        STOPPED: drill. Nothing is begun until `turnback resume`.
        SUSPENDED: plan p-1 is stuck. Nothing is done alone until `turnback resume`.
        FROZEN: every service until 2026-03-01T14:00:00Z, by ada: sale\u{1b}[2J
        CUT OFF: bus (Kafka at a:9092, topics deployments) has not been heard since 2026-03-01T11:00:00Z: no broker answers

        No deployment is known yet. Tell of one with POST /v1/events.
        ");
    }

    #[test]
    fn a_stop_that_is_a_file_is_lifted_by_removing_it() {
        let (console, _said) = console(Format::Text);
        let file = "the file /s/STOP exists";
        let lines = |stopped: &str| {
            let (stopped, stop_file) = (Some(stopped.into()), Some(file.into()));
            fleet_lines(
                &console,
                &Fleet { stopped, stop_file, auto_suspended: None, freezes: Vec::new(), cut_off: Vec::new() },
            )
        };
        assert_eq!(
            lines(file),
            "STOPPED: the file /s/STOP exists. Nothing is begun until that file is removed.\n\n"
        );
        let both = lines("drill (ann); the file /s/STOP exists");
        assert!(both.contains("until that file is removed and `turnback resume` is said"), "{both}");
    }
}
