//! Configs on trial: LoadX goes back to the former config by itself.

use std::time::Duration;

use loadx_core::trial::{ClusterFigures, Figures, Terms, Trial, Verdict};
use loadx_core::{ClusterId, Time};
use loadx_proxy::{Counts, Observed};
use tokio::sync::MutexGuard;

use super::{Applying, Base, By, Done, Manager, ManagerError, Origin, State};

/// The time between two tries to go back, when the proxy refuses the former config: a port may be taken for a moment.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

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
    /// Why LoadX goes back; the proxy has refused the former config so far.
    going_back: Option<String>,
}

/// How a trial ended.
#[derive(Clone, Debug)]
pub(crate) struct TrialEnded {
    /// The number of the plan with which the trial began.
    pub(crate) number: u64,
    /// Whether LoadX kept the config.
    pub(crate) kept: bool,
    /// Whether the state file has what is to be kept across restarts.
    pub(crate) is_saved: bool,
    /// The outcome and its reason, in words.
    pub(crate) what: String,
}

/// A config on trial, for operators.
#[derive(Clone, Debug)]
pub(crate) struct PendingView {
    /// The number of the plan with which the trial began.
    pub(crate) number: u64,
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
            number: self.number,
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
        let before = self.proxy.observe().await?.counts;
        if let Err(reason) = state.note_trial(&base) {
            warnings.push(format!("a restart during the trial would not go back to the former config: {reason}"));
        }
        let former = state.base.clone();
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
        state.pending =
            Some(Pending { trial, number, before, former, name, keep, by: by.to_owned(), going_back: None });
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
            let now = self.now();
            if state.is_stopping {
                return;
            }
            let Some(pending) = state.pending.as_mut().filter(|pending| pending.number == number) else { return };
            let figures = observed.map(|observed| figures(&observed, &pending.before));
            let verdict = match &pending.going_back {
                Some(reason) => Verdict::GoBack(reason.clone()),
                None => pending.trial.judge(now, figures.as_ref()),
            };
            match verdict {
                Verdict::Wait(at) => next = at.since(now).max(Duration::from_millis(1)),
                Verdict::Keep => {
                    let ClusterFigures { requests, errors, .. } = figures.unwrap_or_default().all;
                    let what = format!(
                        "the config {} is kept, because the watch ended well: {errors} of {requests} requests failed",
                        pending.name
                    );
                    drop(self.keep_trial(&mut state, what, false, TRIAL));
                    return;
                }
                Verdict::GoBack(reason) => {
                    if self.go_back(&mut state, &reason, TRIAL).await.is_ok() {
                        return;
                    }
                    next = RETRY_INTERVAL;
                }
            }
        }
    }

    /// Keeps the config on trial.
    ///
    /// # Errors
    /// When no config is on trial.
    pub(crate) async fn confirm(&self, generation: Option<u64>, keep: bool, by: &By) -> Result<Done, ManagerError> {
        let mut state = self.state.lock().await;
        state.expect(generation)?;
        let pending = state.pending.as_ref().ok_or_else(no_trial)?;
        let what = format!("the config {} is confirmed", pending.name);
        self.keep_trial(&mut state, what, keep, by).ok_or_else(no_trial)
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

    fn keep_trial(&self, state: &mut MutexGuard<'_, State>, what: String, keep: bool, by: &By) -> Option<Done> {
        let Pending { keep: kept_at_begin, number, .. } = state.pending.take()?;
        let (keep, mut warnings) = (keep || kept_at_begin, Vec::new());
        let saved = state.note_confirmed(keep);
        let saved = Self::settle(state, &mut warnings).and(saved);
        warnings.extend(state.not_kept(keep));
        state.refused = None;
        state.last_trial = Some(TrialEnded { number, kept: true, is_saved: saved.is_ok(), what: what.clone() });
        Some(self.told(state, by, what, Applying { warnings }, saved))
    }

    /// Applies the config before the trial, with the changes of operators. The trial goes on when the proxy refuses that
    /// config, and LoadX tries again.
    async fn go_back(&self, state: &mut MutexGuard<'_, State>, reason: &str, by: &By) -> Result<Done, ManagerError> {
        let Some(pending) = &state.pending else { return Err(no_trial()) };
        let (former, number, name) = (pending.former.clone(), pending.number, pending.name.clone());
        let is_first = pending.going_back.is_none();
        let refused = state.base.text.clone();
        let applied = match self.apply(state, former, Vec::new()).await {
            Ok(applied) => applied,
            Err(error) => {
                if is_first {
                    let told = format!("LoadX cannot go back from the config {name}, and will try again: {error}");
                    self.tell(true, &told);
                    self.proxy.note_failure(told);
                }
                state.pending.iter_mut().for_each(|pending| pending.going_back = Some(reason.to_owned()));
                return Err(error);
            }
        };
        state.pending = None;
        state.refused = refused;
        let saved = state.note_rollback(reason).and(state.save_changes());
        let what = format!("LoadX went back from the config {name} to the former config: {reason}");
        state.last_trial = Some(TrialEnded { number, kept: false, is_saved: saved.is_ok(), what: what.clone() });
        if by == TRIAL {
            self.proxy.note_failure(what.clone());
        }
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
    let healthy = observed.clusters.iter().map(|cluster| cluster.snapshot.admitted()).sum();
    let (all, p99) = observed.counts.total_since(before);
    let all = ClusterFigures { requests: all.requests, errors: all.errors, p99, healthy };
    let clusters = observed.clusters.iter().map(|cluster| {
        let figures = of(&[cluster.id], cluster.snapshot.admitted());
        (cluster.name.to_string(), figures)
    });
    Figures { all, clusters: clusters.collect() }
}
