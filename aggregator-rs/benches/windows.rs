//! Speed of the windows on one thread: a line of JSON per case.
//!
//! `cargo bench --bench windows -- --seed 7 --export FOLDER` also writes what was aggregated, for
//! `python -m hil_tests.speed.windows`: one little-endian 64-bit integer per reading, row by row.
//! Every series is read once in a second; what the rows come from is made before the clock starts.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::env;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use edgeagg_core::aggregator::{Aggregator, GroupShape};
use edgeagg_core::calendar::DAY_MS;
use edgeagg_core::reading::Row;
use edgeagg_core::totaliser::Guard;
use edgeagg_core::window::PointKind;

const SERIES: usize = 2_000;
const SECONDS: usize = 500;
const START_MS: i64 = 1_790_000_000_000;
const REPEATS: usize = 7;
const MINUTE_MS: i64 = 60_000;

/// xorshift64*: the same numbers for the same seed everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as i64 % sides as i64
    }
}

/// How the series are spread over groups.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Points of a group; the last `guarded` of them are totalisers that are judged.
    points: usize,
    guarded: usize,
    /// Points with standard deviation and percentiles.
    sampled: usize,
    lengths_ms: &'static [i64],
}

const CASES: [Case; 8] = [
    Case::of("60 s", 0, &[MINUTE_MS]),
    Case::of("60 s, totalisers", 4, &[MINUTE_MS]),
    Case::of("15 min, totalisers", 4, &[15 * MINUTE_MS]),
    Case::of(
        "15 min to day, totalisers",
        4,
        &[15 * MINUTE_MS, 60 * MINUTE_MS, DAY_MS],
    ),
    Case {
        sampled: 40,
        ..Case::of("60 s, statistics", 4, &[MINUTE_MS])
    },
    Case {
        points: 400,
        ..Case::of("60 s, rows of 400", 0, &[MINUTE_MS])
    },
    Case {
        points: 8,
        ..Case::of("60 s, rows of 8", 0, &[MINUTE_MS])
    },
    Case {
        points: 1,
        ..Case::of("60 s, rows of 1", 0, &[MINUTE_MS])
    },
];

impl Case {
    const fn of(name: &'static str, guarded: usize, lengths_ms: &'static [i64]) -> Case {
        Case {
            name,
            points: 40,
            guarded,
            sampled: 0,
            lengths_ms,
        }
    }

    fn aggregator(&self) -> Aggregator {
        let guard = Guard::new(Some(1_000_000_000), 40_000, 1).unwrap();
        let kinds: Vec<PointKind> = (0..self.points)
            .map(|point| match point < self.points - self.guarded {
                true => PointKind::Gauge,
                false => PointKind::Guarded(guard),
            })
            .collect();
        let sampled: Vec<usize> = (0..self.sampled).collect();
        let shape = || {
            let shape = GroupShape::new(1_000, kinds.clone()).unwrap();
            shape.with_statistics(&sampled).unwrap()
        };
        let shapes = (0..SERIES / self.points).map(|_| shape()).collect();
        Aggregator::new(shapes, self.lengths_ms).unwrap()
    }

    fn rows(&self, readings: &[Vec<i64>]) -> Vec<Vec<Row>> {
        let row = |second: usize, part: &[i64]| Row {
            due_ms: START_MS + second as i64 * 1_000,
            at_ms: START_MS + second as i64 * 1_000 + 40,
            values: part.iter().copied().map(Some).collect(),
            qualities: vec![0; part.len()],
        };
        let rows = readings.iter().enumerate();
        rows.map(|(second, all)| all.chunks(self.points).map(|it| row(second, it)).collect())
            .collect()
    }
}

/// Every tenth series counts, the others are the quantities of a moment.
fn readings(seed: u64) -> Vec<Vec<i64>> {
    let dice = &mut Dice(seed);
    let mut state: Vec<i64> = (0..SERIES).map(|_| 100_000 + dice.roll(100_000)).collect();
    let mut rows = Vec::with_capacity(SECONDS);
    for _ in 0..SECONDS {
        for (series, value) in state.iter_mut().enumerate() {
            *value += if series % 40 >= 36 {
                dice.roll(12)
            } else {
                dice.roll(401) - 200
            };
        }
        rows.push(state.clone());
    }
    rows
}

/// Best seconds of a push of all rows, and of pushing and cutting once in a minute.
fn best(case: &Case, readings: &[Vec<i64>]) -> (f64, f64) {
    let (mut push_s, mut whole_s) = (f64::MAX, f64::MAX);
    for _ in 0..REPEATS {
        let (mut aggregator, rows) = (case.aggregator(), case.rows(readings));
        let start = Instant::now();
        push(&mut aggregator, rows);
        push_s = push_s.min(start.elapsed().as_secs_f64());
        drop(black_box(aggregator));
        let (mut aggregator, rows) = (case.aggregator(), case.rows(readings));
        let start = Instant::now();
        let mut rows = rows.into_iter();
        for minute in 1_i64.. {
            let part: Vec<Vec<Row>> = rows.by_ref().take(60).collect();
            let is_last = part.is_empty();
            push(&mut aggregator, part);
            let now_ms = START_MS + minute * MINUTE_MS + if is_last { DAY_MS } else { 0 };
            while let Some(cut) = aggregator.cut(now_ms).unwrap() {
                black_box(&cut);
            }
            if is_last {
                break;
            }
        }
        whole_s = whole_s.min(start.elapsed().as_secs_f64());
    }
    (push_s, whole_s)
}

fn push(aggregator: &mut Aggregator, rows: Vec<Vec<Row>>) {
    for second in rows {
        for (group, row) in (0..).zip(second) {
            black_box(aggregator.push_row(group, row).unwrap());
        }
    }
}

fn word(name: &str) -> Option<String> {
    let mut words = env::args().skip_while(|word| word != name).skip(1);
    words.next()
}

fn main() {
    let seed = word("--seed").map_or(7, |it| it.parse().expect("--seed takes a number"));
    let readings = readings(seed);
    if let Some(folder) = word("--export").map(PathBuf::from) {
        let bytes = readings.iter().flatten().flat_map(|it| it.to_le_bytes());
        fs::write(folder.join("readings.i64"), bytes.collect::<Vec<u8>>()).unwrap();
    }
    let count = SERIES * SECONDS;
    for case in &CASES {
        let (push_s, whole_s) = best(case, &readings);
        println!(
            "{{\"case\":\"{}\",\"readings\":{count},\"series\":{SERIES},\"push_s\":{push_s},\"whole_s\":{whole_s}}}",
            case.name
        );
    }
}
