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
use std::time::{Duration, Instant};

use edgeagg_core::aggregator::{Aggregator, GroupShape};
use edgeagg_core::calendar::DAY_MS;
use edgeagg_core::demand::DemandShape;
use edgeagg_core::reading::RowView;
use edgeagg_core::totaliser::Guard;
use edgeagg_core::window::PointKind;

const SERIES: usize = 2_000;
const SECONDS: usize = 500;
const START_MS: i64 = 1_790_000_000_000;
const REPEATS: usize = 15;
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
    /// Points with the demand over 15 minutes, taken every minute.
    demands: usize,
    lengths_ms: &'static [i64],
}

const CASES: [Case; 9] = [
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
        sampled: 40,
        demands: 1,
        ..Case::of("60 s, all features", 4, &[MINUTE_MS])
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
            demands: 0,
            lengths_ms,
        }
    }

    fn aggregator(&self) -> Aggregator {
        let guard = Guard::new(Some(1_000_000_000), 40_000, 1).unwrap();
        let kinds: Vec<PointKind> = (0..self.points)
            .map(|point| {
                if point < self.points - self.guarded {
                    PointKind::Gauge
                } else {
                    PointKind::Guarded(guard)
                }
            })
            .collect();
        let sampled: Vec<usize> = (0..self.sampled).collect();
        let demand = DemandShape::new(15 * MINUTE_MS, MINUTE_MS).unwrap();
        let demands: Vec<_> = (0..self.demands).map(|point| (point, demand)).collect();
        let shape = || {
            let shape = GroupShape::new(1_000, kinds.clone()).unwrap();
            let shape = shape.with_statistics(&sampled).unwrap();
            shape.with_demands(&demands).unwrap()
        };
        let shapes = (0..SERIES / self.points).map(|_| shape()).collect();
        Aggregator::new(shapes, self.lengths_ms).unwrap()
    }

    /// Push what was read in some seconds; the same memory holds one row after the other.
    fn push(&self, aggregator: &mut Aggregator, first: usize, seconds: &[Vec<i64>]) {
        let (mut values, mut record) = (Vec::new(), Vec::new());
        let qualities = vec![0; self.points];
        for (second, all) in (first as i64..).zip(seconds) {
            for (group, part) in (0..).zip(all.chunks(self.points)) {
                values.clear();
                values.extend(part.iter().copied().map(Some));
                record.clear();
                let row = RowView {
                    due_ms: START_MS + second * 1_000,
                    at_ms: START_MS + second * 1_000 + 40,
                    values: &values,
                    qualities: &qualities,
                };
                aggregator.push_view(group, row, &mut record).unwrap();
                black_box(&record);
            }
        }
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

/// Seconds of pushing all rows, with the journal's records, and of the cuts that close windows and
/// take readings and windows out once in a minute. Windows are made in both: only the sum counts.
fn run(case: &Case, readings: &[Vec<i64>]) -> (f64, f64) {
    let mut aggregator = case.aggregator();
    let (mut pushing, mut cutting) = (Duration::ZERO, Duration::ZERO);
    for (minute, part) in readings.chunks(60).enumerate() {
        let start = Instant::now();
        case.push(&mut aggregator, minute * 60, part);
        pushing += start.elapsed();
        let start = Instant::now();
        cut(&mut aggregator, START_MS + (minute as i64 + 1) * MINUTE_MS);
        cutting += start.elapsed();
    }
    (pushing.as_secs_f64(), cutting.as_secs_f64())
}

fn cut(aggregator: &mut Aggregator, now_ms: i64) {
    while let Some(cut) = aggregator.cut(now_ms) {
        black_box(&cut);
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
    let only = word("--case");
    let asked = |case: &&Case| only.as_ref().is_none_or(|name| case.name == name);
    let cases: Vec<&Case> = CASES.iter().filter(asked).collect();
    let mut best = vec![(f64::MAX, f64::MAX); cases.len()];
    // in turn, so that whatever else the machine does falls upon all cases alike
    for _ in 0..REPEATS {
        for (case, best) in cases.iter().zip(&mut best) {
            let (push_s, cut_s) = run(case, &readings);
            *best = (best.0.min(push_s), best.1.min(cut_s));
        }
    }
    for (case, (push_s, cut_s)) in cases.iter().zip(best) {
        println!(
            "{{\"case\":\"{}\",\"readings\":{count},\"series\":{SERIES},\"push_s\":{push_s},\"cut_s\":{cut_s}}}",
            case.name
        );
    }
}
