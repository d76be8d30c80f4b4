//! Inputs that almost make sense: known payloads, damaged in a few places.

/// Most bytes of a message.
const BYTES_MAX: usize = 256 * 1024;
/// Numbers that sit at an edge: of LEB128, of msgpack, of the limits.
const EDGES: [&[u8]; 12] = [
    &[0x00],
    &[0xff],
    &[0x7f],
    &[0x80, 0x01],
    &[0x80, 0x80, 0x04],
    &[0x80, 0x40],
    &[0x80, 0xc0, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xdd, 0xff, 0xff, 0xff, 0xff],
    &[0xdc, 0xff, 0xff],
    &[0xd3, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// Random numbers of a seed.
pub struct Random(u64);

impl Random {
    /// Begin.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// The next input.
pub fn input(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        mutate(random, &mut bytes, corpus);
    }
    if random.below(2000) == 0 {
        // as long as a message may be: noise, or one byte over and over
        let fill = random.below(3);
        let length = random.below(BYTES_MAX);
        bytes.resize_with(length.max(bytes.len()), || match fill {
            0 => random.next() as u8,
            1 => 0x00,
            _ => 0xff,
        });
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    // heads stand at the front: half of the damage is done there
    let reach = if random.below(2) == 0 {
        24
    } else {
        bytes.len()
    };
    let at = random.below(reach.min(bytes.len()) + 1);
    let end = (at + 1 + random.below(16)).min(bytes.len());
    let at = at.min(end);
    match random.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.next() as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        4 => {
            let edge = EDGES[random.below(EDGES.len())];
            bytes.splice(at..at, edge.iter().copied());
        }
        5 => {
            let edge = EDGES[random.below(EDGES.len())];
            bytes.splice(at..end, edge.iter().copied());
        }
        6 => bytes.truncate(at),
        _ => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
    }
}
