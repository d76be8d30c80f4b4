//! Replies to mantissas: a scan's bytes go through a plan that was compiled once.
//!
//! A point's mantissa is (raw + addend) x factor, plus a second raw x factor where a meter splits a
//! counter; exact, with one rounding at the very end, half to even. What the meter or the profile
//! rules out is [`IMPLAUSIBLE`]. Replies are hostile bytes: their lengths are checked before
//! anything is taken from them.

mod coding;
mod exact;
mod wide;

pub use coding::Coding;
pub use exact::Factor;

use exact::Raw;

use crate::error::Error;
use crate::reading::{GOOD, IMPLAUSIBLE, POINTS_MAX};

/// Most reads one scan may take.
pub const READS_MAX: usize = 1_024;

/// A number in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its first byte's place in the reply.
    pub at: usize,
    /// How it stands there.
    pub coding: Coding,
    /// What it counts for: scale, ratios and resolution in one.
    pub factor: Factor,
}

/// Where a point's reading comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointPlan {
    /// Number of the read whose reply holds it.
    pub read: usize,
    /// The number itself.
    pub part: Part,
    /// Added to the raw number before the factor.
    pub addend: i64,
    /// A second number of the same reply, to be added.
    pub plus: Option<Part>,
    /// Contents of `part`, as unsigned numbers, that mean "not available".
    pub invalid: Vec<u64>,
    /// Smallest mantissa that is plausible.
    pub min: i64,
    /// Largest mantissa that is plausible.
    pub max: i64,
    /// Whether the factors hold a ratio that the meter itself must be asked for.
    pub by_ratio: bool,
}

/// What came of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The payload.
    Bytes(&'a [u8]),
    /// Why there is none, as a quality.
    Reason(u8),
}

/// One value or none per point, and one quality per point.
pub type Decoded = (Vec<Option<i64>>, Vec<u8>);

/// How the replies of a scan become one value or reason per point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanPlan {
    points: Vec<PointPlan>,
    /// Bytes that each read's reply must have.
    needed: Vec<usize>,
}

impl Part {
    fn end(&self) -> Option<usize> {
        self.at.checked_add(self.coding.bytes())
    }

    /// The content in `reply`; `None` when it ends before.
    #[inline]
    fn content(&self, reply: &[u8]) -> Option<u64> {
        let bytes = reply.get(self.at..self.end()?)?;
        Some(self.coding.content(bytes))
    }
}

impl PointPlan {
    /// The mantissa in `reply`, or `None` for what is implausible.
    #[inline]
    fn mantissa(&self, reply: &[u8]) -> Option<i64> {
        let content = self.part.content(reply)?;
        if self.invalid.contains(&content) {
            return None;
        }
        let raw = self.part.coding.raw(content)?;
        let mantissa = match exact::quick(raw, self.addend, self.part.factor) {
            Some(mantissa) if self.plus.is_none() => mantissa,
            _ => self.exact_sum(raw, reply)?,
        };
        (self.min..=self.max)
            .contains(&mantissa)
            .then_some(mantissa)
    }

    /// The mantissa of any point, at any length.
    fn exact_sum(&self, raw: Raw, reply: &[u8]) -> Option<i64> {
        let first = (raw, self.part.factor);
        let addend = Raw::whole(i128::from(self.addend));
        let addend = (self.addend != 0).then_some((addend, self.part.factor));
        let second = match &self.plus {
            Some(plus) => Some((plus.coding.raw(plus.content(reply)?)?, plus.factor)),
            None => None,
        };
        let terms = [Some(first), addend, second].into_iter().flatten();
        exact::sum(terms)
    }
}

impl ScanPlan {
    /// A plan for the replies of `reads` reads.
    ///
    /// # Errors
    /// `InvalidArgument` for no points, too many points or reads, or a point in a read that there
    /// is not.
    pub fn new(reads: usize, points: Vec<PointPlan>) -> Result<ScanPlan, Error> {
        if points.is_empty() || points.len() > POINTS_MAX || reads > READS_MAX {
            return Err(Error::InvalidArgument(
                "a scan has 1 to 512 points and at most 1024 reads",
            ));
        }
        let mut needed = vec![0; reads];
        for point in &points {
            let need = needed.get_mut(point.read);
            let need = need.ok_or(Error::InvalidArgument("a point stands in no read"))?;
            for part in [Some(&point.part), point.plus.as_ref()]
                .into_iter()
                .flatten()
            {
                let end = part.end();
                *need = end.map_or(usize::MAX, |end| end.max(*need));
            }
        }
        Ok(ScanPlan { points, needed })
    }

    /// Put other factors in, those of `part` and `plus` per point: ratios were read anew.
    ///
    /// # Errors
    /// `InvalidArgument` unless there is one entry per point, with a second factor exactly where
    /// the point has a second part. Nothing has changed then.
    pub fn set_factors(&mut self, factors: &[(Factor, Option<Factor>)]) -> Result<(), Error> {
        let fits = |(point, (_, plus)): (&PointPlan, &(Factor, Option<Factor>))| {
            point.plus.is_some() == plus.is_some()
        };
        if factors.len() != self.points.len() || !self.points.iter().zip(factors).all(fits) {
            return Err(Error::InvalidArgument(
                "a plan needs factors for every part of every point",
            ));
        }
        for (point, (factor, second)) in self.points.iter_mut().zip(factors) {
            point.part.factor = *factor;
            if let (Some(plus), Some(factor)) = (point.plus.as_mut(), second) {
                plus.factor = *factor;
            }
        }
        Ok(())
    }

    /// Decode a scan: one value or none per point, and one quality.
    ///
    /// A point whose read failed has that read's reason. One that needs a ratio has `ratios` as its
    /// reason unless that is [`GOOD`].
    ///
    /// # Errors
    /// `InvalidArgument` unless there is one reply per read and every reason is one; `ShortReply`
    /// for a reply that ends before its last point.
    pub fn decode(&self, replies: &[Reply<'_>], ratios: u8) -> Result<Decoded, Error> {
        let (mut values, mut qualities) = (Vec::new(), Vec::new());
        self.decode_into(replies, ratios, &mut values, &mut qualities)?;
        Ok((values, qualities))
    }

    /// As [`ScanPlan::decode`], in memory that the caller keeps: what it held is forgotten.
    ///
    /// # Errors
    /// As [`ScanPlan::decode`].
    pub fn decode_into(
        &self,
        replies: &[Reply<'_>],
        ratios: u8,
        values: &mut Vec<Option<i64>>,
        qualities: &mut Vec<u8>,
    ) -> Result<(), Error> {
        self.check(replies)?;
        values.clear();
        qualities.clear();
        values.reserve(self.points.len());
        qualities.reserve(self.points.len());
        for point in &self.points {
            let (value, quality) = match replies.get(point.read) {
                Some(Reply::Reason(reason)) => (None, *reason),
                _ if point.by_ratio && ratios != GOOD => (None, ratios),
                Some(Reply::Bytes(reply)) => match point.mantissa(reply) {
                    Some(value) => (Some(value), GOOD),
                    None => (None, IMPLAUSIBLE),
                },
                None => (None, IMPLAUSIBLE),
            };
            values.push(value);
            qualities.push(quality);
        }
        Ok(())
    }

    fn check(&self, replies: &[Reply<'_>]) -> Result<(), Error> {
        if replies.len() != self.needed.len() {
            return Err(Error::InvalidArgument("a scan needs one reply per read"));
        }
        for (read, (reply, &needed)) in (0_u32..).zip(replies.iter().zip(&self.needed)) {
            match reply {
                Reply::Bytes(bytes) if bytes.len() < needed => {
                    return Err(Error::ShortReply {
                        read,
                        found: bytes.len(),
                        needed,
                    })
                }
                Reply::Reason(GOOD) => {
                    return Err(Error::InvalidArgument("good is no reason for no reply"))
                }
                _ => {}
            }
        }
        Ok(())
    }
}
