//! Changes of backends, which lie on top of the config.

use loadx_core::config::Wanted;

use super::{By, Done, Manager, ManagerError};

impl Manager {
    /// Makes a change of a backend.
    ///
    /// # Errors
    /// When the change is not possible, or the number of the plan is not the one that the operator knows.
    pub(crate) async fn change(
        &self,
        (cluster, backend): (Option<&str>, &str),
        wanted: &[Wanted],
        generation: Option<u64>,
        keep: bool,
        by: &By,
    ) -> Result<Done, ManagerError> {
        let mut state = self.state.lock().await;
        state.expect(generation)?;
        let (mut changes, mut kept) = (state.changes.clone(), state.kept.clone());
        let mut told = Vec::new();
        for wanted in wanted {
            let place = changes.make(&state.base.config, cluster, backend, wanted)?;
            told.push(format!("{} {place}", verb(wanted)));
            if keep {
                // The kept changes may lack what the change builds on, such as a backend that was added without being kept.
                kept.make(&state.base.config, cluster, backend, wanted)?;
            }
        }
        let former = std::mem::replace(&mut state.changes, changes);
        let base = state.base.clone();
        let done = match self.apply(&mut state, base, Vec::new()).await {
            Ok(done) => done,
            Err(error) => {
                state.changes = former;
                return Err(error);
            }
        };
        let former = if keep { std::mem::replace(&mut state.kept, kept) } else { state.kept.clone() };
        let saved = state.save_changes();
        if saved.is_err() {
            // What is not in the state file is not kept.
            state.kept = former;
        }
        Ok(self.told(&mut state, by, told.join(", "), done, saved))
    }

    /// Undoes all changes of backends, also the kept ones.
    ///
    /// # Errors
    /// When the proxy is stopping, or the number of the plan is not the one that the operator knows.
    pub(crate) async fn discard_changes(&self, generation: Option<u64>, by: &By) -> Result<Done, ManagerError> {
        let mut state = self.state.lock().await;
        state.expect(generation)?;
        let former = std::mem::take(&mut state.changes);
        let base = state.base.clone();
        let done = match self.apply(&mut state, base, Vec::new()).await {
            Ok(done) => done,
            Err(error) => {
                state.changes = former;
                return Err(error);
            }
        };
        let former = std::mem::take(&mut state.kept);
        let saved = state.save_changes();
        if saved.is_err() {
            state.kept = former;
        }
        Ok(self.told(&mut state, by, "changes of backends discarded".to_owned(), done, saved))
    }
}

fn verb(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Drain(true) => "drain".to_owned(),
        Wanted::Drain(false) => "ready".to_owned(),
        Wanted::Weight(weight) => format!("weight {weight} for"),
        Wanted::Add(_) => "add".to_owned(),
        Wanted::Remove => "remove".to_owned(),
    }
}
