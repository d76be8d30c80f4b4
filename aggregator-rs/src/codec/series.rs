//! A column of readings that runs on from row to row: how its next value is predicted and coded.

// every index is a constant or bounded by an array's own length
#![allow(clippy::indexing_slicing, clippy::cast_precision_loss)]

use super::beside::{Beside, Past, Prediction, BESIDE};
use super::mixing::{Context, Model, Shape, SHAPES};
use super::range::Coder;

/// Ways of predicting a step: none, the last one again, the mean step, the way back to the mean
/// level; then, from other columns, the three of [`Beside`].
const WAYS: usize = OWN_WAYS + BESIDE;
const OWN_WAYS: usize = 4;
const WAY_LEVEL: usize = 3;
const WAY_MANY: usize = 4;
const WAY_FEW: usize = 5;
const WAY_PARTNER: usize = 6;
/// The ways that go further with every slot.
const WAYS_ON: [usize; 2] = [1, 2];
/// The ways whose shapes are looked at beside the best one's, most telling first.
const WAYS_SHOWN: [usize; 5] = [WAY_MANY, WAY_PARTNER, WAY_FEW, 0, WAY_LEVEL];
/// First direct context, and the set of weights, of a value that goes on from a former table.
const DIRECT_LATE: usize = 44;
const SET_LATE: usize = 18;
/// What a column that did not move probably misses.
const STILL: f64 = 0.1;
/// More slots than this say no more.
const GAP_MAX: f64 = 65_536.0;
/// Steps beyond this are not predicted: an f64 could not tell their last digit.
const STEP_MAX: f64 = 4e15;
/// A residual's digits count up to here.
const DIGITS_MAX: u32 = 7;

/// What is known of a column.
#[derive(Clone, Debug)]
pub(super) struct Series {
    last: i64,
    step: f64,
    step_before: f64,
    mean_step: f64,
    /// The mean level, from the last value on.
    level: f64,
    seen: u32,
    still: u32,
    still_before: u32,
    costs: [f64; WAYS],
    misses: [f64; WAYS],
    magnitude: f64,
    residuals: [i64; 2],
    /// The next value goes on from a former table, some slots later.
    is_late: bool,
    /// The last step was one of a former table, so that least squares would learn wrong.
    is_fresh: bool,
    beside: Option<Box<Beside>>,
}

/// What is known of the row so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    steps: Vec<f64>,
    zeros: u32,
    residual: i64,
    /// Slots since the last value of columns that go on from a former table.
    gap: f64,
}

impl Row {
    /// A table of which so many slots are expected between its first row and a former table.
    pub(super) fn new(gap: i64) -> Row {
        Row {
            gap: gap as f64,
            ..Row::default()
        }
    }

    /// Begin the next row.
    pub(super) fn begin(&mut self) {
        self.steps.clear();
        self.zeros = 0;
        self.residual = 0;
    }

    /// Take note of a column that has no value here.
    pub(super) fn pass(&mut self) {
        self.steps.push(0.0);
    }
}

/// The best prediction, and the spreads around it and around others.
struct Guess {
    way: usize,
    whole: i64,
    fraction: f64,
    scale: u32,
    shapes: [Shape; SHAPES],
}

impl Series {
    /// A column of which nothing is known; its first value counts as 0.
    pub(super) fn new(has_beside: bool) -> Series {
        Series {
            last: 0,
            step: 0.0,
            step_before: 0.0,
            mean_step: 0.0,
            level: 0.0,
            seen: 0,
            still: 0,
            still_before: 0,
            costs: [0.0, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3],
            misses: [4.0; WAYS],
            magnitude: 4.0,
            residuals: [0; 2],
            is_late: false,
            is_fresh: false,
            beside: has_beside.then(|| Box::new(Beside::new())),
        }
    }

    /// The same kind of column again: how it moves is known, where it stands is not.
    pub(super) fn again(&mut self) {
        self.is_fresh = true;
        self.last = 0;
        self.level = 0.0;
        self.residuals = [0; 2];
        self.beside.iter_mut().for_each(|beside| beside.again());
    }

    /// A column that did not move in a former table.
    pub(super) fn still(has_beside: bool) -> Series {
        Series {
            misses: [STILL; WAYS],
            magnitude: STILL,
            ..Series::new(has_beside)
        }
    }

    /// Its next value goes on from a former table.
    pub(super) fn go_on(&mut self) {
        self.is_late = true;
        self.is_fresh = true;
        self.last = 0;
        self.residuals = [0; 2];
        self.beside.iter_mut().for_each(|beside| beside.again());
    }

    /// Code the next value.
    pub(super) fn code<C: Coder>(
        &mut self,
        model: &mut Model,
        coder: &mut C,
        column: u32,
        row: &mut Row,
        value: i64,
    ) -> i64 {
        let gap = if self.is_late { row.gap } else { 1.0 };
        let beside = self.predict_beside(row);
        let mut steps = [0.0; WAYS];
        steps[1] = self.step * gap;
        steps[2] = self.mean_step * gap;
        steps[WAY_LEVEL] = self.level;
        if let Some(beside) = &beside {
            steps[OWN_WAYS..].copy_from_slice(&beside.steps);
        }
        let guess = if self.is_late {
            self.guess_late(&steps, gap)
        } else {
            self.guess(&steps, self.best_way(), &self.misses, self.magnitude)
        };
        let context = self.context(&guess, column, row);
        let centre = self.last.wrapping_add(guess.whole);
        let residual = model.integer(coder, &context, value.wrapping_sub(centre));
        let value = centre.wrapping_add(residual);
        let step = value.wrapping_sub(self.last) as f64;
        if self.is_late {
            if column == 0 {
                row.gap = step.clamp(1.0, GAP_MAX);
            }
            self.arrive(value);
        } else {
            self.learn_beside(step, beside.as_ref(), row);
            self.learn(value, residual, &steps);
        }
        row.steps.push(step);
        row.zeros = (row.zeros << 1 | u32::from(residual == 0)) & 15;
        row.residual = residual;
        value
    }

    fn predict_beside(&self, row: &Row) -> Option<Prediction> {
        let past = Past {
            steps: [self.step, self.step_before],
            level: self.level,
            is_late: self.is_late,
        };
        let beside = self.beside.as_ref()?;
        Some(beside.predict(past, &row.steps))
    }

    fn learn_beside(&mut self, step: f64, by: Option<&Prediction>, row: &Row) {
        if let (Some(beside), Some(by)) = (&mut self.beside, by) {
            // a totaliser's first step is no change of its rate: what it taught may soon be undone
            if self.seen == 1 && (step - self.step).abs() < step.abs() {
                beside.loosen();
            }
            beside.learn(step, by, &row.steps, self.is_fresh);
        }
    }

    /// How many ways there are.
    fn ways(&self) -> usize {
        if self.beside.is_some() {
            WAYS
        } else {
            OWN_WAYS
        }
    }

    /// The way that cost least.
    fn best_way(&self) -> usize {
        let mut way = 0;
        for other in 1..self.ways() {
            if self.costs[other] < self.costs[way] {
                way = other;
            }
        }
        way
    }

    /// Guess a value so many slots later: what wanders misses more with their square root, what
    /// is known from the level or from other columns does not or does less.
    fn guess_late(&self, steps: &[f64; WAYS], gap: f64) -> Guess {
        let growth = gap.sqrt();
        let mut misses = self.misses.map(|miss| miss * growth);
        misses[WAY_LEVEL] = self.misses[WAY_LEVEL];
        let beside = misses.iter_mut().zip(&self.misses).skip(OWN_WAYS);
        for (miss, known) in beside {
            *miss = known * growth.sqrt();
        }
        let mut way = self.best_way();
        if !WAYS_ON.contains(&way) {
            way = 0;
            for other in WAY_LEVEL..self.ways() {
                if misses[other] < misses[way] {
                    way = other;
                }
            }
        }
        self.guess(steps, way, &misses, misses[way])
    }

    fn guess(
        &self,
        steps: &[f64; WAYS],
        way: usize,
        misses: &[f64; WAYS],
        magnitude: f64,
    ) -> Guess {
        let step = if steps[way].abs() < STEP_MAX {
            steps[way]
        } else {
            0.0
        };
        let whole = step.round();
        let mut shapes = [Shape::default(); SHAPES];
        shapes[0] = shape(step - whole, misses[way]);
        let mut filled = 1;
        for beside in WAYS_SHOWN {
            let offset = steps[beside] - whole;
            if beside != way && beside < self.ways() && filled < SHAPES {
                if offset.abs() < STEP_MAX {
                    shapes[filled] = shape(offset, misses[beside]);
                }
                filled += 1;
            }
        }
        Guess {
            way,
            whole: whole as i64,
            fraction: step - whole,
            scale: scale(magnitude),
            shapes,
        }
    }

    fn context(&self, guess: &Guess, column: u32, row: &Row) -> Context {
        let scale = guess.scale;
        let [last, before] = self.residuals;
        let both = u32::from(last == 0 && before == 0);
        let fifth = ((guess.fraction + 0.5) * 5.0) as u32;
        let hashes = [
            column << 8 | scale,
            column << 16 | digits(last) << 8 | digits(before),
            row.zeros << 8 | both << 5 | scale,
            3 << 29 | digits(row.residual) << 4 | scale,
            (fifth.min(4) << 8 | scale) << 4 | guess.way as u32,
            1 << 30 | column << 16 | self.still.min(255) << 8 | self.still_before.min(255),
            2 << 30
                | column << 20
                | (self.last.wrapping_add(guess.whole) as u32 & 0xffff) << 4
                | self.still.min(15),
        ];
        let age = match self.seen {
            0..=2 => 0,
            3..=7 => 1,
            8..=24 => 2,
            _ => 3,
        };
        let (direct, set) = if self.is_late {
            (DIRECT_LATE, SET_LATE)
        } else {
            (0, age + 4 * (guess.way + 1).saturating_sub(OWN_WAYS))
        };
        Context {
            hashes: hashes.map(spread),
            direct: direct + scale as usize,
            set,
            shapes: guess.shapes,
        }
    }

    /// Be where a value some slots later is; how far it went says nothing about single steps.
    fn arrive(&mut self, value: i64) {
        self.last = value;
        self.is_late = false;
        self.is_fresh = false;
    }

    fn learn(&mut self, value: i64, residual: i64, steps: &[f64; WAYS]) {
        let step = value.wrapping_sub(self.last) as f64;
        let young = 1.0 / (f64::from(self.seen) + 1.5);
        let rate = if young > 0.12 { young } else { 0.12 };
        let young = 1.0 / (f64::from(self.seen) + 10.0);
        let cost_rate = if young > 0.05 { young } else { 0.05 };
        let known = self.costs.iter_mut().zip(&mut self.misses);
        for ((known_cost, known_miss), predicted) in known.zip(steps) {
            let miss = (step - predicted).abs();
            *known_cost += (cost(miss) - *known_cost) * cost_rate;
            *known_miss += (miss - *known_miss) * rate;
        }
        self.mean_step += (step - self.mean_step) * 0.1;
        self.level = (self.level - step) * 0.85;
        let size = residual.unsigned_abs().min(1 << 40) as f64;
        self.magnitude += (size - self.magnitude) * rate;
        self.residuals = [residual, self.residuals[0]];
        self.step_before = self.step;
        self.step = step;
        self.last = value;
        self.is_fresh = false;
        self.seen += 1;
        if step == 0.0 {
            self.still += 1;
        } else {
            self.still_before = self.still;
            self.still = 0;
        }
    }
}

/// A spread whose mean miss was `miss`.
pub(super) fn shape(offset: f64, miss: f64) -> Shape {
    Shape {
        offset,
        sharpness: 1.7 / (miss + 0.15),
    }
}

/// Scale of a mean miss, 0 to 15.
pub(super) fn scale(miss: f64) -> u32 {
    let mut scale = 0;
    let mut limit = 0.06;
    while scale < 15 && miss > limit {
        limit *= 2.0;
        scale += 1;
    }
    scale
}

/// Digits of a residual, and its sign: 0 to 15.
pub(super) fn digits(residual: i64) -> u32 {
    let digits = (64 - residual.unsigned_abs().leading_zeros()).min(DIGITS_MAX);
    digits << 1 | u32::from(residual < 0)
}

/// Spread a context over the hash.
pub(super) fn spread(context: u32) -> u32 {
    context.wrapping_mul(0x2545_F491).wrapping_add(0x1234_5678)
}

/// About the digits that a miss costs; `miss` is not negative.
pub(super) fn cost(miss: f64) -> f64 {
    if miss < 1.0 {
        return miss;
    }
    // miss = part x 2^exponent, part from 1/2 to 1
    let bits = miss.to_bits();
    let exponent = (bits >> 52) as i32 - 1022;
    let part = f64::from_bits(bits & ((1 << 52) - 1) | 1022 << 52);
    f64::from(exponent) + part
}
