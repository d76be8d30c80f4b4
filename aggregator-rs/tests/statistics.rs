//! Deviations and quantiles by example, against naive ones, and as a payload delivers them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::aggregator::{Aggregator, Cut, GroupShape};
use edgeagg_core::codec::decode;
use edgeagg_core::moments::Moments;
use edgeagg_core::quantile::{Sample, VALUES_MAX};
use edgeagg_core::reading::Row;
use edgeagg_core::table::{Table, TableKind, STATISTICS_COLUMNS};
use edgeagg_core::varint::{write_i128, write_i64, write_u64, Reader};
use edgeagg_core::window::PointKind::Gauge;

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

fn moments(held: &[(i64, i64)]) -> Moments {
    let mut moments = Moments::default();
    for &(value, span_ms) in held {
        moments.hold(value, span_ms);
    }
    moments
}

#[test]
fn the_deviation_is_that_of_a_school_book() {
    // 2 4 4 4 5 5 7 9 have the mean 5 and the deviation 2
    let book = moments(&[2, 4, 4, 4, 5, 5, 7, 9].map(|value| (value, 1_000)));
    assert_eq!(book.deviation(), Some(2_000));
    // 0 for one second and 10 for three: mean 7.5, deviation sqrt(18.75) = 4.3301...
    let uneven = moments(&[(0, 1_000), (10, 3_000)]);
    assert_eq!(uneven.deviation(), Some(4_330));
    assert_eq!(moments(&[(-7, 5)]).deviation(), Some(0));
    assert_eq!(Moments::default().deviation(), None);
}

#[test]
fn the_deviation_is_exact_where_floats_give_up() {
    // two neighbours far from zero: deviation 1/2
    let far = 1_000_000_000_000_000_000;
    let pair = moments(&[(far, 900_000), (far + 1, 900_000)]);
    assert_eq!(pair.deviation(), Some(500));
    // from one end of 64 bits to the other
    let ends = moments(&[(i64::MIN, 1 << 31), (i64::MAX, 1 << 31)]);
    assert_eq!(ends.deviation(), None, "three more decimals leave 64 bits");
    let wide = moments(&[(-(1 << 52), 1 << 31), (1 << 52, 1 << 31)]);
    assert_eq!(wide.deviation(), Some(1_000 << 52));
}

#[test]
fn the_deviation_is_rounded_to_nearest_with_halves_to_even() {
    // 0 for x and 1 for y ms: sqrt(x y) / (x + y), here 0.4330127 and 0.4714045
    assert_eq!(moments(&[(0, 3), (1, 1)]).deviation(), Some(433));
    assert_eq!(moments(&[(0, 1), (1, 2)]).deviation(), Some(471));
    // 32000^2 x variance is (16 x 1057)^2 and (16 x 1307)^2: 528.5 and 653.5
    let down = moments(&[(0, 16_453), (1, 15_078), (2, 469)]);
    let up = moments(&[(0, 18_817), (1, 10_350), (2, 2_833)]);
    assert_eq!((down.deviation(), up.deviation()), (Some(528), Some(654)));
}

/// The rounded root of `1000^2 variance`, by trying.
fn naive_deviation(held: &[(i64, i64)]) -> i64 {
    let time: i128 = held.iter().map(|it| i128::from(it.1)).sum();
    let sum: i128 = held.iter().map(|it| i128::from(it.0 * it.1)).sum();
    let square = |it: &(i64, i64)| i128::from(it.0) * i128::from(it.0) * i128::from(it.1);
    let squares: i128 = held.iter().map(square).sum();
    // 4 x 10^6 x variance x T^2, against the square of (2 r + 1) T
    let spread = 4_000_000 * (time * squares - sum * sum);
    let mut root = 0_i128;
    while ((2 * root + 1) * time).pow(2) < spread {
        root += 1;
    }
    let is_half = ((2 * root + 1) * time).pow(2) == spread;
    (root + i128::from(is_half && root % 2 == 1)) as i64
}

#[test]
fn random_deviations_are_those_of_trying_every_root() {
    for seed in 1..=500 {
        let dice = &mut Dice(seed);
        let held: Vec<(i64, i64)> = (0..=dice.roll(9))
            .map(|_| (dice.roll(60) - 30, 1 + dice.roll(5)))
            .collect();
        let found = moments(&held).deviation().unwrap();
        assert_eq!(found, naive_deviation(&held), "seed {seed}: {held:?}");
    }
}

#[test]
fn a_quantile_is_a_value_that_was_read() {
    let mut sample = Sample::default();
    for value in (1..=100).rev() {
        sample.push(value);
    }
    assert_eq!(
        sample.quantiles((1, 100), [1, 50, 95, 100]),
        [Some(1), Some(50), Some(95), Some(100)]
    );
    sample.push(-7);
    assert_eq!(sample.quantiles((-7, 100), [50, 95]), [Some(50), Some(95)]);
    let mut one = Sample::default();
    assert_eq!(one.quantiles((0, 0), [50, 95]), [None, None]);
    one.push(42);
    assert_eq!(one.quantiles((42, 42), [1, 100]), [Some(42), Some(42)]);
}

#[test]
fn quantiles_are_those_of_the_sorted_values_however_many_and_wide() {
    let counts = [1, 2, 31, 32, 33, 127, 128, 129, 1_000, 40_000, VALUES_MAX];
    let widths = [0, 1, 7, 14, 15, 16, 31, 47, 62];
    for (seed, count) in (1..).zip(counts) {
        for width in widths {
            let dice = &mut Dice(seed);
            let lowest = -(1_i64 << width) / 3;
            let roll = |_| lowest + (dice.roll(1 << 31) << 31 | dice.roll(1 << 31)) % (1 << width);
            let mut values: Vec<i64> = (0..count).map(roll).collect();
            let mut sample = Sample::default();
            sample.extend(values.iter().copied());
            values.sort_unstable();
            let percents = [1, 50, 95, 100];
            let expected = percents.map(|it| Some(values[(count * it).div_ceil(100) - 1]));
            let ends = (values[0], values[count - 1]);
            let found = sample.quantiles(ends, percents);
            assert_eq!(found, expected, "{count} values of {width} bits");
        }
    }
    let mut ends = Sample::default();
    ends.extend([i64::MAX, 0, i64::MIN].into_iter());
    let found = ends.quantiles((i64::MIN, i64::MAX), [1, 50, 100]);
    assert_eq!(found, [Some(i64::MIN), Some(0), Some(i64::MAX)]);
}

#[test]
fn too_many_values_have_no_quantile() {
    let mut sample = Sample::default();
    for _ in 0..VALUES_MAX {
        sample.push(3);
    }
    assert_eq!(sample.quantiles((3, 3), [50]), [Some(3)]);
    sample.push(3);
    assert_eq!(sample.quantiles((3, 3), [50]), [None]);
    sample.push(3);
    assert_eq!(
        sample.quantiles((3, 3), [50]),
        [None],
        "once too many, always too many"
    );
}

#[test]
fn a_sample_survives_its_snapshot() {
    let mut sample = Sample::default();
    for value in [5, i64::MIN, i64::MAX, -1] {
        sample.push(value);
    }
    let mut out = Vec::new();
    sample.save(&mut out);
    assert_eq!(Sample::load(&mut Reader::new(&out)).unwrap(), sample);
    for cut in 0..out.len() {
        assert!(Sample::load(&mut Reader::new(&out[..cut])).is_err());
    }
}

#[test]
fn sums_that_no_values_have_are_refused() {
    for (covered_ms, sum, squares) in [
        (-1, 0, 0),
        (1 << 54, 0, 0),
        (1, i128::MAX, u64::MAX),
        (2, 6, 17), // the squares of two numbers that make 6 are 18 at least
    ] {
        let mut out = Vec::new();
        write_i64(&mut out, covered_ms);
        write_i128(&mut out, sum);
        for part in [0, 0, 0, squares] {
            write_u64(&mut out, part);
        }
        assert!(Moments::load(&mut Reader::new(&out)).is_err(), "{sum}");
    }
}

#[test]
fn more_time_than_the_sums_hold_is_not_added() {
    let long = moments(&[(i64::MIN, 1 << 53)]);
    let longer = moments(&[(i64::MIN, 1 << 53), (5, 1)]);
    assert_eq!(long, longer);
    assert_eq!(long.deviation(), Some(0));
}

#[test]
fn merged_statistics_are_those_of_the_whole() {
    for seed in 1..=300 {
        let dice = &mut Dice(seed);
        // from a few to all 64 bits
        let shift = dice.roll(60);
        let held: Vec<(i64, i64)> = (0..=dice.roll(40))
            .map(|_| (dice.roll(1 << 20) << shift, 1 + dice.roll(900_000)))
            .collect();
        let (early, late) = held.split_at(dice.roll(held.len() as u64 + 1) as usize);
        let mut merged = moments(early);
        merged.merge(&moments(late));
        assert_eq!(merged, moments(&held), "seed {seed}");
        let sample = |held: &[(i64, i64)]| {
            let mut sample = Sample::default();
            for (value, _) in held {
                sample.push(*value);
            }
            sample
        };
        let mut merged = sample(early);
        merged.merge(&sample(late));
        assert_eq!(merged, sample(&held), "seed {seed}");
    }
}

#[test]
fn too_many_values_together_have_no_quantile() {
    let mut half = Sample::default();
    (0..VALUES_MAX / 2).for_each(|_| half.push(3));
    let mut whole = half.clone();
    whole.merge(&half);
    assert_eq!(whole.quantiles((3, 3), [50]), [Some(3)]);
    whole.merge(&half);
    assert_eq!(whole.quantiles((3, 3), [50]), [None]);
    half.merge(&whole);
    assert_eq!(half.quantiles((3, 3), [50]), [None]);
}

/// Read every second and cut once; return the rows of the table of statistics.
fn delivered(aggregator: &mut Aggregator) -> Vec<Vec<i64>> {
    for (second, value) in (0..).zip([2, 4, 4, 4, 5, 5, 7, 9, 100, 100]) {
        let row = Row {
            due_ms: second * 1_000,
            at_ms: second * 1_000,
            values: vec![Some(0), Some(value)],
            qualities: vec![0, 0],
        };
        aggregator.push_row(0, row).unwrap();
    }
    let cut = aggregator.cut(60_000).unwrap();
    let tables = decoded(&cut);
    let is_one = |kind| kind == TableKind::Statistics;
    let Some(table) = tables.iter().find(|table| is_one(table.kind())) else {
        return Vec::new();
    };
    assert_eq!(table.columns().len(), 2 + STATISTICS_COLUMNS);
    let cell = |row: usize| table.columns().iter().map(move |it| it[row].unwrap());
    (0..table.rows()).map(|row| cell(row).collect()).collect()
}

#[test]
fn a_point_has_statistics_where_they_are_asked_for() {
    let shape = || GroupShape::new(1_000, vec![Gauge, Gauge]).unwrap();
    let asked = shape().with_statistics(&[1]).unwrap();
    let mut aggregator = Aggregator::new(vec![asked], &[8_000]).unwrap();
    // deviation of the school book; of the last two nothing varies
    assert_eq!(
        delivered(&mut aggregator),
        [[0, 8_000, 2_000, 4, 9], [8_000, 8_000, 0, 100, 100],]
    );
    let mut aggregator = Aggregator::new(vec![shape()], &[8_000]).unwrap();
    assert!(delivered(&mut aggregator).is_empty());
    assert!(shape().with_statistics(&[2]).is_err());
}

fn decoded(cut: &Cut) -> Vec<Table> {
    let (codec, payload) = cut.encode().unwrap();
    decode(codec, &payload).unwrap()
}
