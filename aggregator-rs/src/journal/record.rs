//! One record in a segment: its bytes, and finding it again among damage.

/// Bytes of a head: magic, kind, zero, length, number, CRC-32.
pub(super) const HEAD_BYTES: usize = 20;

/// Longest payload of a record.
pub const PAYLOAD_MAX: usize = 16 << 20;

const MAGIC: [u8; 2] = *b"EJ";
const CHECKED_BYTES: usize = 16;

/// Add a record to `out`; the caller has checked its length.
pub(super) fn write(out: &mut Vec<u8>, kind: u8, number: u64, payload: &[u8]) {
    let mut head = [0; HEAD_BYTES];
    let fields: [&[u8]; 4] = [
        &MAGIC,
        &[kind, 0],
        &(payload.len() as u32).to_le_bytes(),
        &number.to_le_bytes(),
    ];
    for (to, from) in head.iter_mut().zip(fields.into_iter().flatten()) {
        *to = *from;
    }
    let (checked, sum) = head.split_at_mut(CHECKED_BYTES);
    sum.copy_from_slice(&checksum(checked, payload).to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

/// Kind, payload length and number of a head whose magic and length are possible.
pub(super) fn parse_head(head: &[u8]) -> Option<(u8, usize, u64)> {
    let (magic, rest) = head.split_first_chunk::<2>()?;
    let (kind, rest) = rest.split_first_chunk::<2>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (number, _) = rest.split_first_chunk::<8>()?;
    let length = u32::from_le_bytes(*length) as usize;
    (*magic == MAGIC && length <= PAYLOAD_MAX)
        .then(|| (kind[0], length, u64::from_le_bytes(*number)))
}

/// Whether head and payload carry their checksum.
pub(super) fn is_valid(head: &[u8], payload: &[u8]) -> bool {
    match head.split_at_checked(CHECKED_BYTES) {
        Some((checked, sum)) => sum == checksum(checked, payload).to_le_bytes(),
        None => false,
    }
}

/// A valid record among the bytes of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) number: u64,
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
    /// Where its head begins.
    pub(super) at: usize,
    /// One behind its last byte.
    pub(super) end: usize,
}

/// The valid records of a segment whose first number is `first`, in order; damage is stepped over.
pub(super) fn records(bytes: &[u8], first: u64) -> impl Iterator<Item = Found<'_>> {
    let mut expected = first;
    let mut from = 0;
    std::iter::from_fn(move || {
        let found = next_valid(bytes, from, expected)?;
        expected = found.number + 1;
        from = found.end;
        Some(found)
    })
}

/// The first valid record at or behind `from` whose number is at least `expected`.
fn next_valid(bytes: &[u8], from: usize, expected: u64) -> Option<Found<'_>> {
    // a number further ahead than the bytes in between could hold is not ours
    let plausible = |at: usize, number: u64| {
        number >= expected && number - expected <= ((at - from) / HEAD_BYTES) as u64
    };
    let mut at = from;
    while let Some(rest) = bytes.get(at..) {
        match record_at(rest, at) {
            Some(found) if plausible(at, found.number) => return Some(found),
            _ => {}
        }
        let ahead = rest.get(1..)?;
        let step = ahead.iter().position(|&byte| byte == MAGIC[0])?;
        at += 1 + step;
    }
    None
}

fn record_at(bytes: &[u8], at: usize) -> Option<Found<'_>> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let (kind, length, number) = parse_head(head)?;
    let payload = rest.get(..length)?;
    is_valid(head, payload).then_some(Found {
        number,
        kind,
        payload,
        at,
        end: at + HEAD_BYTES + length,
    })
}
