//! Rows that only add to windows that are open already: nearly all rows of a meter in good health.
//! They are kept as they came, with the readings for the next cut, and everybody takes them in
//! together, before anybody looks. This changes no result: sums are exact integers, and a row that
//! may do more than to add is not kept for later.

use super::Group;
use crate::reading::{Block, RowView};
use crate::totaliser::{Shown, Totaliser};
use crate::window::BRIDGE_PERIODS;

/// The rows that only this group has taken in yet, and which ones may join them.
#[derive(Clone, Debug)]
pub(super) struct Calm {
    /// A row read from here on does more than to add.
    until_ms: i64,
    /// When the last row was read.
    last_ms: i64,
    /// How many wait, at the end of what is pending.
    rows: usize,
    /// One for each point that counts.
    lines: Vec<Line>,
}

/// Where a register stands, and where it may stand next so that it only counts.
#[derive(Clone, Copy, Debug)]
struct Line {
    point: usize,
    value: i64,
    rise_max: u64,
    value_max: i64,
}

impl Line {
    /// Of a register read as `shown`; none where the next reading may be judged.
    fn of(point: usize, shown: Shown, totaliser: Option<&Totaliser>) -> Option<Line> {
        let (rise_max, value_max) = match totaliser {
            Some(totaliser) if totaliser.is_at(shown) => totaliser.stride(),
            Some(_) => return None,
            None => (u64::MAX, i64::MAX),
        };
        let value = shown.value;
        Some(Line {
            point,
            value,
            rise_max,
            value_max,
        })
    }

    /// Go on to a value; return whether that only counts.
    #[inline]
    fn go_on(&mut self, value: i64) -> bool {
        let rises = value >= self.value && value <= self.value_max;
        let is_stride = value.abs_diff(self.value) <= self.rise_max;
        self.value = value;
        rises & is_stride
    }
}

impl Calm {
    /// No row only adds.
    pub(super) const NEVER: Calm = Calm {
        until_ms: i64::MIN,
        last_ms: i64::MIN,
        rows: 0,
        lines: Vec::new(),
    };
}

impl Group {
    /// Take in a whole row that only adds to what is open; return false when it may do more. Then
    /// nothing was taken in, and [`Group::calm_down`] has to be told of the row.
    pub(super) fn push_calm(&mut self, row: RowView<'_>) -> bool {
        let calm = &mut self.calm;
        let in_order = calm.last_ms <= row.at_ms && row.at_ms < calm.until_ms;
        let bridge_ms = self.shape.period_ms * BRIDGE_PERIODS;
        if !in_order || row.at_ms.saturating_sub(calm.last_ms) > bridge_ms {
            return false;
        }
        let goes_on = |line: &mut Line| match row.values.get(line.point) {
            Some(Some(value)) => line.go_on(*value),
            _ => false,
        };
        if !calm.lines.iter_mut().all(goes_on) {
            return false;
        }
        calm.rows += 1;
        calm.last_ms = row.at_ms;
        self.rows.push(row, true);
        true
    }

    /// Let everybody take in what waits for that.
    pub(super) fn fold(&mut self) {
        if self.calm.rows == 0 {
            return;
        }
        let rows = self.rows.last(self.calm.rows);
        for windows in &mut self.windows {
            windows.push_run(rows, &self.good);
        }
        self.demands.push_run(rows, &self.good, &self.totalisers);
        let at_ms = self.calm.last_ms;
        for &point in &self.counting {
            let totaliser = self.totalisers.get_mut(point).and_then(Option::as_mut);
            let good = self.good.get(point).copied().flatten();
            if let (Some(totaliser), Some(good), Some(value)) =
                (totaliser, good, rows.column(point).next_back())
            {
                let shown = Shown { at_ms, value };
                totaliser.run_on(shown, changed_ms(rows, point, good.value));
            }
        }
        let held_until_ms = self.hold_until_ms(at_ms);
        let last = self.rows.last(1);
        for (point, good) in self.good.iter_mut().enumerate() {
            if let (Some(good), Some(value)) = (good, last.column(point).next()) {
                good.at_ms = at_ms;
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
        self.calm.until_ms = i64::MIN;
        if let Some(last_ms) = last_ms.filter(|&last_ms| self.find_lines(last_ms)) {
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

    /// Find the lines of a group last read at `at_ms`; return whether every register is on one.
    fn find_lines(&mut self, at_ms: i64) -> bool {
        let line = |&point: &usize| {
            let value = self.good.get(point).copied().flatten()?.value;
            let totaliser = self.totalisers.get(point).and_then(Option::as_ref);
            Line::of(point, Shown { at_ms, value }, totaliser)
        };
        self.calm.lines.clear();
        self.calm.lines.extend(self.counting.iter().map_while(line));
        self.calm.lines.len() == self.counting.len()
    }
}

/// When the value of a point was read first that it has in the last of the rows; none where it was
/// the value `before` them.
fn changed_ms(rows: Block<'_>, point: usize, before: i64) -> Option<i64> {
    let last = rows.column(point).next_back()?;
    let is_last = |&value: &i64| value == last;
    let still = rows.column(point).rev().take_while(is_last).count();
    let changed = before != last || still < rows.rows();
    let first = rows.read_at().nth(rows.rows() - still);
    first.filter(|_| changed)
}
