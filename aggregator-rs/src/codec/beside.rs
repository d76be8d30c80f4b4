//! What the cells before it in the row, and its own past, say about a column's next step: least
//! squares with many features and with few, and the one cell that tells most of what they missed.
//!
//! Few features are known after few rows; many tell more later. A mean of phases is far from them
//! in the row, so that one cell farther back is looked for beside.

use super::rls::Rls;

/// Steps that are predicted here: by many features, by few, and by the one partner.
pub(super) const BESIDE: usize = 3;

const OWN: usize = 4;
const FEATURES: usize = 12;
const OWN_FEW: usize = 2;
const FEATURES_FEW: usize = 5;
/// Cells before in the row of which one is the partner.
const PARTNERS: usize = 40;
/// How much of what partners taught is kept.
const KEPT: f64 = 0.98;
/// Squares of steps that a partner is thought to have missed before it was looked at.
const DOUBT: f64 = 5.0;
/// A prediction beyond this is none; so no number here grows without end.
const LEARNED_MAX: f64 = 1e18;
const PARTNER_MAX: f64 = 4e15;

/// What a column's past says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    /// The last two steps.
    pub(super) steps: [f64; 2],
    /// The way back to the mean level.
    pub(super) level: f64,
    /// The last value was one of a former table, some slots before.
    pub(super) is_late: bool,
}

/// How a cell before in the row moved with what least squares missed.
#[derive(Clone, Copy, Debug, Default)]
struct Partner {
    product: f64,
    square: f64,
}

/// What was learned.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    many: Rls<FEATURES, OWN>,
    few: Rls<FEATURES_FEW, OWN_FEW>,
    /// What both missed last time.
    misses: [f64; 2],
    partners: Vec<Partner>,
}

/// Predicted steps, and what they were predicted from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prediction {
    pub(super) steps: [f64; BESIDE],
    many: [f64; FEATURES],
    few: [f64; FEATURES_FEW],
}

impl Beside {
    /// Begin with nothing learned.
    pub(super) fn new() -> Beside {
        Beside {
            many: Rls::new(),
            few: Rls::new(),
            misses: [0.0; 2],
            partners: Vec::new(),
        }
    }

    /// Forget what was missed last, in a former table.
    pub(super) fn again(&mut self) {
        self.misses = [0.0; 2];
    }

    /// Let what was learned so far move as at first.
    pub(super) fn loosen(&mut self) {
        self.many.loosen();
        self.few.loosen();
    }

    /// Predict the next step; `row` holds those of the cells before.
    pub(super) fn predict(&self, past: Past, row: &[f64]) -> Prediction {
        let mut many = [0.0; FEATURES];
        let mut few = [0.0; FEATURES_FEW];
        if past.is_late {
            many[2] = past.level;
        } else {
            many[..OWN].copy_from_slice(&[
                past.steps[0],
                past.steps[1],
                past.level,
                self.misses[0],
            ]);
            few[1] = self.misses[1];
        }
        few[0] = past.level;
        for (feature, step) in many.iter_mut().skip(OWN).zip(row.iter().rev()) {
            *feature = *step;
        }
        for (feature, step) in few.iter_mut().skip(OWN_FEW).zip(row.iter().rev()) {
            *feature = *step;
        }
        let learned = bounded(self.many.predict(&many));
        Prediction {
            steps: [
                learned,
                bounded(self.few.predict(&few)),
                learned + self.partner(row),
            ],
            many,
            few,
        }
    }

    /// The rest of the step that the best partner predicts.
    fn partner(&self, row: &[f64]) -> f64 {
        let (mut most, mut rest) = (0.0, 0.0);
        for (partner, step) in self.partners.iter().zip(row.iter().rev()) {
            let slope = partner.product / (partner.square + DOUBT);
            let worth = partner.product * slope;
            if worth > most {
                (most, rest) = (worth, slope * step);
            }
        }
        if rest.abs() < PARTNER_MAX {
            rest
        } else {
            0.0
        }
    }

    /// Take note of a step; unless it is one that teaches nothing, learn from it.
    pub(super) fn learn(&mut self, step: f64, by: &Prediction, row: &[f64], is_fresh: bool) {
        let [many, few, _] = by.steps;
        self.misses = [step - many, step - few];
        if is_fresh {
            return;
        }
        let partners = row.len().min(PARTNERS);
        if self.partners.len() < partners {
            self.partners.resize(partners, Partner::default());
        }
        for (partner, beside) in self.partners.iter_mut().zip(row.iter().rev()) {
            partner.product = partner.product * KEPT + beside * self.misses[0];
            partner.square = partner.square * KEPT + beside * beside;
        }
        self.many.learn(&by.many, self.misses[0]);
        self.few.learn(&by.few, self.misses[1]);
    }
}

fn bounded(step: f64) -> f64 {
    if step.abs() < LEARNED_MAX {
        step
    } else {
        0.0
    }
}
