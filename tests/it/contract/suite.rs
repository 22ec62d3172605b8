//! The cases, each for any family.

use super::family::{Family, Rule, Seen};
use agent::actions::{Direction, run_step};
use anyhow::{Result, ensure};
use rules::action::{EffectClass, StepOutcome, Undo};
use rules::rehearsal::Tried;
use rules::units::Span;
use std::time::{Duration, Instant};
use tests::gate::Mode;
use tests::steps::{Rig, kind};
use tests::wait;

/// For an effect to arrive at a target or to be seen there, on a machine at several times its load.
const PATIENCE: Duration = Duration::from_secs(30);
/// For the kill switch, which would otherwise wait for a step of a minute.
const AT_ONCE: Duration = Duration::from_secs(5);
/// For what was let go to arrive.
const ARRIVES: Duration = Duration::from_secs(1);

const ONE: Seen = Seen { applied: 1, undone: 0 };
const NONE: Seen = Seen { applied: 0, undone: 0 };

/// A family's target with the step that acts on it.
pub struct Stand<F> {
    family: F,
}

impl<F: Family> Stand<F> {
    pub async fn new() -> Result<Stand<F>> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Stand { family: F::set_up().await? })
    }

    /// The step, with its undo.
    pub fn rig(&self) -> Result<Rig> {
        let secrets = self.family.secrets();
        let secrets: Vec<(&str, &str)> =
            secrets.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut rig = Rig::of_class(&self.family.action(), F::ROW.class, &secrets)?;
        if let Some(undo) = self.family.undo() {
            rig.step.undo = Undo::Action(Rig::of_class(&undo, F::ROW.class, &secrets)?.step.action);
        }
        Ok(rig)
    }

    /// Arms the gate for the effect.
    fn arm(&self, mode: Mode) -> Result<()> {
        self.family.gate().arm(F::ROW.effect, mode)
    }

    async fn until_hit(&self) -> Result<()> {
        wait::until("the effect at the gate", PATIENCE, async || {
            Ok((self.family.gate().hits() > 0).then_some(()))
        })
        .await
    }

    /// The effects, once there is one.
    async fn until_applied(&self) -> Result<()> {
        wait::until("the effect at the target", PATIENCE, async || {
            Ok((self.family.seen().await?.applied > 0).then_some(()))
        })
        .await
    }

    async fn expect(&self, expected: Seen, when: &str) -> Result<()> {
        let seen = self.family.seen().await?;
        ensure!(seen == expected, "{} {when}: {seen:?}, expected {expected:?}", F::ROW.name);
        Ok(())
    }
}

/// For a step that takes no longer: it has to come to its effect, which is what is held, on a busy machine too. Where that
/// takes several programs or requests, it gets more.
fn short<F: Family>() -> Duration {
    Duration::from_secs(if ["git", "kubernetes"].contains(&F::ROW.name) { 20 } else { 6 })
}

fn expect(outcome: &StepOutcome, kinds: &[&str], when: &str) -> Result<()> {
    ensure!(kinds.contains(&kind(outcome)), "{when}: expected one of {kinds:?}: {outcome:?}");
    Ok(())
}

/// What a step says whose effect is there: a look finds it; a target that knows keys says again that it did it.
fn there<F: Family>() -> &'static [&'static str] {
    match F::ROW.class {
        EffectClass::Keyed => &["done"],
        _ => &["there already"],
    }
}

pub async fn rehearsed<F: Family>() -> Result<()> {
    let stand = Stand::<F>::new().await?;
    let rig = stand.rig()?;
    for _ in 0..2 {
        let tried = rig.rehearse().await;
        ensure!(matches!(tried, Tried::Works { .. }), "the dry run: {tried:?}");
    }
    stand.expect(NONE, "after two dry runs").await?;
    // A dry run leaves nothing that the step itself would stumble over, or take for its own.
    expect(&rig.first().await, &["done"], "the step")?;
    stand.expect(ONE, "after the step").await?;
    let tried = rig.rehearse().await;
    ensure!(tried == Tried::AlreadyThere || !looks::<F>(), "a dry run behind the step: {tried:?}");
    stand.expect(ONE, "after a dry run behind the step").await
}

/// Whether the family's step is looked for before it is run.
fn looks<F: Family>() -> bool {
    matches!(F::ROW.class, EffectClass::Lookup | EffectClass::CompareAndSet)
}

pub async fn twice<F: Family>() -> Result<()> {
    let stand = Stand::<F>::new().await?;
    let rig = stand.rig()?;
    stand.expect(NONE, "at first").await?;
    expect(&rig.first().await, &["done"], "the first run")?;
    stand.expect(ONE, "after the first run").await?;
    expect(&rig.first().await, there::<F>(), "the second run")?;
    expect(&rig.again().await, there::<F>(), "a recovering run")?;
    stand.expect(ONE, "after three runs").await
}

pub async fn refused<F: Family>() -> Result<()> {
    let stand = Stand::<F>::new().await?;
    let rig = stand.rig()?;
    stand.family.refuse(true).await?;
    expect(&rig.first().await, &["failed, retryable", "failed, permanent"], "refused")?;
    ensure!(stand.family.refused().await? > 0, "the target has refused nothing");
    stand.expect(NONE, "after a refusal").await?;
    stand.family.refuse(false).await?;
    expect(&rig.first().await, &["done"], "the retry")?;
    stand.expect(ONE, "after the retry").await
}

pub async fn answer_lost<F: Family>() -> Result<()> {
    let stand = Stand::<F>::new().await?;
    let rig = stand.rig()?;
    stand.arm(Mode::LoseAnswer)?;
    expect(&rig.first().await, &["unknown"], "the answer is lost")?;
    ensure!(stand.family.gate().hits() == 1, "the fault was not met");
    stand.until_applied().await?;
    expect(&rig.again().await, there::<F>(), "the recovering run")?;
    expect(&rig.again().await, there::<F>(), "another recovering run")?;
    stand.expect(ONE, "after a lost answer").await
}

pub async fn undone_twice<F: Family>() -> Result<()> {
    let stand = Stand::<F>::new().await?;
    let rig = stand.rig()?;
    expect(&rig.first().await, &["done"], "the step")?;
    let undo = async |recovering| {
        let cancel = rig.switch.subscribe();
        run_step(&rig.plan, &rig.step, Direction::Undo, recovering, cancel, &rig.secrets).await
    };
    if let Rule::NotPossible(_) = F::ROW.undo {
        let Undo::NotNeeded = rig.step.undo else { anyhow::bail!("the row says that there is no undo") };
        expect(&undo(false).await, &["there already"], "no undo")?;
        return stand.expect(ONE, "without an undo").await;
    }
    expect(&undo(false).await, &["done"], "the undo")?;
    let both = Seen { applied: 1, undone: 1 };
    stand.expect(both, "after the undo").await?;
    for recovering in [false, true] {
        expect(&undo(recovering).await, &["done", "there already"], "the undo again")?;
    }
    stand.expect(both, "after three undos").await
}

pub async fn cancelled<F: Family>() -> Result<()> {
    let stand = Stand::<F>::new().await?;
    let rig = stand.rig()?;
    rig.switch.send_replace(true);
    stand.arm(Mode::HoldBefore)?;
    expect(&rig.first().await, &["not begun"], "cancelled before")?;
    ensure!(stand.family.gate().hits() == 0, "something was sent after the switch was pulled");
    stand.expect(NONE, "cancelled before").await?;

    rig.switch.send_replace(false);
    let pull = async {
        stand.until_hit().await?;
        rig.switch.send_replace(true);
        anyhow::Ok(Instant::now())
    };
    let (outcome, pulled) = tokio::join!(rig.first(), pull);
    let took = pulled?.elapsed();
    ensure!(took < AT_ONCE, "it took {took:?} to end");
    expect(&outcome, &["unknown"], "cancelled during")?;
    ensure!(stand.family.gate().hits() == 1, "the fault was not met");
    // What was on its way arrives all the same, or it does not: who knows.
    stand.family.gate().release()?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(stand.family.seen().await?.applied <= 1);
    rig.switch.send_replace(false);
    expect(&rig.again().await, &["done", "there already"], "the recovering run")?;
    stand.expect(ONE, "after the recovery").await
}

pub async fn timed_out<F: Family>() -> Result<()> {
    let stand = Stand::<F>::new().await?;
    let rig = stand.rig()?.within(Span::from_milliseconds(u64::try_from(short::<F>().as_millis())?));
    stand.arm(Mode::HoldAnswer)?;
    let began = Instant::now();
    let outcome = rig.first().await;
    let took = began.elapsed();
    ensure!(took < short::<F>() + AT_ONCE, "it took {took:?} to end");
    ensure!(stand.family.gate().hits() == 1, "the fault was not met: {outcome:?}");
    expect(&outcome, &["unknown"], "timed out")?;
    stand.family.gate().release()?;
    stand.until_applied().await?;
    expect(&stand.rig()?.again().await, there::<F>(), "the recovering run")?;
    stand.expect(ONE, "after the recovery").await
}

/// The network delivers an effect after the agent has given it up and has taken the step again.
pub async fn arrives_late<F: Family>() -> Result<()> {
    let Rule::Kept = F::ROW.late else { return Ok(()) };
    let stand = Stand::<F>::new().await?;
    let rig = stand.rig()?.within(Span::from_milliseconds(u64::try_from(short::<F>().as_millis())?));
    stand.arm(Mode::HoldBefore)?;
    let outcome = rig.first().await;
    ensure!(stand.family.gate().hits() == 1, "the fault was not met: {outcome:?}");
    expect(&outcome, &["unknown"], "held back")?;
    stand.expect(NONE, "held back").await?;
    // Where the target itself keeps a second one waiting for the first, nobody knows more yet.
    expect(&rig.again().await, &["done", "unknown"], "the recovering run")?;
    stand.family.gate().release()?;
    tokio::time::sleep(ARRIVES).await;
    expect(&stand.rig()?.again().await, &["done", "there already"], "a last run")?;
    stand.expect(ONE, "after all have arrived").await
}

pub async fn third_party<F: Family>() -> Result<()> {
    let Rule::Kept = F::ROW.third_party else { return Ok(()) };
    let stand = Stand::<F>::new().await?;
    let rig = stand.rig()?;
    stand.family.gate().arm(F::ROW.between, Mode::HoldBefore)?;
    let meddle = async {
        stand.until_hit().await?;
        stand.family.meddle().await?;
        stand.family.gate().release()
    };
    let (outcome, done) = tokio::join!(rig.first(), meddle);
    done?;
    ensure!(stand.family.gate().hits() == 1, "nobody came between");
    expect(&outcome, &["failed, retryable", "failed, permanent"], "overtaken")?;
    stand.expect(NONE, "overtaken").await?;
    ensure!(stand.family.meddled().await?, "somebody's change was written over: {outcome:?}");
    // What may pass is tried again, and acts on top of the change or not at all; never instead of it.
    let later = rig.first().await;
    expect(&later, &["done", "failed, permanent"], "after the change")?;
    ensure!(stand.family.meddled().await?, "somebody's change was written over by the retry: {later:?}");
    let expected = if kind(&later) == "done" { ONE } else { NONE };
    stand.expect(expected, "after the change").await
}
