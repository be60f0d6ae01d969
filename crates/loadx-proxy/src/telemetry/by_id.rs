//! Counts of listeners, routes and clusters, by the numbers of their ids.

/// Counts that can be added to others.
pub(super) trait Counts: Default {
    fn add(&mut self, other: &Self);
}

/// Counts by the number of an id. Ids are few and never reused.
#[derive(Clone, Debug)]
pub(super) struct ById<C>(Vec<Entry<C>>);

#[derive(Clone, Debug)]
enum Entry<C> {
    /// Nothing was counted.
    Nothing,
    Counted(Box<C>),
    /// What had this id has left the plan. Late exchanges count only in the totals.
    Forgotten,
}

impl<C> Default for ById<C> {
    fn default() -> Self {
        ById(Vec::new())
    }
}

impl<C: Counts> ById<C> {
    /// The counts of an id; `None` if nothing was counted.
    pub(super) fn get(&self, number: u32) -> Option<&C> {
        match self.0.get(number as usize) {
            Some(Entry::Counted(counts)) => Some(counts),
            _ => None,
        }
    }

    /// The counts of an id, to count; `None` for what has left the plan.
    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut C> {
        if !matches!(self.0.get(number as usize), Some(Entry::Counted(_))) {
            self.begin(number);
        }
        match &mut self.0[number as usize] {
            Entry::Counted(counts) => Some(counts),
            Entry::Nothing | Entry::Forgotten => None,
        }
    }

    #[cold]
    fn begin(&mut self, number: u32) {
        let entry = self.entry(number);
        if matches!(entry, Entry::Nothing) {
            *entry = Entry::Counted(Box::default());
        }
    }

    /// Frees the counts of an id that has left the plan.
    pub(super) fn forget(&mut self, number: u32) {
        *self.entry(number) = Entry::Forgotten;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (number, entry) in other.0.iter().enumerate() {
            if let Entry::Counted(counts) = entry
                && let Some(mine) = self.get_mut(number as u32)
            {
                mine.add(counts);
            }
        }
    }

    fn entry(&mut self, number: u32) -> &mut Entry<C> {
        if number as usize >= self.0.len() {
            self.0.resize_with(number as usize + 1, || Entry::Nothing);
        }
        &mut self.0[number as usize]
    }
}
