//! Rows that only add to windows that are open already: nearly all rows of a meter in good health.
//! They are kept as they came, with the readings for the next cut, and the windows take them in
//! together, before anybody looks at them. This changes no result: sums are exact integers.

use super::Group;
use crate::reading::RowView;
use crate::totaliser::Shown;

/// The rows that no window has taken in yet, and which ones may join them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calm {
    /// A row read from here on does more than to add.
    until_ms: i64,
    /// When the last row was read.
    last_ms: i64,
    /// How many wait, at the end of what is pending.
    rows: usize,
}

impl Calm {
    /// No row only adds.
    pub(super) const NEVER: Calm = Calm {
        until_ms: i64::MIN,
        last_ms: i64::MIN,
        rows: 0,
    };
}

impl Group {
    /// Take in a whole row that only adds to the open windows; return false when it may do more.
    pub(super) fn push_calm(&mut self, row: RowView<'_>) -> bool {
        let Calm {
            until_ms, last_ms, ..
        } = self.calm;
        let in_order = last_ms <= row.at_ms && row.at_ms < until_ms;
        if !in_order || !self.totalisers_go_on(row) {
            return false;
        }
        if self.demands.is_empty() {
            self.go_on(row);
        } else {
            let steps = self.steps_to(row);
            self.demands.push(row, &steps);
            self.steps = steps;
        }
        self.rows.push(row, true);
        self.calm.rows += 1;
        self.calm.last_ms = row.at_ms;
        true
    }

    fn totalisers_go_on(&self, row: RowView<'_>) -> bool {
        let last_ms = self.calm.last_ms;
        self.counting.iter().all(|&point| {
            let Some(Some(value)) = row.values.get(point).copied() else {
                return false;
            };
            match self.totalisers.get(point) {
                Some(Some(totaliser)) => {
                    let at_ms = row.at_ms;
                    totaliser.goes_on(last_ms, Shown { at_ms, value })
                }
                _ => self.shown(point).is_some_and(|last| last.value <= value),
            }
        })
    }

    /// Let the totalisers count, when nobody asks what.
    fn go_on(&mut self, row: RowView<'_>) {
        let at_ms = row.at_ms;
        for &point in &self.counting {
            let totaliser = self.totalisers.get_mut(point);
            let value = row.values.get(point).copied().flatten();
            if let (Some(Some(totaliser)), Some(value)) = (totaliser, value) {
                totaliser.go_on(Shown { at_ms, value });
            }
        }
    }

    /// The last reading of a totaliser without a guard.
    pub(super) fn shown(&self, point: usize) -> Option<Shown> {
        if self.calm.rows > 0 {
            let at_ms = self.calm.last_ms;
            let value = self.rows.last(1).columns(point).map(|&[value]| value);
            return value.last().map(|value| Shown { at_ms, value });
        }
        let good = self.good.get(point).copied().flatten()?;
        let (at_ms, value) = (good.at_ms, good.value);
        Some(Shown { at_ms, value })
    }

    /// Let the windows take in what waits for that.
    pub(super) fn fold(&mut self) {
        if self.calm.rows == 0 {
            return;
        }
        let rows = self.rows.last(self.calm.rows);
        for windows in &mut self.windows {
            windows.push_run(rows, &self.good);
        }
        let held_until_ms = self.hold_until_ms(self.calm.last_ms);
        let last = self.rows.last(1);
        for (point, good) in self.good.iter_mut().enumerate() {
            if let (Some(good), Some(&[value])) = (good, last.columns(point).next()) {
                good.at_ms = self.calm.last_ms;
                good.value = value;
                good.held_until_ms = held_until_ms;
            }
        }
        self.calm.rows = 0;
    }

    /// Find out which rows only add from here on; `last_ms` is when the last row was read, if that
    /// was one with a good value for every point.
    pub(super) fn calm_down(&mut self, last_ms: Option<i64>) {
        let counts = !self.counting.is_empty();
        self.calm = Calm::NEVER;
        if let Some(last_ms) = last_ms {
            let ends_ms = self.windows.iter();
            let ends_ms = ends_ms.map(|it| it.calm_until_ms(last_ms, counts));
            self.calm.until_ms = ends_ms.min().unwrap_or(i64::MAX);
            self.calm.last_ms = last_ms;
        }
    }

    /// The same, for rows behind those that only added until now.
    pub(super) fn stay_calm(&mut self) {
        let is_calm = self.calm.until_ms > i64::MIN;
        self.calm_down(is_calm.then_some(self.calm.last_ms));
    }
}
