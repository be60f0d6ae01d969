//! Configs on trial: LoadX goes back to the former config by itself.

use std::time::Duration;

use loadx_core::trial::{ClusterFigures, Figures, Terms, Trial, Verdict};
use loadx_core::{ClusterId, Time};
use loadx_proxy::{Counts, Observed};
use tokio::sync::MutexGuard;

use super::{Applying, Base, By, Done, Manager, ManagerError, Origin, State};

/// Who ends a trial that ends by itself.
const TRIAL: &By = "the trial";

/// A config on trial.
pub(super) struct Pending {
    trial: Trial,
    /// The number of the trial in this process, so that the look at a former trial cannot end this one.
    number: u64,
    /// The counts when the trial began.
    before: Counts,
    former: Base,
    name: String,
    keep: bool,
    by: String,
}

/// How a trial ended.
#[derive(Clone, Debug)]
pub(crate) struct TrialEnded {
    /// Whether LoadX kept the config.
    pub(crate) kept: bool,
    /// The outcome and its reason, in words.
    pub(crate) what: String,
}

/// A config on trial, for operators.
#[derive(Clone, Debug)]
pub(crate) struct PendingView {
    pub(crate) name: String,
    pub(crate) by: String,
    /// The time until the trial ends by itself.
    pub(crate) left: Duration,
    /// Whether LoadX goes back if nobody confirms; otherwise LoadX keeps the config.
    pub(crate) needs_word: bool,
    pub(crate) conditions: Vec<String>,
}

impl Pending {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn view(&self, now: Time) -> PendingView {
        PendingView {
            name: self.name.clone(),
            by: self.by.clone(),
            left: self.trial.ends().since(now),
            needs_word: self.trial.needs_word(),
            conditions: self.trial.terms().conditions.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Manager {
    /// Applies `base` on trial. The state file says so before, so that LoadX does not start with the config after a crash.
    pub(super) async fn begin_trial(
        &self,
        state: &mut MutexGuard<'_, State>,
        base: Base,
        mut warnings: Vec<String>,
        (terms, keep): (Terms, bool),
        by: &By,
        what: String,
    ) -> Result<Done, ManagerError> {
        for condition in &terms.conditions {
            let Some(cluster) = &condition.cluster else { continue };
            if !base.config.clusters.iter().any(|known| *known.name == **cluster) {
                return Err(ManagerError::Faulty(format!(
                    "the condition \"{condition}\" names a cluster that the config does not have"
                )));
            }
        }
        if let Err(reason) = state.note_trial(&base) {
            warnings.push(format!("a restart during the trial would not go back to the former config: {reason}"));
        }
        let (former, before) = (state.base.clone(), self.proxy.observe().await?.counts);
        let applied = match self.apply(state, base, warnings).await {
            Ok(applied) => applied,
            Err(error) => {
                // The trial did not begin, so that the next start needs no note; a note that stays is only too careful.
                let _ = state.forget_trial();
                return Err(error);
            }
        };
        let name = match &state.base.origin {
            Origin::Operator(name) => name.clone(),
            Origin::File | Origin::Options => what.clone(),
        };
        let number = state.generation;
        let trial = Trial::new(self.now(), terms);
        state.pending = Some(Pending { trial, number, before, former, name, keep, by: by.to_owned() });
        state.last_trial = None;
        let done = self.told(state, by, format!("{what}, on trial"), applied, Ok(()));
        let manager = self.clone();
        tokio::spawn(async move { manager.watch(number).await });
        Ok(done)
    }

    /// Looks at the figures of a trial until the trial ends.
    async fn watch(&self, number: u64) {
        let mut next = Trial::LOOK_INTERVAL;
        loop {
            tokio::time::sleep(next).await;
            // Without figures the limits of time still hold.
            let observed = self.proxy.observe().await.ok();
            let mut state = self.state.lock().await;
            let Some(pending) = state.pending.as_ref().filter(|pending| pending.number == number) else { return };
            let now = self.now();
            let figures = observed.map(|observed| figures(&observed, &pending.before)).unwrap_or_default();
            match pending.trial.judge(now, &figures) {
                Verdict::Wait(at) => next = at.since(now).max(Duration::from_millis(1)),
                Verdict::Keep => {
                    let what = format!("the config {} is kept, because the watch ended well", pending.name);
                    drop(self.keep_trial(&mut state, what, TRIAL));
                    return;
                }
                Verdict::GoBack(reason) => {
                    match self.go_back(&mut state, &reason, TRIAL).await {
                        Ok(_) => {}
                        Err(error) => self.tell(true, &format!("LoadX cannot go back to the former config: {error}")),
                    }
                    return;
                }
            }
        }
    }

    /// Keeps the config on trial.
    ///
    /// # Errors
    /// When no config is on trial.
    pub(crate) async fn confirm(&self, generation: Option<u64>, by: &By) -> Result<Done, ManagerError> {
        let mut state = self.state.lock().await;
        state.expect(generation)?;
        let pending = state.pending.as_ref().ok_or_else(no_trial)?;
        let what = format!("the config {} is confirmed", pending.name);
        self.keep_trial(&mut state, what, by).ok_or_else(no_trial)
    }

    /// Goes back to the former config.
    ///
    /// # Errors
    /// When no config is on trial, or the proxy refuses the former config.
    pub(crate) async fn roll_back(&self, generation: Option<u64>, by: &By) -> Result<Done, ManagerError> {
        let mut state = self.state.lock().await;
        state.expect(generation)?;
        if state.pending.is_none() {
            return Err(no_trial());
        }
        self.go_back(&mut state, "an operator rolled back", by).await
    }

    fn keep_trial(&self, state: &mut MutexGuard<'_, State>, what: String, by: &By) -> Option<Done> {
        let Pending { keep, .. } = state.pending.take()?;
        let saved = state.note_confirmed(keep);
        let warnings = state.not_kept(keep).into_iter().collect();
        state.last_trial = Some(TrialEnded { kept: true, what: what.clone() });
        Some(self.told(state, by, what, Applying { warnings }, saved))
    }

    /// Applies the config before the trial. The trial goes on when the proxy refuses that config.
    async fn go_back(&self, state: &mut MutexGuard<'_, State>, reason: &str, by: &By) -> Result<Done, ManagerError> {
        let Some(pending) = state.pending.take() else { return Err(no_trial()) };
        let former = pending.former.clone();
        let applied = match self.apply(state, former, Vec::new()).await {
            Ok(applied) => applied,
            Err(error) => {
                let what = format!("the config {} stays, because going back failed: {error}", pending.name);
                state.last_trial = Some(TrialEnded { kept: true, what });
                return Err(error);
            }
        };
        let saved = state.note_rollback(reason);
        let what = format!("LoadX went back from the config {} to the former config: {reason}", pending.name);
        state.last_trial = Some(TrialEnded { kept: false, what: what.clone() });
        self.proxy.note_failure(what.clone());
        tracing::warn!("{what}");
        Ok(self.told(state, by, what, applied, saved))
    }
}

fn no_trial() -> ManagerError {
    ManagerError::Conflict("no config is on trial".to_owned())
}

/// The figures since the counts `before`.
fn figures(observed: &Observed, before: &Counts) -> Figures {
    let of = |ids: &[ClusterId], healthy: usize| {
        let (counts, p99) = observed.counts.since(before, ids);
        ClusterFigures { requests: counts.requests, errors: counts.errors, p99, healthy }
    };
    let ids: Vec<ClusterId> = observed.clusters.iter().map(|cluster| cluster.id).collect();
    let healthy = observed.clusters.iter().map(|cluster| cluster.snapshot.admitted()).sum();
    let clusters = observed.clusters.iter().map(|cluster| {
        let figures = of(&[cluster.id], cluster.snapshot.admitted());
        (cluster.name.to_string(), figures)
    });
    Figures { all: of(&ids, healthy), clusters: clusters.collect() }
}
