//! Binary arithmetic coding: each bit costs what its probability says. One trait for both
//! directions, so that what walks the tables is written once and cannot differ between them.

use crate::error::Error;

/// Bits in, or bits out.
pub(super) trait Coder {
    /// Code one bit; `one` is its probability of being 1, of 65 536, from 1 to 65 535. An encoder
    /// returns `bit`; a decoder ignores it and returns what was encoded.
    fn bit(&mut self, one: u32, bit: bool) -> bool;

    /// Code the low `count` bits of `value`, each as likely as not; return them.
    fn raw(&mut self, value: u64, count: u32) -> u64 {
        let mut coded = 0;
        for place in (0..count).rev() {
            coded = coded << 1 | u64::from(self.bit(1 << 15, value >> place & 1 == 1));
        }
        coded
    }
}

/// Bytes beyond the end that a decoder may look at: its window.
const LOOK_AHEAD: usize = 4;

/// The two ends of the interval, and where it is split.
#[derive(Debug)]
struct Interval {
    low: u32,
    high: u32,
}

impl Interval {
    const WHOLE: Interval = Interval {
        low: 0,
        high: u32::MAX,
    };

    fn split(&self, one: u32) -> u32 {
        self.low + ((u64::from(self.high - self.low) * u64::from(one)) >> 16) as u32
    }

    fn take(&mut self, middle: u32, bit: bool) {
        if bit {
            self.high = middle;
        } else {
            self.low = middle + 1;
        }
    }

    fn is_settled(&self) -> bool {
        (self.low ^ self.high) >> 24 == 0
    }

    fn shift(&mut self) {
        self.low <<= 8;
        self.high = self.high << 8 | 0xff;
    }

    /// The fewest bytes that still name the interval, those after them being 0.
    fn ending(&self) -> ([u8; LOOK_AHEAD], usize) {
        for count in 0..LOOK_AHEAD {
            let unit = 32 - 8 * count as u32;
            let value = u64::from(self.low).next_multiple_of(1 << unit);
            if value <= u64::from(self.high) {
                return ((value as u32).to_be_bytes(), count);
            }
        }
        (self.low.to_be_bytes(), LOOK_AHEAD)
    }
}

/// Writes behind what `out` holds already.
#[derive(Debug)]
pub(super) struct Encoder {
    interval: Interval,
    out: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(out: Vec<u8>) -> Encoder {
        Encoder {
            interval: Interval::WHOLE,
            out,
        }
    }

    /// The bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let (bytes, count) = self.interval.ending();
        self.out.extend(bytes.iter().take(count));
        self.out
    }
}

impl Coder for Encoder {
    #[inline]
    fn bit(&mut self, one: u32, bit: bool) -> bool {
        let middle = self.interval.split(one);
        self.interval.take(middle, bit);
        while self.interval.is_settled() {
            self.out.push((self.interval.high >> 24) as u8);
            self.interval.shift();
        }
        bit
    }
}

/// Reads bytes that somebody else may have written: total, it ends in zeros.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    interval: Interval,
    value: u32,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Decoder<'a> {
        let mut decoder = Decoder {
            interval: Interval::WHOLE,
            value: 0,
            bytes,
            at: 0,
        };
        for _ in 0..LOOK_AHEAD {
            decoder.next();
        }
        decoder
    }

    fn next(&mut self) {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.value = self.value << 8 | u32::from(byte);
        self.at += 1;
    }

    /// Whether more was read than an encoder can have left out.
    pub(super) fn is_exhausted(&self) -> bool {
        self.at > self.bytes.len() + LOOK_AHEAD
    }

    /// Require that the bytes end as an encoder would have ended them; `offset` is where they
    /// began.
    ///
    /// # Errors
    /// `Truncated` or `Corrupt`.
    pub(super) fn end(&self, offset: usize) -> Result<(), Error> {
        let done = self.at - LOOK_AHEAD;
        let Some(rest) = self.bytes.get(done..) else {
            return Err(Error::Truncated {
                at: offset + self.bytes.len(),
            });
        };
        let (bytes, count) = self.interval.ending();
        if bytes.iter().take(count).eq(rest) {
            return Ok(());
        }
        Err(Error::Corrupt {
            at: offset + done,
            what: "end of the bytes",
        })
    }
}

impl Coder for Decoder<'_> {
    #[inline]
    fn bit(&mut self, one: u32, _bit: bool) -> bool {
        let middle = self.interval.split(one);
        let bit = self.value <= middle;
        self.interval.take(middle, bit);
        while self.interval.is_settled() {
            self.interval.shift();
            self.next();
        }
        bit
    }
}
