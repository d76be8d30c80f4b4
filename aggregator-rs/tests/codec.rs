//! The payload codec: round trips, hostile bytes, and the file that every later version must read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::codec::{decode, encode, CODEC_DELTA};
use edgeagg_core::error::Error;
use edgeagg_core::table::{Column, Table, TableKind, WINDOW_COLUMNS};

/// A small generator, so that a failure is reproduced by its seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn column(&mut self, rows: usize) -> Column {
        let shape = self.below(5);
        let step = self.next() as i64 >> self.below(64);
        let mut value = self.next() as i64;
        (0..rows)
            .map(|_| {
                value = match shape {
                    0 => value,
                    1 => value.wrapping_add(step),
                    _ => value.wrapping_add(self.next() as i64 >> self.below(64)),
                };
                (shape < 4 || self.below(3) > 0).then_some(value)
            })
            .collect()
    }
}

fn some_tables(random: &mut Random) -> Vec<Table> {
    (0..random.below(5))
        .map(|_| {
            let rows = random.below(40) as usize;
            let points = 1 + random.below(6) as usize;
            let group = random.below(1 << 20) as u32;
            let (kind, width, length_ms) = match random.below(3) {
                0 => (TableKind::Readings, 2 + 2 * points, 0),
                1 => (TableKind::Windows, 1 + WINDOW_COLUMNS * points, 900_000),
                _ => (TableKind::Gaps, 4, 0),
            };
            let columns = (0..width).map(|_| random.column(rows)).collect();
            Table::new(kind, group, length_ms, columns).unwrap()
        })
        .collect()
}

#[test]
fn tables_come_back_as_they_were() {
    for seed in 1..=2_000 {
        let tables = some_tables(&mut Random(seed));
        let payload = encode(&tables).unwrap();
        assert_eq!(decode(CODEC_DELTA, &payload), Ok(tables), "seed {seed}");
    }
}

#[test]
fn mutated_bytes_are_refused_or_decode_but_never_panic() {
    for seed in 1..=3_000 {
        let mut random = Random(seed);
        let mut payload = encode(&some_tables(&mut random)).unwrap();
        for _ in 0..=random.below(4) {
            let at = random.below(payload.len() as u64) as usize;
            payload[at] = random.next() as u8;
        }
        payload.truncate(1 + random.below(payload.len() as u64) as usize);
        let _ = decode(CODEC_DELTA, &payload);
    }
}

#[test]
fn a_few_bytes_cannot_claim_a_huge_table() {
    // one table: readings, group 0, length 0, 65536 rows, 8192 columns
    let bomb = [1, 1, 0, 0, 0x80, 0x80, 0x04, 0x80, 0x40];
    assert!(matches!(
        decode(CODEC_DELTA, &bomb),
        Err(Error::TooLarge { what: "cells", .. })
    ));
}

#[test]
fn a_trailing_byte_is_refused() {
    let mut payload = encode(&[]).unwrap();
    payload.push(0);
    assert!(matches!(
        decode(CODEC_DELTA, &payload),
        Err(Error::Corrupt { .. })
    ));
}

#[test]
fn an_unknown_codec_is_named() {
    assert_eq!(decode(9, &[0]), Err(Error::UnknownCodec(9)));
}

/// The tables behind `assets/payload_codec1.bin`, which is written once and never edited.
fn golden() -> Vec<Table> {
    let mut random = Random(20_261_122);
    (0..4).flat_map(|_| some_tables(&mut random)).collect()
}

#[test]
fn the_golden_payload_decodes_as_on_the_day_it_was_written() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/assets/payload_codec1.bin"
    );
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(path, encode(&golden()).unwrap()).unwrap();
    }
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(decode(CODEC_DELTA, &bytes), Ok(golden()));
    assert_eq!(encode(&golden()).unwrap(), bytes);
}
