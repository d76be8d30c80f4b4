//! Learns the prior that codec 2 begins with: a tool, run by hand.

// a tool may panic
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use super::cm::Knowledge;
use super::head::write_heads;
use super::mixing::Model;
use super::prior::Prior;
use super::range::Encoder;
use crate::table::{Column, Table, TableKind, WINDOW_COLUMNS};
use generator::{table, windows, Faults, Random, Readings, METERS};

#[allow(
    clippy::pedantic,
    clippy::expect_used,
    clippy::should_implement_trait,
    dead_code
)]
#[path = "../../benches/codec_generator/mod.rs"]
mod generator;

const SEED: u64 = 1;
const PAYLOADS: u64 = 4000;

const ROWS: [usize; 11] = [1, 1, 2, 3, 5, 15, 41, 41, 60, 96, 250];

/// Some meters of one kind, and where they are.
struct Site {
    meters: Vec<Readings>,
    faults: Faults,
    with_windows: bool,
    period_ms: i64,
    next_ms: i64,
}

impl Site {
    fn new(random: &mut Random) -> Site {
        let start_ms = 1_790_000_000_000 + random.below(1 << 34) as i64;
        let meter = METERS[random.below(METERS.len() as u64) as usize];
        let faults = Faults {
            silent: [0, 0, 20, 200][random.below(4) as usize],
            skipped: [0, 0, 10][random.below(3) as usize],
            jitter_ms: [1, 30, 300][random.below(3) as usize],
        };
        let with_windows = random.below(3) == 0;
        let tables = 1 + random.below(4) * random.below(4);
        let meters = (0..tables).map(|_| {
            let mut readings = Readings::new(meter, random.next());
            for _ in 0..random.below(60) {
                readings.row();
            }
            readings
        });
        Site {
            meters: meters.collect(),
            faults,
            with_windows,
            period_ms: meter.period_ms(),
            next_ms: start_ms,
        }
    }

    /// The next batch.
    fn tables(&mut self, rows: usize) -> Vec<Table> {
        let mut found = Vec::new();
        for (group, readings) in self.meters.iter_mut().enumerate() {
            let table = table(readings, group as u32, self.next_ms, rows, self.faults);
            let windows = self.with_windows.then(|| windows(&table, self.next_ms));
            found.push(table);
            found.extend(windows);
        }
        self.next_ms += rows as i64 * self.period_ms;
        found
    }

    /// Let some rows pass.
    fn skip(&mut self, rows: usize) {
        for readings in &mut self.meters {
            for _ in 0..rows {
                readings.row();
            }
        }
        self.next_ms += rows as i64 * self.period_ms;
    }
}

/// Encode tables for what it teaches; one with too many cells teaches nothing.
fn teach(knowledge: &mut Knowledge, tables: &[Table]) {
    let mut heads = Vec::new();
    let Ok(heads) = write_heads(&mut heads, tables, super::CM_CELLS_MAX, None) else {
        return;
    };
    let mut columns: Vec<Vec<Column>> = tables
        .iter()
        .map(|table| table.columns().to_vec())
        .collect();
    let mut coder = Encoder::new(Vec::new());
    knowledge.tables(&mut coder, &heads, &mut columns, |_| false);
}

/// Learn the prior anew and leave it in the folder for temporary files. A prior belongs to a
/// codec's number: once batches with it are kept somewhere, another prior is another codec.
#[test]
#[ignore = "a tool: writes prior.bin"]
fn learn_the_prior() {
    let mut random = Random::new(SEED);
    let mut model = Model::new(Prior::untaught());
    let (mut sums, mut count) = (Vec::new(), 0_i64);
    for number in 0..PAYLOADS {
        let mut site = Site::new(&mut random);
        let rows = ROWS[random.below(11) as usize];
        model.forget();
        let mut knowledge = Knowledge::new(model);
        teach(&mut knowledge, &site.tables(rows));
        if random.below(2) == 0 {
            let rows = [rows, rows, 1][random.below(3) as usize];
            let between = random.below(16);
            site.skip(rows * between as usize);
            knowledge.look_back(between as u8 + 1);
            teach(&mut knowledge, &site.tables(rows));
        }
        model = knowledge.model;
        if number >= PAYLOADS / 4 {
            let found = model.to_prior();
            sums.resize(found.len(), 0);
            for (sum, number) in sums.iter_mut().zip(found) {
                *sum += number;
            }
            count += 1;
        }
    }
    // the mean over many payloads: the last one would leave its own traces
    let bytes: Vec<u8> = sums
        .into_iter()
        .flat_map(|sum| ((sum / count) as u16).to_le_bytes())
        .collect();
    let path = std::env::temp_dir().join("prior.bin");
    std::fs::write(&path, bytes).unwrap();
    println!("{}", path.display());
}
