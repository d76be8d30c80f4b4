//! The values of a journaled row, in as few bytes as they need and in as little time: first half a
//! byte per value for its length (0 to 8, or [`ABSENT`]), then the bytes of each, zigzag-coded, low
//! byte first. A record is written for every row that is ever read, and read after a restart only.

use crate::error::Error;
use crate::varint::Reader;

/// The length of a value that there is not.
const ABSENT: u8 = 15;
const VALUE_BYTES: usize = 8;

/// Most bytes that so many values take.
pub(super) fn bytes_max(count: usize) -> usize {
    count.div_ceil(2) + VALUE_BYTES * count
}

pub(super) fn write(values: &[Option<i64>], out: &mut Vec<u8>) {
    let start = out.len();
    let lengths_end = start + values.len().div_ceil(2);
    out.resize(start + bytes_max(values.len()), 0);
    let (lengths, bytes) = out.split_at_mut(lengths_end);
    let mut end = 0;
    for (pair, lengths) in values.chunks(2).zip(lengths.iter_mut().skip(start)) {
        let (first, second) = match *pair {
            [first, second] => (first, second),
            [first] => (first, Some(0)),
            _ => break,
        };
        let (first, first_mark, first_length) = coded(first);
        let (second, second_mark, second_length) = coded(second);
        *lengths = first_mark | second_mark << 4;
        // all eight bytes are written, the next value covers those that say nothing
        if let Some(to) = bytes.get_mut(end..end + VALUE_BYTES) {
            to.copy_from_slice(&first.to_le_bytes());
        }
        end += first_length;
        if let Some(to) = bytes.get_mut(end..end + VALUE_BYTES) {
            to.copy_from_slice(&second.to_le_bytes());
        }
        end += second_length;
    }
    out.truncate(lengths_end + end);
}

/// A value's bytes, as a number, what is told of their length, and how many are kept.
#[inline]
fn coded(value: Option<i64>) -> (u64, u8, usize) {
    let Some(value) = value else {
        return (0, ABSENT, 0);
    };
    let coded = ((value << 1) ^ (value >> 63)) as u64;
    let length = (71 - coded.leading_zeros() as u8) / 8;
    (coded, length, usize::from(length))
}

pub(super) fn read(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Option<i64>>, Error> {
    let lengths: Vec<u8> = (0..count.div_ceil(2))
        .map(|_| reader.byte())
        .collect::<Result<_, _>>()?;
    let lengths = lengths.iter().flat_map(|pair| [pair & 15, pair >> 4]);
    let value = |length: u8| {
        let at = reader.position();
        if length == ABSENT {
            return Ok(None);
        }
        if usize::from(length) > VALUE_BYTES {
            let what = "length of a value";
            return Err(Error::Corrupt { at, what });
        }
        let mut coded = 0;
        for place in 0..length {
            coded |= u64::from(reader.byte()?) << (8 * place);
        }
        Ok(Some((coded >> 1) as i64 ^ -((coded & 1) as i64)))
    };
    lengths.take(count).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_every_length_comes_back() -> Result<(), Error> {
        let edges = (0..63).flat_map(|bit| [1 << bit, -(1 << bit), (1 << bit) - 1]);
        let values: Vec<Option<i64>> = edges
            .chain([i64::MIN, i64::MAX])
            .flat_map(|value| [Some(value), None, Some(0)])
            .collect();
        for count in 0..values.len() {
            let given = values.get(..count).unwrap_or_default();
            let mut out = vec![7];
            write(given, &mut out);
            assert!(out.len() <= 1 + bytes_max(count));
            let mut reader = Reader::new(out.get(1..).unwrap_or_default());
            assert_eq!(read(&mut reader, count)?, given);
            reader.end()?;
        }
        Ok(())
    }

    #[test]
    fn a_length_that_no_value_has_is_refused() {
        assert!(read(&mut Reader::new(&[9]), 1).is_err());
        assert_eq!(
            read(&mut Reader::new(&[1]), 1),
            Err(Error::Truncated { at: 1 })
        );
    }
}
