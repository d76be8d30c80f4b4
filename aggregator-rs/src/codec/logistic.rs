//! The shapes of the model: how a probability and a weight of evidence belong together, and how
//! a residual is spread around its prediction. Only + - * / and tables, never the platform's
//! mathematics library, so that every machine computes the same bits.

// every index is bounded by the table's length on the line before, or masked
#![allow(clippy::indexing_slicing, clippy::cast_precision_loss)]

/// e to the power of -1/8.
const EIGHTH: f64 = 0.882_496_902_584_595_5;
/// Steps of an eighth up to where a tail no longer matters.
const STEPS: usize = 128;

/// `TAILS[k]`: the share of a standard logistic distribution above `k / 8`.
static TAILS: [f64; STEPS + 1] = tails();

const fn tails() -> [f64; STEPS + 1] {
    let mut table = [0.0; STEPS + 1];
    let mut power = 1.0;
    let mut at = 0;
    while at <= STEPS {
        table[at] = power / (1.0 + power);
        power *= EIGHTH;
        at += 1;
    }
    table
}

/// The share of a standard logistic distribution above `z`.
#[inline]
pub(super) fn tail(z: f64) -> f64 {
    let steps = z.abs() * 8.0;
    let share = if steps < STEPS as f64 {
        let at = steps as usize;
        let low = TAILS[at];
        low + (TAILS[at + 1] - low) * (steps - at as f64)
    } else {
        TAILS[STEPS]
    };
    if z < 0.0 {
        1.0 - share
    } else {
        share
    }
}

const ANCHORS: [i32; 33] = [
    1, 2, 3, 6, 10, 16, 27, 45, 73, 120, 194, 310, 488, 747, 1101, 1546, 2047, 2549, 2994, 3348,
    3607, 3785, 3901, 3975, 4022, 4050, 4068, 4079, 4085, 4089, 4092, 4093, 4094,
];

/// Largest weight of evidence, in units of 1/256 (natural logarithm of the odds).
pub(super) const EVIDENCE_MAX: i32 = 2047;

/// Probability, of 4096, that goes with a weight of evidence from -2047 to 2047.
#[inline]
pub(super) const fn squash(evidence: i32) -> i32 {
    let at = ((evidence >> 7) + 16) as usize;
    let part = evidence & 127;
    (ANCHORS[at] * (128 - part) + ANCHORS[at + 1] * part + 64) >> 7
}

/// Weight of evidence per probability, of 4096: the inverse of [`squash`].
static STRETCH: [i16; 4096] = stretches();

const fn stretches() -> [i16; 4096] {
    let mut table = [EVIDENCE_MAX as i16; 4096];
    let mut next = 0;
    let mut evidence = -EVIDENCE_MAX;
    while evidence <= EVIDENCE_MAX {
        let probability = squash(evidence) as usize;
        while next <= probability {
            table[next] = evidence as i16;
            next += 1;
        }
        evidence += 1;
    }
    table
}

/// Weight of evidence of a probability given in 4096ths, 0 to 4095.
#[inline]
pub(super) fn stretch(probability: u32) -> i32 {
    i32::from(STRETCH[(probability & 4095) as usize])
}
