//! Looks that follow a sample at once: a source that is pushed to rings the bell, and the watches that listen to it look
//! as soon as its data are complete, instead of at their next turn.
//!
//! Only the signals of the sources that rang are measured then: a Prometheus server is not asked more often because
//! something else pushes. The rhythm of a watch stays as it is; these looks come between. That is allowed at any number
//! of looks, since the tests hold at every one of them.

use super::{DispatchError, Dispatcher};
use jiff::Timestamp;
use rules::ids::WatchId;
use rules::units::Span;
use rules::watch::Input;
use std::collections::{BTreeMap, BTreeSet};

/// A watch follows samples at most this often: each look is a record of the ledger …
const AT_MOST_EVERY: Span = Span::from_milliseconds(250);
/// … and with more watches than this, each of them the more seldom: at most some thirty records a second.
const WATCHES_AT_FULL_PACE: usize = 8;

/// Who is to look because samples came.
#[derive(Debug, Default)]
pub(super) struct SampleLooks {
    due: BTreeMap<WatchId, Due>,
    /// When each last looked because of samples.
    last: BTreeMap<WatchId, Timestamp>,
    /// Watches whose look is under way: another one would not be begun.
    looking: BTreeSet<WatchId>,
}

#[derive(Debug)]
struct Due {
    /// When it looks.
    next: Timestamp,
    /// From when on a look sees the newest sample that is known of.
    newest: Timestamp,
    sources: BTreeSet<String>,
}

impl SampleLooks {
    /// When the first of them is.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.iter().filter(|(watch, _)| !self.looking.contains(*watch)).map(|(_, due)| due.next).min()
    }

    /// A look is under way.
    pub(super) fn begun(&mut self, watch: &WatchId) {
        self.looking.insert(watch.clone());
    }

    /// A look is back.
    pub(super) fn ended(&mut self, watch: &WatchId) {
        self.looking.remove(watch);
    }

    /// The watch is closed.
    pub(super) fn forget(&mut self, watch: &WatchId) {
        self.due.remove(watch);
        self.last.remove(watch);
        self.looking.remove(watch);
    }

    fn add(&mut self, watch: &WatchId, sources: &BTreeMap<String, Timestamp>, pace: Span) {
        let Some(newest) = sources.values().max().copied() else { return };
        let soonest = self.last.get(watch).map(|last| pace.after(*last));
        let next = soonest.map_or(newest, |soonest| soonest.max(newest));
        let due = self.due.entry(watch.clone()).or_insert(Due { next, newest, sources: BTreeSet::new() });
        due.next = due.next.min(next);
        due.newest = due.newest.max(newest);
        due.sources.extend(sources.keys().cloned());
    }

    /// Takes out the watches that look now, with the sources that rang.
    fn take(&mut self, now: Timestamp, set_back: bool, pace: Span) -> Vec<(WatchId, BTreeSet<String>)> {
        let is_due =
            |(watch, due): &(&WatchId, &Due)| (set_back || due.next <= now) && !self.looking.contains(*watch);
        let due: Vec<WatchId> = self.due.iter().filter(is_due).map(|(watch, _)| watch.clone()).collect();
        let mut looks = Vec::new();
        for watch in due {
            let Some(due) = self.due.remove(&watch) else { continue };
            self.last.insert(watch.clone(), now);
            looks.push((watch.clone(), due.sources.clone()));
            // What came since the look was planned is not complete yet, and some of it will be soon.
            if due.newest > now && !set_back {
                self.due.insert(watch, Due { next: pace.after(now), ..due });
            }
        }
        looks
    }
}

impl Dispatcher {
    /// Samples came: who listens to these sources looks when they are complete.
    pub(super) fn hear_bell(&mut self, rung: &BTreeMap<String, Timestamp>) {
        let pace = self.sample_pace();
        for (id, watch) in &self.watches {
            let signals = watch.rules.signals.values();
            let sources: BTreeMap<String, Timestamp> = signals
                .filter_map(|signal| Some((signal.source.clone(), *rung.get(&signal.source)?)))
                .collect();
            self.looks.add(id, &sources, pace);
        }
    }

    /// Lets the watches look whose time has come.
    pub(super) async fn look_at_samples(
        &mut self,
        now: Timestamp,
        set_back: bool,
    ) -> Result<(), DispatchError> {
        let pace = self.sample_pace();
        for (watch, sources) in self.looks.take(now, set_back, pace) {
            self.tell_of(&watch, Input::Tick, Some(&sources)).await?;
        }
        Ok(())
    }

    fn sample_pace(&self) -> Span {
        let share = self.watches.len().div_ceil(WATCHES_AT_FULL_PACE).max(1);
        Span::from_milliseconds(AT_MOST_EVERY.milliseconds().saturating_mul(share as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rules;
    use super::super::tests::{Running, dispatcher, rules, seconds_ago};
    use super::*;
    use crate::collector::Collector;
    use crate::signals::{SignalSource, SourceError, SourceHealth};
    use rules::deployment::DeployKind;
    use rules::series::{RawSeries, Window};
    use rules::signal::{Measure, Role, Signal};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    /// A source that has nothing and counts how often it is asked.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    #[async_trait::async_trait]
    impl SignalSource for Counting {
        async fn read(&self, _: &str, _: Window) -> Result<Vec<RawSeries>, SourceError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Vec::new())
        }
        fn settle(&self) -> Span {
            Span::from_milliseconds(10)
        }
        fn history(&self) -> bool {
            false
        }
        fn describe(&self) -> String {
            "a test".into()
        }
        fn health(&self) -> SourceHealth {
            SourceHealth::default()
        }
    }

    /// A signal of each of two sources.
    fn two_signals() -> Rules {
        let plain = rules(None);
        Arc::new(move |service, environment| {
            let mut rules = plain(service, environment);
            for source in ["pushed", "asked"] {
                let name = rules::ids::SignalName::new(source).unwrap();
                let measure = Measure::Availability { up: "up".into() };
                let signal = Signal {
                    name: name.clone(),
                    role: Role::Critical,
                    source: source.into(),
                    measure,
                    targets: None,
                    weight: None,
                    compare: true,
                };
                rules.signals.insert(name, signal);
            }
            rules
        })
    }

    /// Waits for something that takes a moment, or much longer on a busy machine.
    async fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_ring_is_followed_by_a_look_at_the_source_that_rang_and_at_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut dispatcher = dispatcher(dir.path(), two_signals()).await;
        let sources = [Arc::new(Counting::default()), Arc::new(Counting::default())];
        let named = ["pushed", "asked"].into_iter().zip(&sources);
        let named =
            named.map(|(name, source)| (name.to_owned(), Arc::clone(source) as Arc<dyn SignalSource>));
        dispatcher.parts.collector = Collector::new(named.collect());
        let bell = dispatcher.parts.collector.bell().clone();
        let agent = Running::of(dispatcher);
        agent.deploy("1", DeployKind::Deployed, seconds_ago(30)).await;
        let asked = || sources.each_ref().map(|source| source.0.load(Ordering::Relaxed));
        // The past of both and a first look, and then nothing for ten seconds.
        let mut before = asked();
        let mut since = Instant::now();
        wait("the past to be read", || {
            if asked() != before {
                (before, since) = (asked(), Instant::now());
            }
            before.iter().all(|count| *count > 0) && since.elapsed() > Duration::from_secs(1)
        })
        .await;
        bell.ring("pushed", crate::clock::now());
        bell.ring("nobody", crate::clock::now());
        wait("the look that follows", || asked()[0] > before[0]).await;
        // A second one would follow a quarter of a second later.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(asked(), [before[0] + 1, before[1]]);
        agent.end().await;
    }

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    fn watch() -> WatchId {
        WatchId::new("w1").unwrap()
    }

    fn rung(from: i64) -> BTreeMap<String, Timestamp> {
        BTreeMap::from([("a".to_owned(), at(from))])
    }

    #[test]
    fn each_sample_is_followed_by_a_look_that_sees_it_at_the_given_pace() {
        let mut looks = SampleLooks::default();
        looks.add(&watch(), &rung(500), AT_MOST_EVERY);
        looks.add(&watch(), &rung(600), AT_MOST_EVERY);
        assert_eq!(looks.next(), Some(at(500)));
        assert!(looks.take(at(499), false, AT_MOST_EVERY).is_empty());
        assert_eq!(looks.take(at(500), false, AT_MOST_EVERY), [(watch(), BTreeSet::from(["a".to_owned()]))]);
        // The second sample was not complete at 500; the pace puts its look off.
        assert_eq!(looks.next(), Some(at(750)));
        assert_eq!(looks.take(at(750), false, AT_MOST_EVERY).len(), 1);
        assert_eq!(looks.next(), None);
        looks.add(&watch(), &rung(800), AT_MOST_EVERY);
        assert_eq!(looks.next(), Some(at(1_000)));
    }

    #[test]
    fn a_look_that_is_under_way_is_waited_for_and_a_closed_watch_is_forgotten() {
        let mut looks = SampleLooks::default();
        looks.begun(&watch());
        looks.add(&watch(), &rung(500), AT_MOST_EVERY);
        assert_eq!(looks.next(), None);
        assert!(looks.take(at(600), false, AT_MOST_EVERY).is_empty());
        looks.ended(&watch());
        assert_eq!(looks.take(at(600), false, AT_MOST_EVERY).len(), 1);
        looks.add(&watch(), &rung(9_000_000), AT_MOST_EVERY);
        assert_eq!(looks.take(at(700), true, AT_MOST_EVERY).len(), 1, "the clock was set back");
        looks.add(&watch(), &rung(900), AT_MOST_EVERY);
        looks.forget(&watch());
        assert_eq!(looks.next(), None);
    }

    #[test]
    fn a_flood_of_samples_is_a_look_each_quarter_of_a_second() {
        let mut looks = SampleLooks::default();
        let mut count = 0;
        for now in 0..10_000 {
            looks.add(&watch(), &rung(now + 500), AT_MOST_EVERY);
            count += looks.take(at(now), false, AT_MOST_EVERY).len();
        }
        assert!((37..=39).contains(&count), "{count}");
    }
}
