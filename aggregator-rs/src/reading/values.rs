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
    let mark = |value: &Option<i64>| value.map_or((0, ABSENT, 0), coded);
    write_coded(values, mark, out);
}

/// The same for values that are all there.
pub(super) fn write_whole(values: &[i64], out: &mut Vec<u8>) {
    write_coded(values, |&value| coded(value), out);
}

#[inline]
fn write_coded<T>(values: &[T], coded: impl Fn(&T) -> (u64, u8, usize), out: &mut Vec<u8>) {
    let start = out.len();
    let lengths_end = start + values.len().div_ceil(2);
    out.resize(start + bytes_max(values.len()), 0);
    let (lengths, bytes) = out.split_at_mut(lengths_end);
    let mut end = 0;
    let mut write = |value: &T| {
        let (coded, mark, length) = coded(value);
        // all eight bytes are written, the next value covers those that say nothing
        if let Some(to) = bytes.get_mut(end..end + VALUE_BYTES) {
            to.copy_from_slice(&coded.to_le_bytes());
        }
        end += length;
        mark
    };
    let pairs = values.chunks_exact(2);
    let last = pairs.remainder().first();
    let mut lengths = lengths.iter_mut().skip(start);
    for (pair, lengths) in pairs.zip(lengths.by_ref()) {
        if let [first, second] = pair {
            *lengths = write(first) | write(second) << 4;
        }
    }
    if let (Some(last), Some(lengths)) = (last, lengths.next()) {
        *lengths = write(last);
    }
    out.truncate(lengths_end + end);
}

/// A value's bytes, as a number, what is told of their length, and how many are kept.
#[inline]
fn coded(value: i64) -> (u64, u8, usize) {
    let coded = ((value << 1) ^ (value >> 63)) as u64;
    let length = coded.checked_ilog2().map_or(0, |highest| highest / 8 + 1);
    (coded, length as u8, length as usize)
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
