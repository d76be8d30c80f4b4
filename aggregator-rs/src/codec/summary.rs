//! How a table of windows is walked: few rows, many columns. Each cell is predicted from its own
//! row, the fields of its point and the same field of the point before, and from the row above.

// a miss need not be exact
#![allow(clippy::cast_precision_loss)]

use super::cm::{Knowledge, Shaped};
use super::flags;
use super::head::Head;
use super::mixing::{Context, Model, Shape, SHAPES};
use super::range::Coder;
use super::scalar::Scalar;
use super::series::{cost, digits, scale, shape, spread};
use crate::table::{Column, WINDOW_COLUMNS};

/// Ways of predicting a cell, in the order of `Cells::guesses`.
const WAYS: usize = 6;
/// What a field is predicted from depends on whether the one before it has a value.
const FIELDS: usize = 2 * WINDOW_COLUMNS;
/// First direct context of windows.
const DIRECT: usize = 24;
/// Their set of weights.
const SET: usize = 17;
/// Means have this many times the resolution of the other fields.
const MEAN_SCALE: i64 = 1000;

/// What is known of a field, over all points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    costs: [f64; WAYS],
    misses: [f64; WAYS],
    residual: i64,
    seen: u32,
}

impl Field {
    const NEW: Field = Field {
        costs: [0.0; WAYS],
        misses: [4.0; WAYS],
        residual: 0,
        seen: 0,
    };
}

/// What is known of windows.
#[derive(Clone, Debug)]
pub(super) struct Fields(Vec<Field>);

impl Fields {
    pub(super) fn new() -> Fields {
        Fields(vec![Field::NEW; FIELDS])
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Form {
    is_empty: bool,
    is_sparse: bool,
}

/// Code a table.
pub(super) fn table<C: Coder>(
    knowledge: &mut Knowledge,
    coder: &mut C,
    head: &Head,
    columns: &mut [Column],
) {
    let known = knowledge.take(head);
    let forms = code_forms(&mut knowledge.model, coder, columns);
    let mut last = known.map_or_else(|| vec![0; head.width], |known| known.last);
    let mut is_present = vec![true; head.width];
    for at in 0..head.rows {
        let mut row = Row::default();
        for (number, column) in (0_usize..).zip(&mut *columns) {
            let (Some(form), Some(last), Some(above)) = (
                forms.get(number),
                last.get_mut(number),
                is_present.get_mut(number),
            ) else {
                continue;
            };
            let cell = column.get(at).copied().flatten();
            let present = present(&mut knowledge.model, coder, *form, &mut row, above, cell);
            let value = present.then(|| {
                let value = cell.unwrap_or_default();
                if number == 0 {
                    start(knowledge, coder, head, *last, value)
                } else {
                    row.code(knowledge, coder, number - 1, *last, value)
                }
            });
            row.cells.push(value);
            *last = value.unwrap_or(*last);
            if let Some(cell) = column.get_mut(at) {
                *cell = value;
            }
        }
    }
    let shaped = Shaped {
        last,
        units: Vec::new(),
        series: Vec::new(),
        back: 0,
    };
    knowledge.keep(head, shaped);
}

fn code_forms<C: Coder>(model: &mut Model, coder: &mut C, columns: &[Column]) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        let point_before = at.checked_sub(WINDOW_COLUMNS).and_then(|at| forms.get(at));
        let before = point_before.copied().unwrap_or_default();
        let is_empty = column.iter().all(Option::is_none);
        let flag = flags::WINDOW_EMPTY + usize::from(before.is_empty);
        let is_empty = model.flag(coder, flag, is_empty);
        let flag = flags::WINDOW_SPARSE + usize::from(before.is_sparse);
        let is_sparse = !is_empty && model.flag(coder, flag, column.iter().any(Option::is_none));
        forms.push(Form {
            is_empty,
            is_sparse,
        });
    }
    forms
}

fn present<C: Coder>(
    model: &mut Model,
    coder: &mut C,
    form: Form,
    row: &mut Row,
    above: &mut bool,
    cell: Option<i64>,
) -> bool {
    if form.is_sparse {
        let context = usize::from(row.is_present) + 2 * usize::from(*above);
        *above = model.flag(coder, flags::WINDOW_PRESENT + context, cell.is_some());
        row.is_present = *above;
        return *above;
    }
    !form.is_empty
}

/// Code a window's start: in lengths, from the one after the last.
fn start<C: Coder>(
    knowledge: &mut Knowledge,
    coder: &mut C,
    head: &Head,
    last: i64,
    value: i64,
) -> i64 {
    let length_ms = i64::from(head.length_ms).max(1);
    let expected = if last == 0 {
        knowledge
            .clock_ms
            .div_euclid(length_ms)
            .wrapping_sub(1)
            .wrapping_mul(length_ms)
    } else {
        last.wrapping_add(length_ms)
    };
    let distance = value.wrapping_sub(expected);
    let is_aligned = distance % length_ms == 0;
    let is_aligned = knowledge.model.flag(coder, flags::ALIGNED, is_aligned);
    let unit = if is_aligned { length_ms } else { 1 };
    let context = Scalar::Start.context(u32::from(is_aligned), u32::from(last == 0));
    let lengths = knowledge.model.integer(coder, &context, distance / unit);
    expected.wrapping_add(lengths.wrapping_mul(unit))
}

/// What is known of the row so far.
#[derive(Debug)]
struct Row {
    /// All columns, the start first.
    cells: Vec<Option<i64>>,
    is_present: bool,
    residual: i64,
}

impl Default for Row {
    fn default() -> Row {
        Row {
            cells: Vec::new(),
            is_present: true,
            residual: 0,
        }
    }
}

impl Row {
    /// What the cell may be, without its start column: `number` counts from the first point.
    fn guesses(&self, number: usize, above: i64) -> [i64; WAYS] {
        let field = number % WINDOW_COLUMNS;
        let mut own = self.cells.iter().rev().take(field).flatten().copied();
        let near = own.next().unwrap_or_default();
        let far = own.next().unwrap_or_default();
        let before = (number + 1).checked_sub(WINDOW_COLUMNS);
        let before = before
            .filter(|at| *at > 0)
            .and_then(|at| self.cells.get(at));
        [
            before.copied().flatten().unwrap_or_default(),
            above,
            near,
            near.wrapping_sub(far),
            near.wrapping_add(far).wrapping_mul(MEAN_SCALE / 2),
            near / MEAN_SCALE,
        ]
    }

    fn code<C: Coder>(
        &mut self,
        knowledge: &mut Knowledge,
        coder: &mut C,
        number: usize,
        above: i64,
        value: i64,
    ) -> i64 {
        let guesses = self.guesses(number, above);
        let has_near = self.cells.last().is_some_and(Option::is_some);
        let key = 2 * (number % WINDOW_COLUMNS) + usize::from(has_near);
        let Some(field) = knowledge.fields.0.get_mut(key) else {
            return value;
        };
        let mut way = 0;
        let mut centre = guesses[0];
        for (other, guess) in guesses.iter().enumerate() {
            if field.costs.get(other) < field.costs.get(way) {
                way = other;
                centre = *guess;
            }
        }
        let context = field.context(key as u32, number as u32, way, self.residual);
        let residual = knowledge
            .model
            .integer(coder, &context, value.wrapping_sub(centre));
        let value = centre.wrapping_add(residual);
        field.learn(&guesses, value, residual);
        self.residual = residual;
        value
    }
}

impl Field {
    fn context(&self, key: u32, number: u32, way: usize, before: i64) -> Context {
        let miss = self.misses.get(way).copied().unwrap_or_default();
        let scale = scale(miss);
        let way = way as u32;
        let hashes = [
            1 << 28 | key << 16 | way << 8 | scale,
            2 << 28 | key << 16 | way << 8 | digits(self.residual),
            3 << 28 | key << 16 | digits(before) << 8 | scale,
            4 << 28 | number << 8 | way,
            5 << 28 | key << 16 | digits(self.residual) << 8 | digits(before),
            6 << 28 | number << 8 | digits(self.residual),
            7 << 28 | key << 16 | number << 4 | way,
        ];
        let mut shapes = [Shape::default(); SHAPES];
        shapes[0] = shape(0.0, miss);
        Context {
            hashes: hashes.map(spread),
            direct: DIRECT + key as usize,
            set: SET,
            shapes,
        }
    }

    fn learn(&mut self, guesses: &[i64; WAYS], value: i64, residual: i64) {
        let young = 1.0 / (f64::from(self.seen) + 1.5);
        let rate = if young > 0.12 { young } else { 0.12 };
        let known = self.costs.iter_mut().zip(&mut self.misses);
        for ((known_cost, known_miss), guess) in known.zip(guesses) {
            let miss = value.wrapping_sub(*guess).unsigned_abs() as f64;
            *known_cost += (cost(miss) - *known_cost) * rate;
            *known_miss += (miss - *known_miss) * rate;
        }
        self.residual = residual;
        self.seen += 1;
    }
}
