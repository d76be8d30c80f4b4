//! The payload codecs: round trips, hostile bytes, and the files that every later version must
//! read.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::codec::{
    decode, encode, encode_as, encode_smallest, CM_CELLS_MAX, CODEC_CM, CODEC_DELTA, CODEC_PLAIN,
};
use edgeagg_core::error::Error;
use edgeagg_core::table::{
    Column, Table, TableKind, AUDIT_COLUMNS, DEMAND_COLUMNS, STATISTICS_COLUMNS, WINDOW_COLUMNS,
};

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

const CODECS: [u8; 3] = [CODEC_PLAIN, CODEC_DELTA, CODEC_CM];

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

/// A site's batch: meters of two kinds with silent rows, skipped slots, windows and a gap.
fn site_tables(seed: u64) -> Vec<Table> {
    let faults = generator::Faults {
        silent: 50,
        skipped: 30,
        jitter_ms: 80,
    };
    let start_ms = 1_795_000_000_000;
    let mut tables = Vec::new();
    for group in 0..6 {
        let meter = generator::METERS[group as usize % 3];
        let mut readings = generator::Readings::new(meter, seed + u64::from(group));
        let table = generator::table(&mut readings, group, start_ms, 12, faults);
        let windows = generator::windows(&table, start_ms);
        tables.extend([table, windows]);
    }
    let gap = [start_ms, start_ms + 60_000, 61, 7].map(|value| vec![Some(value)]);
    tables.push(Table::new(TableKind::Gaps, 2, 0, gap.to_vec()).unwrap());
    tables
}

/// Tables of all kinds: audits between readings and their windows, as a gateway writes them; the
/// others each twice, so that what the first of a shape teaches serves the second.
fn judged_tables(seed: u64) -> Vec<Table> {
    let mut random = Random(seed);
    let mut some = |kind, width: usize| {
        let rows = 1 + random.below(8) as usize;
        let columns = (0..width).map(|_| random.column(rows)).collect();
        Table::new(kind, random.below(7) as u32, 0, columns).unwrap()
    };
    let mut tables = site_tables(seed).split_off(8);
    tables.insert(1, some(TableKind::Audits, AUDIT_COLUMNS));
    for _ in 0..2 {
        tables.push(some(TableKind::Audits, AUDIT_COLUMNS));
        tables.push(some(TableKind::Uncertainties, 2 + 3));
        tables.push(some(TableKind::Statistics, 2 + 2 * STATISTICS_COLUMNS));
        tables.push(some(TableKind::Demands, DEMAND_COLUMNS));
    }
    tables
}

fn readings(columns: Vec<Column>) -> Vec<Table> {
    vec![Table::new(TableKind::Readings, 0, 0, columns).unwrap()]
}

#[test]
fn tables_come_back_as_they_were() {
    for seed in 1..=100 {
        let tables = some_tables(&mut Random(seed));
        for codec in CODECS {
            let payload = encode_as(codec, &tables).unwrap();
            let found = decode(codec, &payload);
            assert!(found == Ok(tables.clone()), "codec {codec}, seed {seed}");
        }
    }
}

#[test]
fn a_sites_tables_come_back_as_they_were() {
    for seed in 1..=4 {
        let tables = site_tables(seed);
        for codec in CODECS {
            let payload = encode_as(codec, &tables).unwrap();
            let found = decode(codec, &payload);
            assert!(found == Ok(tables.clone()), "codec {codec}, seed {seed}");
        }
    }
}

#[test]
fn tables_of_every_kind_come_back_as_they_were() {
    for seed in 1..=20 {
        let tables = judged_tables(seed);
        let kinds = (1..=7).map(|code| TableKind::from_code(code).unwrap());
        for kind in kinds {
            assert!(tables.iter().any(|it| it.kind() == kind), "{kind:?}");
        }
        for codec in CODECS {
            let payload = encode_as(codec, &tables).unwrap();
            assert!(
                decode(codec, &payload) == Ok(tables.clone()),
                "codec {codec}, seed {seed}"
            );
        }
    }
    assert_eq!(TableKind::from_code(8), None);
}

#[test]
fn the_ends_of_the_number_range_come_back() {
    let ends = [
        i64::MIN,
        i64::MAX,
        0,
        -1,
        i64::MIN,
        i64::MIN + 1,
        i64::MAX,
        1,
    ];
    let columns = (0..4)
        .map(|turn| {
            let turned = ends.iter().cycle().skip(turn).take(ends.len());
            turned.map(|value| Some(*value)).collect()
        })
        .collect();
    let tables = readings(columns);
    for codec in CODECS {
        let payload = encode_as(codec, &tables).unwrap();
        assert_eq!(decode(codec, &payload), Ok(tables.clone()), "codec {codec}");
    }
}

#[test]
fn integers_at_the_edge_of_every_length_come_back() {
    let edges = (0..63).flat_map(|bits| [0, 1, 2].map(|more| (1_i64 << bits) - 1 + more));
    let column: Column = edges
        .flat_map(|edge| [Some(edge), Some(edge.wrapping_neg())])
        .collect();
    let tables = readings(vec![column; 4]);
    for codec in CODECS {
        let payload = encode_as(codec, &tables).unwrap();
        assert_eq!(decode(codec, &payload), Ok(tables.clone()), "codec {codec}");
    }
}

#[test]
fn the_smallest_is_no_larger_than_any() {
    for seed in 1..=4 {
        let tables = site_tables(seed);
        let (codec, payload) = encode_smallest(&tables).unwrap();
        for other in CODECS {
            assert!(payload.len() <= encode_as(other, &tables).unwrap().len());
        }
        assert!(decode(codec, &payload) == Ok(tables));
    }
}

#[test]
fn what_context_mixing_may_not_hold_goes_by_delta() {
    let columns = vec![vec![Some(7); CM_CELLS_MAX / 4 + 1]; 4];
    let tables = readings(columns);
    assert!(matches!(
        encode_as(CODEC_CM, &tables),
        Err(Error::TooLarge { what: "cells", .. })
    ));
    assert_eq!(encode_smallest(&tables).unwrap().0, CODEC_DELTA);
    let mut random = Random(11);
    let noise = (0..46).map(|_| (0..500).map(|_| Some(random.next() as i64 >> 43)).collect());
    let tables = readings(noise.collect());
    assert!(matches!(
        encode_as(CODEC_CM, &tables),
        Err(Error::TooLarge {
            what: "decisions",
            ..
        })
    ));
    assert_eq!(encode_smallest(&tables).unwrap().0, CODEC_DELTA);
}

#[test]
fn a_row_without_a_reply_costs_next_to_nothing() {
    let quiet = generator::NO_FAULTS;
    let silent = generator::Faults {
        silent: 100,
        ..quiet
    };
    let size = |faults| {
        let mut readings = generator::Readings::new(generator::Meter::ThreePhase, 5);
        let table = generator::table(&mut readings, 0, 1_795_000_000_000, 200, faults);
        encode_as(CODEC_CM, &[table]).unwrap().len()
    };
    // a tenth of the rows has no values; what says so must stay under three bytes a row
    assert!(size(silent) < size(quiet) * 94 / 100 + 3 * 20);
}

#[test]
fn mutated_bytes_are_refused_or_decode_but_never_panic() {
    for seed in 1..=100 {
        let mut random = Random(seed);
        let tables = some_tables(&mut random);
        for codec in CODECS {
            let mut payload = encode_as(codec, &tables).unwrap();
            for _ in 0..=random.below(4) {
                let at = random.below(payload.len() as u64) as usize;
                payload[at] = random.next() as u8;
            }
            payload.truncate(1 + random.below(payload.len() as u64) as usize);
            let _ = decode(codec, &payload);
        }
    }
}

#[test]
fn a_flipped_bit_in_mixed_bytes_is_noticed() {
    let tables = site_tables(3).split_off(10);
    let payload = encode_as(CODEC_CM, &tables).unwrap();
    for at in 0..payload.len() {
        let mut damaged = payload.clone();
        damaged[at] ^= 1 << (at % 8);
        if let Ok(found) = decode(CODEC_CM, &damaged) {
            // the heads' group numbers and window lengths are not cells: the seal holds those
            let cells = |tables: &[Table]| -> Vec<Vec<Column>> {
                tables
                    .iter()
                    .map(|table| table.columns().to_vec())
                    .collect()
            };
            assert!(cells(&found) == cells(&tables), "byte {at}");
        }
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
    // one table alone, checksum: readings of group 0, 65536 rows, 8192 columns
    let bomb = [18, 0, 0, 0, 0, 1, 0x80, 0x80, 0x04, 0x80, 0x40];
    assert!(matches!(
        decode(CODEC_CM, &bomb),
        Err(Error::TooLarge { what: "cells", .. })
    ));
    // one table of one column of 65535 rows
    let bomb = [0x91, 0x94, 1, 0, 0, 0x91, 0xdc, 0xff, 0xff];
    assert!(matches!(
        decode(CODEC_PLAIN, &bomb),
        Err(Error::Truncated { .. })
    ));
}

#[test]
fn a_trailing_byte_is_refused() {
    for codec in CODECS {
        let mut payload = encode_as(codec, &[]).unwrap();
        payload.push(0);
        let found = decode(codec, &payload);
        assert!(matches!(found, Err(Error::Corrupt { .. })), "codec {codec}");
    }
}

#[test]
fn an_unknown_codec_is_named() {
    assert_eq!(decode(9, &[0]), Err(Error::UnknownCodec(9)));
    assert_eq!(encode_as(9, &[]), Err(Error::UnknownCodec(9)));
}

#[test]
fn a_number_of_tables_that_the_form_could_say_is_refused() {
    let found = |tables: &[u8]| decode(CODEC_CM, &[&[0, 0, 0, 0, 0], tables].concat());
    let refused = |what: &'static str| Err(Error::Corrupt { at: 5, what });
    assert_eq!(found(&[238, 1]), refused("number of tables"));
    assert!(matches!(found(&[239, 1]), Err(Error::Truncated { .. })));
}

#[test]
fn many_tables_come_back() {
    for count in [0, 1, 238, 239, 300] {
        let gap = |at: i64| {
            let cells = [at * 60_000, at * 60_000, 1, 1];
            let columns = cells.map(|cell| vec![Some(cell)]).to_vec();
            Table::new(TableKind::Gaps, at as u32, 0, columns).unwrap()
        };
        let tables: Vec<Table> = (0..count).map(gap).collect();
        let payload = encode_as(CODEC_CM, &tables).unwrap();
        assert_eq!(
            usize::from(payload[0]),
            if count < 239 { 17 + count as usize } else { 0 }
        );
        assert_eq!(decode(CODEC_CM, &payload), Ok(tables));
    }
}

/// The tables behind `assets/payload_codec1.bin` and the first part of the later ones.
fn golden() -> Vec<Table> {
    let mut random = Random(20_261_122);
    (0..4).flat_map(|_| some_tables(&mut random)).collect()
}

#[test]
fn the_golden_payload_decodes_as_on_the_day_it_was_written() {
    let bytes = asset("payload_codec1.bin", || encode(&golden()).unwrap());
    assert_eq!(decode(CODEC_DELTA, &bytes), Ok(golden()));
    assert_eq!(encode(&golden()).unwrap(), bytes);
}

/// What the golden files of codecs 0 and 2 hold stands beside them in codec 1, so that nothing
/// but the files is needed to tell whether they are read right.
#[test]
fn the_golden_payloads_of_all_codecs_hold_the_same_tables() {
    let site: Vec<Table> = golden().into_iter().chain(site_tables(1)).collect();
    for (name, tables) in [("site", site), ("judged", judged_tables(3))] {
        let file = |codec| {
            let file = format!("payload_{name}_codec{codec}.bin");
            asset(&file, || encode_as(codec, &tables).unwrap())
        };
        let twin = decode(CODEC_DELTA, &file(CODEC_DELTA)).unwrap();
        for codec in CODECS {
            let bytes = file(codec);
            let found = decode(codec, &bytes).unwrap();
            assert!(found == twin, "{name}, codec {codec}");
            let again = encode_as(codec, &twin).unwrap();
            assert!(again == bytes, "{name}, codec {codec}");
        }
    }
}

/// Payloads behind each other, each after its length in four bytes.
fn many(codec: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for seed in 1..=40 {
        let mut random = Random(seed * 7919);
        let tables = match seed % 4 {
            0 => site_tables(seed).split_off(9),
            1 => site_tables(seed).split_off(12),
            _ => {
                let mut tables = some_tables(&mut random);
                tables.truncate(1);
                tables
            }
        };
        let payload = encode_as(codec, &tables).unwrap();
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(payload);
    }
    bytes
}

#[test]
fn the_golden_random_payloads_of_all_codecs_hold_the_same_tables() {
    let file = |codec| asset(&format!("payloads_random_codec{codec}.bin"), || many(codec));
    let twins = file(CODEC_DELTA);
    for codec in CODECS {
        for (payload, twin) in parts(&file(codec)).into_iter().zip(parts(&twins)) {
            let tables = decode(CODEC_DELTA, twin).unwrap();
            assert!(
                decode(codec, payload).as_ref() == Ok(&tables),
                "codec {codec}"
            );
            assert!(
                encode_as(codec, &tables).unwrap() == payload,
                "codec {codec}"
            );
        }
    }
}
