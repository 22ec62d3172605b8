//! The figures: how long things take, in the processor time of this thread, so that a machine that others use tells the
//! same as an idle one; of several rounds the quickest, because what slows a round down is not what is measured.

use nix::time::ClockId;
use rules::evidence::Evidence;
use rules::signal::Measurement;
use rules::stats::{ChangeMixture, Direction, ProportionTest, RatioSequence, RatioTest, TwoArms};
use simulations::Dice;
use simulations::bench::{LOOK_SECONDS, WATCH_SECONDS};
use simulations::cost::{Kind, Reference, Service};
use simulations::peers::kayenta::{Classification, classify};
use std::hint::black_box;

/// Looks in the watch of an hour.
pub const LOOKS: u32 = (WATCH_SECONDS / LOOK_SECONDS) as u32;
/// Requests of an arm in one of them, and the share of errors.
const REQUESTS: u64 = 500;
const ERRORS: f64 = 0.01;
/// Different watches among the live signals: enough that neither branches nor tables are learned by heart.
const WATCHES: usize = 64;

/// Seconds of processor time of the quickest of `rounds` rounds of `work`.
///
/// # Panics
/// Where the system does not count the time of a thread.
pub fn seconds<T>(rounds: u32, mut work: impl FnMut() -> T) -> f64 {
    let now = || ClockId::CLOCK_THREAD_CPUTIME_ID.now().expect("Linux and macOS count a thread's time");
    let round = |_| {
        let began = now();
        black_box(work());
        std::time::Duration::from(now() - began).as_secs_f64()
    };
    (0..rounds).map(round).fold(f64::INFINITY, f64::min)
}

/// An hour of two arms that are equally good, look by look.
pub fn hour(seed: u64) -> Vec<TwoArms> {
    let mut dice = Dice::of(seed, "speed", 0);
    let mut errors = || dice.binomial(REQUESTS, ERRORS) as f64;
    let total = REQUESTS as f64;
    let mut look = |_| TwoArms {
        canary_bad: errors(),
        canary_total: total,
        control_bad: errors(),
        control_total: total,
    };
    (0..LOOKS).map(&mut look).collect()
}

/// An hour in the kernel alone: so many alternatives, as evidence of each look of a watch.
pub fn kernel_hour(fresh: &ChangeMixture, looks: &[Vec<f64>]) -> f64 {
    let mut mixture = fresh.clone();
    for llr in looks {
        mixture.update(Some(black_box(llr)), LOOK_SECONDS).expect("made-up evidence is finite");
    }
    mixture.log_e()
}

/// What [`kernel_hour`] takes.
pub fn kernel_input(alternatives: usize) -> (ChangeMixture, Vec<Vec<f64>>) {
    let mixture = ChangeMixture::new(alternatives, WATCH_SECONDS, 0.7).expect("good parameters");
    let of = |arms: &TwoArms| {
        let gain = |place: usize| place as f64 * 6.0 / alternatives as f64 * std::f64::consts::LN_2;
        let each = |gain: f64| arms.canary_bad * gain - arms.canary_total * (0.0125 * gain.exp_m1()).ln_1p();
        (1..=alternatives).map(gain).map(each).collect()
    };
    (mixture, hour(1).iter().map(of).collect())
}

/// An hour of a proportion against its level.
pub fn proportion_hour(fresh: &ProportionTest, looks: &[TwoArms]) -> f64 {
    let mut test = fresh.clone();
    for look in looks {
        let look = black_box(look);
        test.update(look.canary_bad, look.canary_total, LOOK_SECONDS).expect("made-up counts are counts");
    }
    test.log_e()
}

/// What [`proportion_hour`] begins with.
pub fn proportion_test() -> ProportionTest {
    ProportionTest::new(1.25 * ERRORS, WATCH_SECONDS, Direction::Worse).expect("good parameters")
}

/// An hour of canary against control.
pub fn ratio_hour(fresh: &RatioTest, looks: &[TwoArms]) -> f64 {
    let mut test = fresh.clone();
    for look in looks {
        test.update(black_box(look), LOOK_SECONDS).expect("made-up counts are counts");
    }
    test.log_e()
}

/// What [`ratio_hour`] begins with.
pub fn ratio_test() -> RatioTest {
    RatioTest::new(1.25, WATCH_SECONDS, Direction::Worse).expect("good parameters")
}

/// An hour of the interval of the ratio, which only people read.
pub fn sequence_hour(looks: &[TwoArms]) -> RatioSequence {
    let mut sequence = RatioSequence::new(1.0).expect("good parameters");
    for look in looks {
        sequence.update(black_box(look)).expect("made-up counts are counts");
    }
    sequence
}

/// The same hour as Kayenta sees it: the percent of errors of each minute, of control and canary.
pub fn minutes(looks: &[TwoArms]) -> (Vec<f64>, Vec<f64>) {
    let percent = |bad: f64, total: f64| bad / total * 100.0;
    let sums =
        looks.chunks(6).map(|minute| minute.iter().fold(TwoArms::default(), |sum, look| sum.plus(look)));
    sums.map(|sum| (percent(sum.control_bad, sum.control_total), percent(sum.canary_bad, sum.canary_total)))
        .unzip()
}

/// One judgement of Kayenta over all points.
pub fn kayenta_once(control: &[f64], canary: &[f64]) -> Classification {
    classify(black_box(control), black_box(canary), &mut Dice::new(0))
}

/// An hour of Kayenta over a growing window: a judgement a minute.
pub fn kayenta_hour(control: &[f64], canary: &[f64]) {
    for points in 1..=control.len() {
        black_box(kayenta_once(&control[..points], &canary[..points]));
    }
}

/// Live signals: a service with one proportion each, under the canary matrix and beside a control, somewhere in their
/// watch.
pub struct Live {
    service: Service,
    signals: Vec<Evidence>,
    looks: Vec<Measurement>,
    instances: u32,
}

impl Live {
    /// So many signals, on so many instances each; 0 does not tell them apart.
    pub fn new(count: usize, instances: u32) -> Self {
        let mut service =
            Service::new(Kind::Proportion, "canary", Reference::Control).expect("the matrix ships");
        let mut watches: Vec<Evidence> = (0..WATCHES).map(|_| service.deployed()).collect();
        for number in 0..WATCHES {
            let look = service.look(instances);
            // Some have just begun, others are at it for ten minutes: all have seen the last of these looks.
            watches.iter_mut().skip(WATCHES - 1 - number).for_each(|evidence| service.take(evidence, &look));
        }
        let signals = watches.iter().cycle().take(count).cloned().collect();
        Self { service, signals, looks: Vec::new(), instances }
    }

    /// Makes the next look up, so many different ones; not a part of what is measured.
    pub fn prepare(&mut self) {
        let Self { service, looks, instances, .. } = self;
        *looks = vec![service.look(*instances)];
        looks.extend((1..WATCHES).map(|_| service.look_again(*instances)));
    }

    /// Every signal takes its look in, and every condition that the matrix puts on it is judged.
    pub fn look(&mut self) {
        let Self { service, signals, looks, .. } = self;
        for (evidence, look) in signals.iter_mut().zip(looks.iter().cycle()) {
            service.take(evidence, look);
            service.findings(evidence).for_each(|finding| {
                black_box(finding);
            });
        }
    }

    /// How many signals there are.
    pub fn count(&self) -> usize {
        self.signals.len()
    }

    /// Seconds that a look at all of them takes, without making the looks up.
    pub fn seconds(&mut self, rounds: u32) -> f64 {
        let mut best = f64::INFINITY;
        for _ in 0..rounds {
            self.prepare();
            best = best.min(seconds(1, || self.look()));
        }
        best
    }
}
