//! Payloads that begin with what a keyframe taught: round trips, refusals, hostile bytes, and the
//! file that every later version must read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::codec::{
    anchor_of, decode, decode_on, encode_anchored, encode_as, encode_smallest, encode_smallest_on,
    Keyframe, CM_CELLS_MAX, CODEC_CM, CODEC_DELTA,
};
use edgeagg_core::error::Error;
use edgeagg_core::table::{Column, Table, TableKind, WINDOW_COLUMNS};

#[allow(
    clippy::pedantic,
    clippy::expect_used,
    clippy::indexing_slicing,
    dead_code
)]
#[path = "../benches/codec_generator/mod.rs"]
mod generator;
mod golden;

use golden::{asset, parts};

/// A site's keyframe, and its batch of `rows` rows with `back` batches between them.
fn site(seed: u64, rows: usize, back: u8) -> (Vec<Table>, Vec<Table>) {
    let faults = generator::Faults {
        silent: if seed % 2 == 0 { 0 } else { 60 },
        skipped: 20,
        jitter_ms: 80,
    };
    let (mut keyframe, mut later) = (Vec::new(), Vec::new());
    for group in 0..3 {
        let meter = generator::METERS[(seed as usize + group) % generator::METERS.len()];
        let mut readings = generator::Readings::new(meter, seed * 31 + group as u64);
        let mut start_ms = 1_795_000_000_000;
        let first = generator::table(&mut readings, group as u32, start_ms, 14, faults);
        keyframe.push(generator::windows(&first, start_ms));
        keyframe.push(first);
        for _ in 0..usize::from(back) * rows {
            readings.row();
        }
        start_ms += (14 + i64::from(back) * rows as i64) * meter.period_ms();
        let second = generator::table(&mut readings, group as u32, start_ms, rows, faults);
        if seed % 3 == 0 {
            later.push(generator::windows(&second, start_ms));
        }
        later.push(second);
    }
    // a shape that the keyframe does not know, and numbers that wrap
    let columns = [7, i64::MIN, i64::MAX, 0].map(|value| vec![Some(value)]);
    later.push(Table::new(TableKind::Readings, 0, 0, columns.to_vec()).unwrap());
    (keyframe, later)
}

fn keyframe(tables: &[Table]) -> Keyframe {
    Keyframe::new(&encode_as(CODEC_CM, tables).unwrap()).unwrap()
}

#[test]
fn an_anchored_payload_comes_back_as_it_was() {
    for seed in 1..=12 {
        for (rows, back) in [(1, 1), (1, 16), (2, 3), (9, 5)] {
            let (first, later) = site(seed, rows, back);
            let keyframe = keyframe(&first);
            let payload = encode_anchored(&later, &keyframe, back).unwrap();
            assert_eq!(anchor_of(CODEC_CM, &payload), Ok(Some(back)));
            let found = decode_on(CODEC_CM, &payload, Some(&keyframe));
            assert!(found.as_ref() == Ok(&later), "seed {seed}, rows {rows}");
        }
    }
}

#[test]
fn any_tables_come_back_from_behind_any_keyframe() {
    let mut state = 20_261_122_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for case in 0..150 {
        let mut tables = || {
            let rows = (random() % 4) as usize;
            let (kind, width, length_ms) = match random() % 3 {
                0 => (TableKind::Readings, 6, 0),
                1 => (TableKind::Windows, 1 + WINDOW_COLUMNS, 900_000),
                _ => (TableKind::Gaps, 4, 0),
            };
            let mut cell = || (random() % 4 > 0).then(|| random() as i64 >> (random() % 64));
            let columns: Vec<Column> = (0..width)
                .map(|_| (0..rows).map(|_| cell()).collect())
                .collect();
            vec![Table::new(kind, (case % 3) as u32, length_ms, columns).unwrap()]
        };
        let (first, later) = (
            [tables(), tables(), tables()].concat(),
            [tables(), tables()].concat(),
        );
        let keyframe = keyframe(&first);
        for tables in [[later, first.clone()].concat(), first] {
            let payload = encode_anchored(&tables, &keyframe, 2).unwrap();
            let found = decode_on(CODEC_CM, &payload, Some(&keyframe));
            assert!(found == Ok(tables), "case {case}");
        }
    }
}

#[test]
fn a_short_batch_behind_a_keyframe_is_less_than_half_of_one_alone() {
    let (first, mut later) = site(6, 1, 4);
    later.pop();
    let (codec, payload) = encode_smallest_on(&later, Some((&keyframe(&first), 4))).unwrap();
    let alone = encode_smallest(&later).unwrap().1;
    assert_eq!(anchor_of(codec, &payload), Ok(Some(4)));
    assert!(
        2 * payload.len() < alone.len(),
        "{} of {}",
        payload.len(),
        alone.len()
    );
}

#[test]
fn a_keyframe_that_does_not_help_is_not_used() {
    let (_, later) = site(1, 9, 1);
    let other = keyframe(&[]);
    let (codec, payload) = encode_smallest_on(&later, Some((&other, 1))).unwrap();
    assert_eq!(anchor_of(codec, &payload), Ok(None));
}

#[test]
fn an_anchored_payload_without_its_own_keyframe_is_refused() {
    let (first, later) = site(1, 2, 1);
    let own = encode_as(CODEC_CM, &first).unwrap();
    let payload = encode_anchored(&later, &Keyframe::new(&own).unwrap(), 1).unwrap();
    assert_eq!(decode(CODEC_CM, &payload), Err(Error::NeedsKeyframe(1)));
    let other = keyframe(&site(2, 2, 1).0);
    assert!(decode_on(CODEC_CM, &payload, Some(&other)).is_err());
    // a self-contained payload leaves any keyframe aside
    assert_eq!(decode_on(CODEC_CM, &own, Some(&other)), Ok(first));
}

#[test]
fn the_checksum_holds_a_payload_to_its_keyframe() {
    // an empty list of tables reads the same behind every keyframe but for its checksum
    let payload = encode_anchored(&[], &keyframe(&site(1, 2, 1).0), 1).unwrap();
    let other = keyframe(&site(2, 2, 1).0);
    let found = decode_on(CODEC_CM, &payload, Some(&other));
    assert!(matches!(found, Err(Error::Corrupt { at: 1, .. })));
}

#[test]
fn an_anchored_payload_is_no_keyframe_and_16_is_the_farthest() {
    let (first, later) = site(1, 2, 1);
    let keyframe = keyframe(&first);
    let payload = encode_anchored(&later, &keyframe, 16).unwrap();
    let found = Keyframe::new(&payload).map(|_| ());
    assert_eq!(found, Err(Error::NeedsKeyframe(16)));
    for back in [0, 17] {
        let found = encode_anchored(&later, &keyframe, back);
        assert!(matches!(found, Err(Error::InvalidArgument(_))));
    }
}

#[test]
fn damaged_anchored_bytes_are_refused_or_decode_but_never_panic() {
    let (first, later) = site(3, 2, 1);
    let keyframe = keyframe(&first);
    let whole = encode_anchored(&later, &keyframe, 1).unwrap();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut payload = whole.clone();
            payload[at] ^= 1 << bit;
            let _ = decode_on(CODEC_CM, &payload, Some(&keyframe));
            payload.truncate(at);
            assert!(decode_on(CODEC_CM, &payload, Some(&keyframe)).is_err());
        }
    }
}

#[test]
fn a_head_that_the_keyframe_does_not_have_is_refused() {
    let keyframe = keyframe(&site(1, 2, 1).0);
    // form, checksum, a list, one table, the ninth head of six
    let payload = [1, 0, 0, 0, 1, 9, 1];
    let found = decode_on(CODEC_CM, &payload, Some(&keyframe));
    assert!(matches!(found, Err(Error::TooLarge { .. })), "{found:?}");
}

#[test]
fn a_keyframe_and_a_payload_keep_the_limit_of_cells_together() {
    let tall = |rows: usize| {
        let columns = vec![vec![Some(1); rows]; 4];
        vec![Table::new(TableKind::Readings, 0, 0, columns).unwrap()]
    };
    let keyframe = keyframe(&tall(CM_CELLS_MAX / 8));
    assert!(encode_anchored(&tall(CM_CELLS_MAX / 8), &keyframe, 1).is_ok());
    let over = tall(CM_CELLS_MAX / 8 + 1);
    let found = encode_anchored(&over, &keyframe, 1);
    assert!(matches!(found, Err(Error::TooLarge { what: "cells", .. })));
    // the smallest way is one that can be decoded
    let (codec, payload) = encode_smallest_on(&over, Some((&keyframe, 1))).unwrap();
    assert_eq!(anchor_of(codec, &payload), Ok(None));
    // form, checksum, a list, one table, the first head of the keyframe, 3073 rows; then the same
    // without a list
    for payload in [&[1, 0, 0, 0, 1, 1, 0x81, 0x18][..], &[1, 0, 0, 0x81, 0x18]] {
        let found = decode_on(CODEC_CM, payload, Some(&keyframe));
        assert!(matches!(found, Err(Error::TooLarge { what: "cells", .. })));
    }
}

#[test]
fn the_readings_of_a_keyframe_come_again_without_a_list() {
    let (first, later) = site(1, 1, 1);
    let keyframe = keyframe(&first);
    let readings = &later[..3];
    let payload = encode_anchored(readings, &keyframe, 1).unwrap();
    assert_eq!(payload[3], 1, "rows");
    let found = decode_on(CODEC_CM, &payload, Some(&keyframe));
    assert!(found.as_deref() == Ok(readings));
    // a table more or less needs the list
    for others in [&readings[1..], &later[..]] {
        let payload = encode_anchored(others, &keyframe, 1).unwrap();
        assert_eq!(payload[3], 0);
        let found = decode_on(CODEC_CM, &payload, Some(&keyframe));
        assert!(found.as_deref() == Ok(others));
    }
}

/// Keyframe and payload in turn, each after its length in four bytes.
fn many(codec: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for seed in 1..=32 {
        let rows = [1, 2, 1, 11][seed as usize % 4];
        // the last ones follow their keyframe as closely as a gateway's batches do
        let (back, between) = match seed {
            ..=24 => (1 + (seed % 16) as u8, 1 + (seed % 16) as u8),
            _ => (1 + (seed % 3) as u8, (seed % 3) as u8),
        };
        let (first, later) = site(seed, rows, between);
        let own = encode_as(codec, &first).unwrap();
        let payload = if codec == CODEC_CM {
            encode_anchored(&later, &Keyframe::new(&own).unwrap(), back).unwrap()
        } else {
            encode_as(codec, &later).unwrap()
        };
        for part in [own, payload] {
            bytes.extend((part.len() as u32).to_le_bytes());
            bytes.extend(part);
        }
    }
    bytes
}

fn anchored(codec: u8) -> Vec<u8> {
    asset(&format!("payloads_anchored_codec{codec}.bin"), || {
        many(codec)
    })
}

#[test]
fn the_golden_anchored_payloads_hold_the_same_tables_as_their_twins() {
    let (mixed, twins) = (anchored(CODEC_CM), anchored(CODEC_DELTA));
    let (mixed, twins) = (parts(&mixed), parts(&twins));
    assert_eq!(mixed.len(), twins.len());
    for (mixed, twins) in mixed.chunks(2).zip(twins.chunks(2)) {
        let keyframe = Keyframe::new(mixed[0]).unwrap();
        let later = decode(CODEC_DELTA, twins[1]).unwrap();
        assert_eq!(decode(CODEC_CM, mixed[0]), decode(CODEC_DELTA, twins[0]));
        assert!(decode_on(CODEC_CM, mixed[1], Some(&keyframe)).as_ref() == Ok(&later));
        let back = anchor_of(CODEC_CM, mixed[1]).unwrap().unwrap();
        assert_eq!(encode_anchored(&later, &keyframe, back).unwrap(), mixed[1]);
    }
}

#[test]
#[ignore = "a tool: writes the fuzzer's corpus of codec 2 anew from that of codec 1"]
fn write_the_corpus() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if let Some(name) = name.strip_prefix("codec1_") {
            let tables = decode(CODEC_DELTA, &std::fs::read(&path).unwrap()).unwrap();
            let payload = encode_as(CODEC_CM, &tables).unwrap();
            std::fs::write(folder.join(format!("codec2_{name}")), payload).unwrap();
        }
    }
    for (at, pair) in parts(&many(CODEC_CM)).chunks(2).take(8).enumerate() {
        let length = (pair[0].len() as u32).to_le_bytes();
        let bytes = [&length, pair[0], pair[1]].concat();
        std::fs::write(folder.join(format!("anchored_{at}.bin")), bytes).unwrap();
    }
}

#[test]
fn a_step_that_does_not_fit_comes_back_in_whatever_unit_the_keyframe_moved() {
    let table = |start_ms: i64, values: &[i64]| {
        let rows = 0..values.len() as i64;
        let due: Column = rows.map(|row| Some(start_ms + row * 1_000)).collect();
        let zeros: Column = vec![Some(0); values.len()];
        let values: Column = values.iter().copied().map(Some).collect();
        let columns = vec![due, zeros.clone(), values, zeros];
        Table::new(TableKind::Readings, 0, 0, columns).unwrap()
    };
    let first = table(1_795_000_000_000, &[-35, -28, -7, -21, -42, -14, 0, -7]);
    let keyframe = keyframe(std::slice::from_ref(&first));
    for values in [
        [0, i64::MAX],
        [-7, i64::MAX - 7],
        [i64::MIN, -7],
        [7, i64::MIN + 1],
    ] {
        let later = [table(1_795_000_008_000, &values)];
        let payload = encode_anchored(&later, &keyframe, 1).unwrap();
        let found = decode_on(CODEC_CM, &payload, Some(&keyframe)).unwrap();
        assert_eq!(found, later);
        let [later] = later;
        let both = [first.clone(), later];
        let alone = encode_as(CODEC_CM, &both).unwrap();
        assert_eq!(decode(CODEC_CM, &alone).unwrap(), both);
    }
}
