//! LEB128 integers, zigzag for signed ones, and a reader that cannot run past its bytes.

use crate::error::Error;

/// Append `value` as LEB128, 1 to 10 bytes.
#[inline]
pub fn write_u64(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else if value < 1 << 56 {
        write_spread(out, value);
    } else {
        write_long(out, value);
    }
}

/// Of 56 bits at most, all bytes at once: those that say nothing are taken away again.
fn write_spread(out: &mut Vec<u8>, value: u64) {
    let halves = (value & 0x0fff_ffff) | ((value & 0x00ff_ffff_f000_0000) << 4);
    let quarters = (halves & 0x0000_3fff_0000_3fff) | ((halves & 0x0fff_c000_0fff_c000) << 2);
    let groups = (quarters & 0x007f_007f_007f_007f) | ((quarters & 0x3f80_3f80_3f80_3f80) << 1);
    let further = value.checked_ilog2().unwrap_or(0) / 7;
    let marks = 0x8080_8080_8080_8080 & ((1 << (8 * further)) - 1);
    let end = out.len() + 1 + further as usize;
    out.extend_from_slice(&(groups | marks).to_le_bytes());
    out.truncate(end);
}

fn write_long(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Append `value` zigzag-coded, so that small magnitudes of either sign stay short.
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    write_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Append a 128-bit integer as its low and high halves.
pub fn write_i128(out: &mut Vec<u8>, value: i128) {
    write_u64(out, value as u64);
    write_i64(out, (value >> 64) as i64);
}

/// Append an optional value: a presence byte, then the value.
pub fn write_option(out: &mut Vec<u8>, value: Option<i64>) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            write_i64(out, value);
        }
    }
}

/// Reads fields from untrusted bytes.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Start at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Offset of the next field.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Read one byte.
    ///
    /// # Errors
    /// `Truncated` at the end of the bytes.
    pub fn byte(&mut self) -> Result<u8, Error> {
        let byte = *self
            .bytes
            .get(self.at)
            .ok_or(Error::Truncated { at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    /// Read a LEB128 integer.
    ///
    /// # Errors
    /// `Truncated`, or `Corrupt` when it does not fit 64 bits.
    pub fn u64(&mut self) -> Result<u64, Error> {
        let start = self.at;
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Corrupt {
            at: start,
            what: "integer",
        })
    }

    /// Read a zigzag-coded integer.
    ///
    /// # Errors
    /// As [`Reader::u64`].
    pub fn i64(&mut self) -> Result<i64, Error> {
        let coded = self.u64()?;
        Ok((coded >> 1) as i64 ^ -((coded & 1) as i64))
    }

    /// Read what [`write_i128`] wrote.
    ///
    /// # Errors
    /// As [`Reader::u64`].
    pub fn i128(&mut self) -> Result<i128, Error> {
        let low = self.u64()?;
        let high = self.i64()?;
        Ok((i128::from(high) << 64) | i128::from(low))
    }

    /// Read what [`write_option`] wrote.
    ///
    /// # Errors
    /// As [`Reader::u64`], and `Corrupt` for a presence byte other than 0 or 1.
    pub fn option(&mut self) -> Result<Option<i64>, Error> {
        let at = self.at;
        match self.byte()? {
            0 => Ok(None),
            1 => self.i64().map(Some),
            _ => Err(Error::Corrupt {
                at,
                what: "presence byte",
            }),
        }
    }

    /// Read a count that the caller's limit bounds.
    ///
    /// # Errors
    /// As [`Reader::u64`], and `TooLarge` above `max`.
    pub fn count(&mut self, what: &'static str, max: usize) -> Result<usize, Error> {
        let found = self.u64()?;
        if found > max as u64 {
            return Err(Error::TooLarge {
                what,
                found,
                max: max as u64,
            });
        }
        Ok(found as usize)
    }

    /// Require that nothing is left.
    ///
    /// # Errors
    /// `Corrupt` when bytes remain.
    pub fn end(&self) -> Result<(), Error> {
        if self.remaining() == 0 {
            return Ok(());
        }
        Err(Error::Corrupt {
            at: self.at,
            what: "end of the bytes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_integer_comes_back() -> Result<(), Error> {
        for value in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            write_i64(&mut out, value);
            write_i128(&mut out, i128::from(value) * 1_000_003);
            write_option(&mut out, Some(value));
            let mut reader = Reader::new(&out);
            assert_eq!(reader.i64()?, value);
            assert_eq!(reader.i128()?, i128::from(value) * 1_000_003);
            assert_eq!(reader.option()?, Some(value));
            reader.end()?;
        }
        Ok(())
    }

    #[test]
    fn an_integer_of_any_length_has_the_bytes_of_leb128() {
        for bits in 0..=u64::BITS {
            let most = u64::MAX.checked_shr(u64::BITS - bits).unwrap_or(0);
            for value in [most, most / 3, most - most / 7, most.saturating_add(1)] {
                let (mut out, mut expected) = (vec![7], vec![7]);
                write_u64(&mut out, value);
                write_long(&mut expected, value);
                assert_eq!(out, expected, "{value}");
            }
        }
    }

    #[test]
    fn an_integer_of_more_than_64_bits_is_corrupt() {
        let too_long = [0xff; 11];
        assert!(matches!(
            Reader::new(&too_long).u64(),
            Err(Error::Corrupt { at: 0, .. })
        ));
        let mut too_large = [0xff; 10];
        too_large[9] = 0x02;
        assert!(Reader::new(&too_large).u64().is_err());
    }

    #[test]
    fn a_cut_integer_is_truncated() {
        assert_eq!(Reader::new(&[0x80]).u64(), Err(Error::Truncated { at: 1 }));
    }
}
