//! Bytes and speed of the payload codecs, on generated meters and on files.
//!
//!     cargo bench --bench codec -- [--seed N] [--export FOLDER] [FILE.csv ROWS]…
//!
//! A line of JSON per case. A file holds a row a line: due time, delay, scaled integers. The rows
//! of every case are left in the folder, so that other encodings can be measured on the same.
#![allow(
    missing_docs,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

use edgeagg_core::codec::{
    decode, decode_on, encode_anchored, encode_as, Keyframe, BACK_MAX, CODEC_CM, CODEC_DELTA,
    CODEC_PLAIN,
};
use edgeagg_core::table::{Column, Table, TableKind, WINDOW_COLUMNS};
use generator::{Meter, Readings, NO_FAULTS};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[allow(clippy::expect_used, dead_code)]
#[path = "codec_generator/mod.rs"]
mod generator;

/// Repetitions, the fastest of which counts: other work on the machine only ever adds.
const TRIES: usize = 5;
const START_MS: i64 = 1_795_000_000_000;

const CASES: [(&str, Meter, usize, u64); 9] = [
    ("three_phase_41", Meter::ThreePhase, 41, 40),
    ("three_phase_270", Meter::ThreePhase, 270, 8),
    ("fast_60", Meter::Fast, 60, 40),
    ("fast_600", Meter::Fast, 600, 8),
    ("house_72", Meter::House, 72, 40),
    ("house_1440", Meter::House, 1440, 8),
    ("plug_900", Meter::Plug, 900, 16),
    ("counter_1440", Meter::Counter, 1440, 16),
    ("plant_96", Meter::Plant, 96, 40),
];

/// Name, meter, rows of the keyframe, rows of the batches that refer to it.
const ANCHORED: [(&str, Meter, usize, usize); 6] = [
    ("three_phase behind 41, rows 41", Meter::ThreePhase, 41, 41),
    ("three_phase behind 41, rows 1", Meter::ThreePhase, 41, 1),
    ("three_phase behind 1, rows 1", Meter::ThreePhase, 1, 1),
    ("house behind 15, rows 15", Meter::House, 15, 15),
    ("plug behind 60, rows 60", Meter::Plug, 60, 60),
    ("plant behind 4, rows 4", Meter::Plant, 4, 4),
];

struct Options {
    seed: u64,
    export: Option<PathBuf>,
    files: Vec<(PathBuf, usize)>,
}

fn options() -> Options {
    let mut options = Options {
        seed: 7,
        export: None,
        files: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bench" => {}
            "--seed" => options.seed = words.next().unwrap().parse().unwrap(),
            "--export" => options.export = Some(words.next().unwrap().into()),
            _ => {
                let rows = words.next().unwrap();
                options.files.push((word.into(), rows.parse().unwrap()));
            }
        }
    }
    options
}

fn lines(path: &Path) -> Vec<Vec<i64>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect())
        .collect()
}

/// A table of recorded rows.
fn recorded(part: &[Vec<i64>]) -> Table {
    let width = part[0].len();
    let values = (0..width).map(|column| part.iter().map(|row| Some(row[column])).collect());
    let good = (2..width).map(|_| vec![Some(0); part.len()]);
    let columns: Vec<Column> = values.chain(good).collect();
    Table::new(TableKind::Readings, 0, 0, columns).unwrap()
}

/// Batches of a file: as many full ones as there are, at most 40, spread over it.
fn batches(lines: &[Vec<i64>], rows: usize) -> Vec<Table> {
    let whole = lines.len() / rows;
    let every = whole.div_ceil(40).max(1);
    (0..whole)
        .step_by(every)
        .map(|at| recorded(&lines[at * rows..(at + 1) * rows]))
        .collect()
}

fn export(folder: &Path, name: &str, tables: &[Table]) {
    let mut text = String::new();
    for table in tables {
        let points = (table.columns().len() - 2) / 2;
        for row in 0..table.rows() {
            for (at, column) in table.columns()[..2 + points].iter().enumerate() {
                let comma = if at == 0 { "" } else { "," };
                write!(text, "{comma}{}", column[row].unwrap()).unwrap();
            }
            text.push('\n');
        }
    }
    std::fs::write(folder.join(format!("{name}.csv")), text).unwrap();
}

/// The fastest of some tries, in seconds.
fn fastest(mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..TRIES {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// A batch, and the one some sequences before it that it may refer to.
struct Pair {
    keyframe: Table,
    batch: Table,
    back: u8,
}

/// Pairs of a generated meter: batches of `rows` rows behind a keyframe of `keyframe_rows`.
fn generated_pairs(meter: Meter, keyframe_rows: usize, rows: usize, seed: u64) -> Vec<Pair> {
    let pair = |batch: u64| {
        let back = 1 + (batch % u64::from(BACK_MAX)) as u8;
        let mut readings = Readings::new(meter, seed + batch);
        let keyframe = generator::table(&mut readings, 0, START_MS, keyframe_rows, NO_FAULTS);
        let between = usize::from(back - 1) * rows;
        for _ in 0..between {
            readings.row();
        }
        let start_ms = START_MS + (keyframe_rows + between) as i64 * meter.period_ms();
        let batch = generator::table(&mut readings, 0, start_ms, rows, NO_FAULTS);
        Pair {
            keyframe,
            batch,
            back,
        }
    };
    (0..32).map(pair).collect()
}

/// Pairs of a file.
fn recorded_pairs(lines: &[Vec<i64>], keyframe_rows: usize, rows: usize) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for number in 0..32 {
        let back = 1 + (number % usize::from(BACK_MAX)) as u8;
        let first = number * (lines.len() / 40);
        let later = first + keyframe_rows + usize::from(back - 1) * rows;
        if let (Some(keyframe), Some(batch)) = (
            lines.get(first..first + keyframe_rows),
            lines.get(later..later + rows),
        ) {
            pairs.push(Pair {
                keyframe: recorded(keyframe),
                batch: recorded(batch),
                back,
            });
        }
    }
    pairs
}

fn measure_anchored(name: &str, pairs: &[Pair]) -> String {
    let (mut bytes, mut alone, mut encode_s, mut decode_s) = (0, 0, 0.0, 0.0);
    for pair in pairs {
        let payload = encode_as(CODEC_CM, std::slice::from_ref(&pair.keyframe)).unwrap();
        let keyframe = Keyframe::new(&payload).unwrap();
        let table = std::slice::from_ref(&pair.batch);
        let anchored = encode_anchored(table, &keyframe, pair.back).unwrap();
        let found = decode_on(CODEC_CM, &anchored, Some(&keyframe)).unwrap();
        assert!(found == table, "BUG: {name}");
        bytes += anchored.len();
        alone += encode_as(CODEC_CM, table).unwrap().len();
        encode_s += fastest(|| drop(encode_anchored(table, &keyframe, pair.back)));
        decode_s += fastest(|| drop(decode_on(CODEC_CM, &anchored, Some(&keyframe))));
    }
    let (rows, points) = (
        pairs[0].batch.rows(),
        (pairs[0].batch.columns().len() - 2) / 2,
    );
    format!(
        "{{\"anchored\": \"{name}\", \"rows\": {rows}, \"points\": {points}, \"batches\": {}, \"bytes\": {bytes}, \"alone_bytes\": {alone}, \"encode_s\": {encode_s:.6}, \"decode_s\": {decode_s:.6}}}",
        pairs.len()
    )
}

fn measure(name: &str, tables: &[Table]) -> String {
    let rows = tables[0].rows();
    let points = (tables[0].columns().len() - 2) / 2;
    let mut line = format!(
        "{{\"case\": \"{name}\", \"rows\": {rows}, \"points\": {points}, \"batches\": {}, \"codecs\": {{",
        tables.len()
    );
    for (at, codec) in [CODEC_PLAIN, CODEC_DELTA, CODEC_CM].into_iter().enumerate() {
        let (mut bytes, mut encode_s, mut decode_s) = (0, 0.0, 0.0);
        for table in tables {
            let table = std::slice::from_ref(table);
            let payload = encode_as(codec, table).unwrap();
            assert!(decode(codec, &payload).unwrap() == table, "BUG: {name}");
            bytes += payload.len();
            encode_s += fastest(|| drop(encode_as(codec, table)));
            decode_s += fastest(|| drop(decode(codec, &payload)));
        }
        let comma = if at == 0 { "" } else { ", " };
        write!(
            line,
            "{comma}\"{codec}\": {{\"bytes\": {bytes}, \"encode_s\": {encode_s:.6}, \"decode_s\": {decode_s:.6}}}"
        )
        .unwrap();
    }
    line + "}}"
}

fn main() {
    let options = options();
    let mut cases: Vec<(String, Vec<Table>)> = Vec::new();
    for (name, meter, rows, count) in CASES {
        let table = |batch: u64| {
            let mut readings = Readings::new(meter, options.seed * 1000 + batch);
            generator::table(&mut readings, 0, START_MS, rows, NO_FAULTS)
        };
        cases.push((name.into(), (0..count).map(table).collect()));
    }
    let mut anchored: Vec<(String, Vec<Pair>)> = Vec::new();
    for (name, meter, keyframe_rows, rows) in ANCHORED {
        let pairs = generated_pairs(meter, keyframe_rows, rows, options.seed * 1000);
        anchored.push((name.into(), pairs));
    }
    for (path, rows) in &options.files {
        let name = format!("{}_{rows}", path.file_stem().unwrap().to_string_lossy());
        let lines = lines(path);
        for (keyframe_rows, rows) in [(*rows, *rows), (*rows, 1), (1, 1)] {
            let name = format!("{name} behind {keyframe_rows}, rows {rows}");
            anchored.push((name, recorded_pairs(&lines, keyframe_rows, rows)));
        }
        cases.push((name, batches(&lines, *rows)));
    }
    for (name, tables) in &cases {
        if let Some(folder) = &options.export {
            export(folder, name, tables);
        }
        println!("{}", measure(name, tables));
    }
    for (name, pairs) in anchored.iter().filter(|(_, pairs)| !pairs.is_empty()) {
        println!("{}", measure_anchored(name, pairs));
    }
}
