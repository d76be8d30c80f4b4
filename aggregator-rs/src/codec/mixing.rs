//! Context mixing: every binary decision of an integer is predicted by adaptive contexts and by
//! the shapes around a few predictions; a small network weighs them by how well they did.
//!
//! What a decision was is learned after it was coded, so that a decoder learns the same.

// every index is a constant or was masked to the size of its table; none comes from the input
#![allow(clippy::indexing_slicing)]

use super::flags;
use super::logistic::{squash, stretch, tail, EVIDENCE_MAX};
use super::prior::Prior;
use super::range::Coder;
use crate::error::Error;

/// Hashed contexts of an integer.
pub(super) const HASHED: usize = 7;
/// Shapes of an integer.
pub(super) const SHAPES: usize = 5;
/// Inputs of the network: the hashed contexts, the direct one, the shapes, a constant.
pub(super) const INPUTS: usize = HASHED + SHAPES + 2;
/// Values of the direct context.
pub(super) const DIRECTS: usize = 64;
/// Sets of weights that a context may choose from.
pub(super) const SETS: usize = 19;
/// Sets of weights by how well the hashed contexts know a decision.
pub(super) const KNOWNS: usize = 7;
/// All sets of weights: those that a context chooses, those of direct contexts, those of `KNOWNS`.
pub(super) const NETWORKS: usize = SETS + DIRECTS + KNOWNS;
/// Kinds of decisions: zero, sign, length at 20 places, three digits.
pub(super) const CLASSES: usize = 25;
/// Flags with an adaptive probability of their own.
pub(super) const FLAGS: usize = 192;

const SLOT_BITS: u32 = 13;
const SLOTS: usize = 1 << SLOT_BITS;
const SEEN_MAX: u16 = 250;
/// How much the evidence of a slot counts that has seen so many, of 256.
static CONFIDENCE: [i32; SEEN_MAX as usize + 1] = confidences();

const fn confidences() -> [i32; SEEN_MAX as usize + 1] {
    let mut table = [0; SEEN_MAX as usize + 1];
    let mut seen = 0;
    while seen < table.len() {
        table[seen] = 358 * (10 * seen as i32 + 3) / (10 * seen as i32 + 23);
        seen += 1;
    }
    table
}

/// A slot that has seen so many knows something of its own.
const RIPE: u16 = 3;
const CONSTANT_INPUT: i32 = 256;

/// Most decisions one payload and its keyframe may take: they are what decoding takes time for.
/// Real batches take a seventh of it. Wild values in large units go by another codec.
const DECISIONS_MAX: u32 = 327_680;

const NODE_ZERO: u32 = 0;
const NODE_SIGN: u32 = 1;
const NODE_LENGTH: u32 = 2;
/// A residual of this many digits behind the first, or more, is written without a model.
const LENGTH_MAX: u32 = 20;
const LENGTH_DIGITS: u32 = 6;
const NODE_DIGITS: u32 = NODE_LENGTH + LENGTH_MAX;
/// Digits behind the first that are predicted; the others are as good as noise.
const DIGITS_MODELLED: u32 = 3;

/// What is known before an integer is coded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// Contexts that share a table by their hash.
    pub(super) hashes: [u32; HASHED],
    /// The context that is never shared, below [`DIRECTS`]; others begin where it is.
    pub(super) direct: usize,
    /// The set of weights, below [`SETS`].
    pub(super) set: usize,
    /// How the integer is spread, as far as predictions say.
    pub(super) shapes: [Shape; SHAPES],
}

/// A logistic spread of an integer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    /// Where its middle lies.
    pub(super) offset: f64,
    /// 1 / scale; 0 when nothing is known.
    pub(super) sharpness: f64,
}

/// The part of a spread that an integer may still be in, given the decisions so far: the shares
/// beyond its two limits.
#[derive(Clone, Copy, Debug)]
struct Part {
    shape: Shape,
    beyond_low: f64,
    beyond_high: f64,
}

impl Part {
    fn new(shape: Shape) -> Part {
        Part {
            shape,
            beyond_low: tail((0.5 - shape.offset) * shape.sharpness),
            beyond_high: tail((0.5 + shape.offset) * shape.sharpness),
        }
    }

    fn beyond(&self, limit: f64) -> f64 {
        tail((limit - self.shape.offset) * self.shape.sharpness)
    }

    /// Evidence that the integer lies in a share `some` of a share `all`.
    fn evidence(&self, some: f64, all: f64) -> i32 {
        if self.shape.sharpness == 0.0 {
            return 0;
        }
        let share = (some + 1e-7) / (all + 2e-7) * 4096.0;
        stretch((share as u32).clamp(1, 4095))
    }
}

/// An adaptive probability.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Probability of a 1, of 65 536.
    one: u16,
    seen: u16,
}

impl Slot {
    const NEW: Slot = Slot {
        one: 1 << 15,
        seen: 0,
    };

    /// Evidence for a 1: of a slot that has seen little, little.
    #[inline]
    fn evidence(self) -> i32 {
        let evidence = stretch(u32::from(self.one >> 4));
        (evidence * CONFIDENCE[usize::from(self.seen)]) >> 8
    }

    #[inline]
    fn learn(&mut self, bit: bool) {
        let target = if bit { 65_535 } else { 0 };
        let distance = target - i32::from(self.one);
        let rate = 131_072 / (2 * i32::from(self.seen) + 3);
        let step = (i64::from(distance) * i64::from(rate)) >> 16;
        self.one = (i32::from(self.one) + step as i32).clamp(32, 65_503) as u16;
        self.seen += u16::from(self.seen < SEEN_MAX);
    }
}

/// Weights of one set and class.
#[derive(Clone, Copy, Debug)]
struct Weights {
    of: [i32; INPUTS],
    uses: u32,
}

/// The adaptive statistics of a payload.
#[derive(Clone, Debug)]
pub(super) struct Model {
    slots: Vec<Slot>,
    directs: Vec<Slot>,
    weights: Vec<Weights>,
    flags: Vec<Slot>,
    decisions: u32,
}

impl Model {
    /// Begin with what was learned once and for all.
    pub(super) fn new(prior: Prior) -> Model {
        let slot = |one: u16, seen: u16| Slot { one, seen };
        Model {
            slots: vec![Slot::NEW; SLOTS * HASHED],
            directs: prior
                .directs()
                .map(|one| slot(one, Prior::DIRECT_SEEN))
                .collect(),
            weights: prior
                .weights()
                .map(|of| Weights {
                    of,
                    uses: Prior::USES,
                })
                .collect(),
            flags: prior
                .flags()
                .map(|one| slot(one, Prior::FLAG_SEEN))
                .collect(),
            decisions: 0,
        }
    }

    /// Require that no more was decided than a payload may take.
    ///
    /// # Errors
    /// `TooLarge`: what was coded since is nothing.
    pub(super) fn within_limits(&self) -> Result<(), Error> {
        if self.decisions > DECISIONS_MAX {
            return Err(Error::TooLarge {
                what: "decisions",
                found: u64::from(self.decisions),
                max: u64::from(DECISIONS_MAX),
            });
        }
        Ok(())
    }

    /// Code a flag; `at` is below [`FLAGS`].
    pub(super) fn flag<C: Coder>(&mut self, coder: &mut C, at: usize, flag: bool) -> bool {
        let slot = &mut self.flags[at];
        let flag = coder.bit(u32::from(slot.one), flag);
        slot.learn(flag);
        flag
    }

    /// Code an integer; nothing once [`Model::within_limits`] says no.
    pub(super) fn integer<C: Coder>(
        &mut self,
        coder: &mut C,
        context: &Context,
        value: i64,
    ) -> i64 {
        if self.decisions > DECISIONS_MAX {
            return 0;
        }
        let mut parts = context.shapes.map(Part::new);
        let evidence = parts.map(|part| {
            let zero = 1.0 - part.beyond_low - part.beyond_high;
            part.evidence(zero, 1.0)
        });
        if self.bit(coder, context, (NODE_ZERO, NODE_ZERO), evidence, value == 0) {
            return 0;
        }
        let evidence =
            parts.map(|part| part.evidence(part.beyond_high, part.beyond_low + part.beyond_high));
        let negative = self.bit(coder, context, (NODE_SIGN, NODE_SIGN), evidence, value < 0);
        for part in &mut parts {
            if negative {
                part.beyond_low = part.beyond_high;
                part.shape.offset = -part.shape.offset;
            }
            part.beyond_high = 0.0;
        }
        let size = value.unsigned_abs();
        let length = self.length(coder, context, &mut parts, (size | 1).ilog2());
        let size = self.digits(coder, context, &mut parts, length, size) as i64;
        if negative {
            size.wrapping_neg()
        } else {
            size
        }
    }

    /// Code how many digits follow the first one.
    fn length<C: Coder>(
        &mut self,
        coder: &mut C,
        context: &Context,
        parts: &mut [Part; SHAPES],
        length: u32,
    ) -> u32 {
        for at in 0..LENGTH_MAX {
            let limit = f64::from(2_u32 << at) - 0.5;
            let beyond = parts.map(|part| part.beyond(limit));
            let mut evidence = [0; SHAPES];
            for ((evidence, part), beyond) in evidence.iter_mut().zip(&*parts).zip(beyond) {
                *evidence = part.evidence(beyond, part.beyond_low);
            }
            let node = NODE_LENGTH + at;
            let more = self.bit(coder, context, (node, node), evidence, length > at);
            for (part, beyond) in parts.iter_mut().zip(beyond) {
                if more {
                    part.beyond_low = beyond;
                } else {
                    part.beyond_high = beyond;
                }
            }
            if !more {
                return at;
            }
        }
        self.long_length(coder, length)
    }

    /// Code a length that is [`LENGTH_MAX`] or more: six digits.
    fn long_length<C: Coder>(&mut self, coder: &mut C, length: u32) -> u32 {
        let mut head = 1;
        for place in (0..LENGTH_DIGITS).rev() {
            let one = length >> place & 1 == 1;
            let one = self.flag(coder, flags::LENGTH + head, one);
            head = head << 1 | usize::from(one);
        }
        (head - (1 << LENGTH_DIGITS)) as u32
    }

    /// Code the digits that follow the first one, which is 1.
    fn digits<C: Coder>(
        &mut self,
        coder: &mut C,
        context: &Context,
        parts: &mut [Part; SHAPES],
        length: u32,
        size: u64,
    ) -> u64 {
        let modelled = if length < LENGTH_MAX {
            length.min(DIGITS_MODELLED)
        } else {
            0
        };
        let mut head = 1_u32;
        for depth in 0..modelled {
            let place = length - 1 - depth;
            let limit = f64::from((2 * head + 1) << place) - 0.5;
            let beyond = parts.map(|part| part.beyond(limit));
            let mut evidence = [0; SHAPES];
            for ((evidence, part), beyond) in evidence.iter_mut().zip(&*parts).zip(beyond) {
                let low = beyond - part.beyond_high;
                *evidence = part.evidence(low, part.beyond_low - part.beyond_high);
            }
            let node = NODE_DIGITS + (length << 3 | head);
            let class = NODE_DIGITS + depth;
            let one = size >> place & 1 == 1;
            let one = self.bit(coder, context, (node, class), evidence, one);
            for (part, beyond) in parts.iter_mut().zip(beyond) {
                if one {
                    part.beyond_low = beyond;
                } else {
                    part.beyond_high = beyond;
                }
            }
            head = head << 1 | u32::from(one);
        }
        let rest = length - modelled;
        u64::from(head) << rest | coder.raw(size, rest)
    }

    /// Code a decision: `node` tells it from all others of the integer, `class` its weights.
    fn bit<C: Coder>(
        &mut self,
        coder: &mut C,
        context: &Context,
        (node, class): (u32, u32),
        evidence: [i32; SHAPES],
        bit: bool,
    ) -> bool {
        self.decisions += 1;
        let class = class as usize;
        let direct = context.direct * CLASSES + class;
        let direct_one = self.directs[direct].one;
        let mut inputs = [0; INPUTS];
        let (mut met, mut ripe) = (0, 0);
        let mut places = [0; HASHED];
        let salt = node.wrapping_mul(0x9E37_79B1);
        for (at, hash) in context.hashes.iter().enumerate() {
            let hash = (hash ^ salt).wrapping_mul(0x85EB_CA6B);
            places[at] = at * SLOTS + (hash >> (32 - SLOT_BITS)) as usize;
            let slot = &mut self.slots[places[at]];
            if slot.seen == 0 {
                slot.one = direct_one;
            }
            met += usize::from(slot.seen > 0);
            ripe += usize::from(slot.seen >= RIPE);
            inputs[at] = slot.evidence();
        }
        inputs[HASHED] = stretch(u32::from(direct_one >> 4));
        inputs[HASHED + 1..=HASHED + SHAPES].copy_from_slice(&evidence);
        inputs[INPUTS - 1] = CONSTANT_INPUT;
        let networks = [
            context.set,
            SETS + context.direct,
            SETS + DIRECTS + known(met, ripe),
        ];
        let networks = networks.map(|set| set * CLASSES + class);
        let sums = networks.map(|at| self.weights[at].sum(&inputs));
        let one = squash(sums.iter().sum::<i32>() / 3);
        let bit = coder.bit((one as u32) << 4 | 8, bit);
        let wanted = i32::from(bit) << 12;
        for at in networks {
            self.weights[at].learn(&inputs, wanted - one);
        }
        for place in places {
            self.slots[place].learn(bit);
        }
        self.directs[direct].learn(bit);
        bit
    }
}

/// How well hashed contexts know a decision, of which so many met it before, and so many a few
/// times.
fn known(met: usize, ripe: usize) -> usize {
    match ripe {
        0 => met / 2,
        1 | 2 => 4,
        3..=5 => 5,
        _ => 6,
    }
}

impl Weights {
    /// Evidence for a 1.
    #[inline]
    fn sum(&self, inputs: &[i32; INPUTS]) -> i32 {
        let mut sum = 0;
        for (input, weight) in inputs.iter().zip(&self.of) {
            sum += i64::from(*input) * i64::from(*weight);
        }
        let limit = i64::from(EVIDENCE_MAX);
        (sum >> 16).clamp(-limit, limit) as i32
    }

    /// Move towards what was coded: fast at first, slower with every use.
    #[inline]
    fn learn(&mut self, inputs: &[i32; INPUTS], error: i32) {
        let rate = 24 + 5120 / (32 + self.uses.min(1 << 20)) as i32;
        self.uses = self.uses.saturating_add(1);
        for (input, weight) in inputs.iter().zip(&mut self.of) {
            // at most 2839 x 4095 x 184: it fits
            let step = (input * (error * rate) + (1 << 17)) >> 18;
            *weight = (*weight + step).clamp(-WEIGHT_MAX, WEIGHT_MAX);
        }
    }
}

/// Limit of a weight, 65 536 being 1.
const WEIGHT_MAX: i32 = 1 << 22;

#[cfg(test)]
impl Model {
    /// Forget what depends on a payload's columns.
    pub(super) fn forget(&mut self) {
        self.decisions = 0;
        self.slots.fill(Slot::NEW);
    }

    /// What [`Prior`] reads.
    pub(super) fn to_prior(&self) -> Vec<i64> {
        let directs = self.directs.iter().map(|slot| i64::from(slot.one));
        let quarter = |weight: i32| i64::from(weight / 4).clamp(-32_768, 32_767);
        let weights = self
            .weights
            .iter()
            .flat_map(|weights| weights.of.map(quarter));
        let flags = self.flags.iter().map(|slot| i64::from(slot.one));
        directs.chain(weights).chain(flags).collect()
    }
}
