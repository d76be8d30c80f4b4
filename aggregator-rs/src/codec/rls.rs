//! Recursive least squares: what the columns before it, and its own past, say about a column's
//! next step. Plain f64 arithmetic in a fixed order; nothing is fused or reordered.

const FORGETTING: f64 = 0.999;
const RENEWAL: f64 = 1.0 / FORGETTING;
/// How much the weights of a column's own past may move at first.
const SPREAD_OWN: f64 = 0.01;
/// How much those of other columns may: they tell more.
const SPREAD_BESIDE: f64 = 0.1;
/// Beyond this the recursion has lost its footing and begins anew.
const TRUST_MAX: f64 = 1e6;

/// Weights of so many features, the first `OWN` of them a column's own past, and how much they
/// may still move.
#[derive(Clone, Debug)]
pub(super) struct Rls<const FEATURES: usize, const OWN: usize> {
    weights: [f64; FEATURES],
    spread: [[f64; FEATURES]; FEATURES],
}

impl<const FEATURES: usize, const OWN: usize> Rls<FEATURES, OWN> {
    /// Begin with nothing learned.
    pub(super) fn new() -> Self {
        let mut rls = Rls {
            weights: [0.0; FEATURES],
            spread: [[0.0; FEATURES]; FEATURES],
        };
        rls.loosen();
        rls
    }

    /// Keep the weights, but let them move as at first.
    pub(super) fn loosen(&mut self) {
        self.spread = [[0.0; FEATURES]; FEATURES];
        for (at, row) in self.spread.iter_mut().enumerate() {
            for cell in row.iter_mut().skip(at).take(1) {
                *cell = if at < OWN { SPREAD_OWN } else { SPREAD_BESIDE };
            }
        }
    }

    /// The step that these numbers lead to.
    #[inline]
    pub(super) fn predict(&self, features: &[f64; FEATURES]) -> f64 {
        dot(&self.weights, features)
    }

    /// Learn that the prediction from `features` was `miss` too small.
    pub(super) fn learn(&mut self, features: &[f64; FEATURES], miss: f64) {
        let mut gain = [0.0; FEATURES];
        for (row, feature) in self.spread.iter().zip(features) {
            for (gain, cell) in gain.iter_mut().zip(row) {
                *gain += cell * feature;
            }
        }
        let scale = 1.0 / (FORGETTING + dot(&gain, features));
        let mut trace = 0.0;
        let mut is_sound = true;
        let rows = self.spread.iter_mut().zip(&mut self.weights);
        for (at, (row, weight)) in rows.enumerate() {
            let share = gain.get(at).map_or(0.0, |gain| gain * scale);
            *weight += share * miss;
            is_sound &= weight.abs() < TRUST_MAX;
            for (cell, gain) in row.iter_mut().zip(&gain) {
                *cell = (*cell - share * gain) * RENEWAL;
            }
            trace += row.get(at).copied().unwrap_or(0.0);
        }
        // written so that a number that is none begins anew too
        if !(is_sound && trace < TRUST_MAX) {
            *self = Rls::new();
        }
    }
}

#[inline]
fn dot<const FEATURES: usize>(left: &[f64; FEATURES], right: &[f64; FEATURES]) -> f64 {
    let mut sum = 0.0;
    for (left, right) in left.iter().zip(right) {
        sum += left * right;
    }
    sum
}
