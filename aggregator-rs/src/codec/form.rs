//! What each column of a table is like, coded before its rows.

use super::cm::Shaped;
use super::flags;
use super::mixing::Model;
use super::range::Coder;
use super::scalar::{digits_of, Scalar};
use crate::table::{Column, READING_LEAD};

/// What a column is like.
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Form {
    /// No cell has a value.
    pub(super) is_empty: bool,
    /// Some have and some have not.
    pub(super) is_sparse: bool,
    /// All values are the first one.
    pub(super) is_constant: bool,
    /// It goes on from the last value of a former table, which counts as the first.
    pub(super) is_continued: bool,
    pub(super) first: i64,
    /// All values differ from the first by multiples of it.
    pub(super) unit: i64,
    /// How far from the first values are, at most, where the unit is not 1.
    reach: u64,
}

impl Form {
    /// A column of qualities that has nothing to say.
    const GOOD: Form = Form {
        is_empty: false,
        is_sparse: false,
        is_constant: true,
        is_continued: false,
        first: 0,
        unit: 1,
        reach: 0,
    };

    /// Look at a column.
    pub(super) fn of(column: &Column) -> Form {
        let first = column.iter().flatten().next();
        let is_constant = column.iter().flatten().all(|value| Some(value) == first);
        let (unit, reach) = first.map_or((1, 0), |first| unit(column, *first));
        Form {
            is_empty: first.is_none(),
            is_sparse: first.is_some() && column.iter().any(Option::is_none),
            is_constant,
            is_continued: false,
            first: first.copied().unwrap_or_default(),
            unit,
            reach,
        }
    }

    /// Whether its rows are coded one by one.
    pub(super) fn is_varying(self) -> bool {
        !self.is_empty && !self.is_constant
    }
}

/// The greatest common divisor of what the cells differ by, and the largest difference; 1 and none
/// where a difference does not fit.
fn unit(column: &Column, first: i64) -> (i64, u64) {
    let (mut unit, mut reach) = (0_u64, 0);
    for value in column.iter().flatten() {
        let Some(difference) = value.checked_sub(first) else {
            return (1, 0);
        };
        let mut rest = difference.unsigned_abs();
        reach = rest.max(reach);
        while rest != 0 {
            (unit, rest) = (rest, unit % rest);
        }
        if unit == 1 {
            return (1, 0);
        }
    }
    i64::try_from(unit.max(1)).map_or((1, 0), |unit| (unit, reach))
}

/// The greatest common divisor of what the cells of such a column and `again` differ by; 0 when
/// they do not differ, 1 where a difference may not fit.
fn unit_from(form: &Form, again: i64) -> i64 {
    let difference = form.first.abs_diff(again);
    if difference.saturating_add(form.reach) > i64::MAX as u64 {
        return 1;
    }
    let mut unit = if form.is_constant {
        0
    } else {
        form.unit.unsigned_abs()
    };
    let mut rest = difference;
    while rest != 0 {
        (unit, rest) = (rest, unit % rest);
    }
    i64::try_from(unit).unwrap_or(1)
}

/// A table: how many rows it has, where its qualities begin, and what a former table of its shape
/// taught.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) rows: usize,
    pub(super) qualities: usize,
    pub(super) known: Option<&'a Shaped>,
}

impl Frame<'_> {
    /// Whether a keyframe taught what is known.
    fn has_keyframe(&self) -> bool {
        self.known.is_some_and(|known| known.back > 0)
    }

    /// Whether a column has no value, or begins not far from the last one known.
    fn is_next(&self, at: usize, form: &Form) -> bool {
        let last = self.known.and_then(|known| known.last.get(at));
        form.is_empty
            || last.is_some_and(|last| {
                let far = digits_of(form.first.wrapping_sub(*last));
                far <= NEAR.max(digits_of(form.first) / 2)
            })
    }
}

/// Code what the value columns are like, then what the qualities are like.
pub(super) fn code_forms<C: Coder>(
    model: &mut Model,
    coder: &mut C,
    forms: &mut [Form],
    frame: Frame<'_>,
) {
    let (values, qualities) = forms.split_at_mut(frame.qualities);
    let is_good =
        |form: &Form| form.is_constant && !form.is_empty && !form.is_sparse && form.first == 0;
    let is_whole = |form: &Form| !form.is_empty && !form.is_sparse;
    let good = model.flag(coder, flags::GOOD, qualities.iter().all(is_good));
    let whole = model.flag(coder, flags::WHOLE, values.iter().all(is_whole));
    let mut heads = Heads {
        model,
        coder,
        last: Form::default(),
        is_again: false,
        is_beside: false,
        residual: 0,
        may_go_on: frame.rows <= SHORT || frame.has_keyframe(),
        all_go_on: false,
    };
    if frame.has_keyframe() {
        let mut forms = values.iter().enumerate();
        let wanted = forms.all(|(at, form)| frame.is_next(at, form));
        heads.all_go_on = heads.flag(flags::ALL_CONTINUED, false, wanted);
    }
    for (at, form) in values.iter_mut().enumerate() {
        let again = frame.known.and_then(|known| {
            let unit = known.units.get(at).copied().unwrap_or(1);
            known.last.get(at).map(|last| (*last, unit.max(1)))
        });
        heads.values(form, whole, again, at);
    }
    heads.last = Form::default();
    for form in qualities {
        if good {
            *form = Form::GOOD;
        } else {
            heads.qualities(form);
        }
    }
}

/// Codes one form after the other.
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
struct Heads<'a, C> {
    model: &'a mut Model,
    coder: &'a mut C,
    last: Form,
    is_again: bool,
    is_beside: bool,
    residual: i64,
    /// Columns may go on from a former table.
    may_go_on: bool,
    /// All do.
    all_go_on: bool,
}

/// So many rows are not worth first values of their own; behind a keyframe none are.
const SHORT: usize = 6;
/// A difference of so many digits is near in any case.
const NEAR: u32 = 12;
/// What the period of slots mostly is a multiple of.
const SECOND_MS: i64 = 1000;

impl<C: Coder> Heads<'_, C> {
    fn flag(&mut self, flag: usize, context: bool, value: bool) -> bool {
        let flag = flag + usize::from(context);
        self.model.flag(self.coder, flag, value)
    }

    fn holes(&mut self, form: &mut Form) {
        form.is_empty = self.flag(flags::EMPTY, self.last.is_empty, form.is_empty);
        if !form.is_empty {
            form.is_sparse = self.flag(flags::SPARSE, self.last.is_sparse, form.is_sparse);
        }
    }

    fn values(&mut self, form: &mut Form, is_whole: bool, again: Option<(i64, i64)>, at: usize) {
        if is_whole {
            form.is_empty = false;
            form.is_sparse = false;
        } else {
            self.holes(form);
        }
        if form.is_empty {
            return;
        }
        if let (Some((again, unit)), true) = (again, self.may_go_on) {
            self.go_on(form, again, unit);
            if form.is_continued {
                self.last = *form;
                return;
            }
        }
        let again = again.map(|(again, _)| again);
        form.is_constant = self.flag(flags::CONSTANT, self.last.is_constant, form.is_constant);
        form.unit = if form.is_constant {
            1
        } else {
            self.unit(form.unit, at)
        };
        form.first = self.first(*form, again, at == 0);
        self.last = *form;
    }

    /// Code what a column's differences are multiples of.
    fn unit(&mut self, unit: i64, at: usize) -> i64 {
        let flag = flags::UNIT + 2 * usize::from(at < READING_LEAD);
        if !self.flag(flag, self.last.unit != 1, unit != 1) {
            return 1;
        }
        let in_seconds = at == 0 && self.flag(flags::THOUSANDS, false, unit % SECOND_MS == 0);
        let scale = if in_seconds { SECOND_MS } else { 1 };
        let context = Scalar::Unit.context(digits_of(self.last.unit), 0);
        let unit = self.model.integer(self.coder, &context, unit / scale);
        unit.wrapping_mul(scale)
    }

    /// Code whether a column goes on from a former table, and in which unit.
    fn go_on(&mut self, form: &mut Form, again: i64, kept: i64) {
        let wanted = self.is_near(form.first, again);
        form.is_continued =
            self.all_go_on || self.flag(flags::CONTINUED, self.last.is_continued, wanted);
        if !form.is_continued {
            return;
        }
        let unit = unit_from(form, again);
        form.is_constant = false;
        form.first = again;
        form.unit = if kept == 1 || self.flag(flags::KEPT, false, unit % kept == 0) {
            kept
        } else {
            let context = Scalar::Unit.context(digits_of(self.last.unit), 1);
            self.model.integer(self.coder, &context, unit.max(1))
        };
    }

    /// Whether a first value is better coded from `again` than otherwise.
    fn is_near(&self, first: i64, again: i64) -> bool {
        let beside = digits_of(first.wrapping_sub(self.last.first));
        digits_of(first.wrapping_sub(again)) <= beside.min(digits_of(first))
    }

    fn qualities(&mut self, form: &mut Form) {
        self.holes(form);
        if form.is_empty {
            return;
        }
        let flag = flags::CONSTANT + 2;
        form.is_constant = self.flag(flag, self.last.is_constant, form.is_constant);
        form.unit = 1;
        if form.is_constant {
            let context = Scalar::Quality.context(digits_of(self.last.first), 1);
            form.first = self.model.integer(self.coder, &context, form.first);
        } else {
            form.first = 0;
        }
        self.last = *form;
    }

    /// A first value: from a former table, from the column before, or as it is.
    fn first(&mut self, form: Form, again: Option<i64>, is_first_column: bool) -> i64 {
        let first = form.first;
        let beside = self.last.first;
        if let Some(again) = again {
            let wanted = self.is_near(first, again);
            self.is_again = self.flag(flags::AGAIN, self.is_again, wanted);
            if self.is_again {
                return self.difference(Scalar::FirstAgain, form, again);
            }
        }
        let wanted = digits_of(first.wrapping_sub(beside)) + 1 < digits_of(first);
        let flag = flags::BESIDE + 2 * digits_of(beside).min(31) as usize;
        self.is_beside = self.flag(flag, self.is_beside, wanted);
        if self.is_beside {
            return self.difference(Scalar::FirstBeside, form, beside);
        }
        let kind = if is_first_column {
            Scalar::Time
        } else {
            Scalar::First
        };
        self.difference(kind, form, 0)
    }

    fn difference(&mut self, kind: Scalar, form: Form, from: i64) -> i64 {
        let context = kind.context(digits_of(self.last.first), digits_of(self.residual));
        let wanted = form.first.wrapping_sub(from);
        let is_whole = form.unit != 1 && {
            let is_whole = wanted.checked_rem(form.unit) == Some(0);
            self.flag(flags::DIVIDED, kind == Scalar::Time, is_whole)
        };
        let unit = if is_whole { form.unit } else { 1 };
        let wanted = wanted.checked_div(unit).unwrap_or(wanted);
        self.residual = self.model.integer(self.coder, &context, wanted);
        from.wrapping_add(self.residual.wrapping_mul(unit))
    }
}
