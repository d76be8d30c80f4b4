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
const PAYLOADS: u64 = 3000;

fn payload(random: &mut Random) -> Vec<Table> {
    let start_ms = 1_790_000_000_000 + random.below(1 << 34) as i64;
    let meter = METERS[random.below(METERS.len() as u64) as usize];
    let rows = [1, 1, 2, 3, 5, 15, 41, 41, 60, 96, 250][random.below(11) as usize];
    let faults = Faults {
        silent: [0, 0, 20, 200][random.below(4) as usize],
        skipped: [0, 0, 10][random.below(3) as usize],
        jitter_ms: [1, 30, 300][random.below(3) as usize],
    };
    let with_windows = random.below(3) == 0;
    let tables = 1 + random.below(4) * random.below(4);
    let mut found = Vec::new();
    for group in 0..tables {
        let mut readings = Readings::new(meter, random.next());
        for _ in 0..random.below(60) {
            readings.row();
        }
        let table = table(&mut readings, group as u32, start_ms, rows, faults);
        let window = with_windows.then(|| windows(&table, start_ms));
        found.push(table);
        found.extend(window);
    }
    found
}

/// Learn the prior anew and leave it in the folder for temporary files. A prior belongs to a
/// codec's number: another prior is another codec.
#[test]
#[ignore = "a tool: writes prior.bin"]
fn learn_the_prior() {
    let mut random = Random::new(SEED);
    let mut model = Model::new(Prior::untaught());
    for _ in 0..PAYLOADS {
        let tables = payload(&mut random);
        let mut heads = Vec::new();
        let Ok(heads) = write_heads(&mut heads, &tables, super::CM_CELLS_MAX) else {
            continue;
        };
        let mut columns: Vec<Vec<Column>> = tables
            .iter()
            .map(|table| table.columns().to_vec())
            .collect();
        model.forget();
        let mut knowledge = Knowledge::new(model);
        let mut coder = Encoder::new(Vec::new());
        knowledge.tables(&mut coder, &heads, &mut columns, |_| false);
        model = knowledge.model;
    }
    let path = std::env::temp_dir().join("prior.bin");
    std::fs::write(&path, model.to_prior()).unwrap();
    println!("{}", path.display());
}
