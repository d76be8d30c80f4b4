//! What every payload begins with: probabilities and weights learned once, on generated readings,
//! and part of the batch format from then on.

use super::mixing::{CLASSES, DIRECTS, FLAGS, INPUTS, NETWORKS};

/// See `docs/batch-format.md` for the layout.
static BYTES: &[u8] = include_bytes!("prior.bin");

const DIRECT_BYTES: usize = DIRECTS * CLASSES * 2;
const WEIGHT_BYTES: usize = NETWORKS * CLASSES * INPUTS * 2;
const FLAG_BYTES: usize = FLAGS * 2;

const _: () = assert!(BYTES.len() == DIRECT_BYTES + WEIGHT_BYTES + FLAG_BYTES);

/// The numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prior {
    bytes: &'static [u8],
}

/// The prior of this codec's number.
pub(super) const PRIOR: Prior = Prior { bytes: BYTES };

impl Prior {
    /// How often a direct context counts as seen.
    pub(super) const DIRECT_SEEN: u16 = 30;
    /// How often a flag counts as seen.
    pub(super) const FLAG_SEEN: u16 = 4;
    /// How often a set of weights counts as used.
    pub(super) const USES: u32 = 200;

    fn numbers(self, from: usize, bytes: usize) -> impl Iterator<Item = u16> {
        let part = self.bytes.get(from..from + bytes).unwrap_or_default();
        part.chunks_exact(2).map(|pair| {
            pair.iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u16::from(*byte))
        })
    }

    /// Probabilities of the direct contexts, of 65 536.
    pub(super) fn directs(self) -> impl Iterator<Item = u16> {
        self.numbers(0, DIRECT_BYTES)
    }

    /// Weights, 65 536 being 1.
    pub(super) fn weights(self) -> impl Iterator<Item = [i32; INPUTS]> {
        let mut numbers = self.numbers(DIRECT_BYTES, WEIGHT_BYTES);
        (0..NETWORKS * CLASSES).map(move |_| {
            std::array::from_fn(|_| {
                numbers
                    .next()
                    .map_or(0, |number| i32::from(number as i16) * 4)
            })
        })
    }

    /// Probabilities of the flags, of 65 536.
    pub(super) fn flags(self) -> impl Iterator<Item = u16> {
        self.numbers(DIRECT_BYTES + WEIGHT_BYTES, FLAG_BYTES)
    }
}

#[cfg(test)]
impl Prior {
    /// What learning begins with: every bit as likely as not, every input of some weight.
    pub(super) fn untaught() -> Prior {
        const WEIGHTS: [i16; INPUTS] = [
            1475, 1475, 1475, 1475, 1475, 1000, 1000, 2458, 3277, 492, 492, 492, 492, 0,
        ];
        let halves = |count: usize| vec![1_u16 << 15; count];
        let weights = WEIGHTS
            .map(|weight| weight as u16)
            .repeat(NETWORKS * CLASSES);
        let numbers = [halves(DIRECTS * CLASSES), weights, halves(FLAGS)].concat();
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u16::to_le_bytes).collect();
        Prior {
            bytes: bytes.leak(),
        }
    }
}
