//! Scans by example, and hostile replies with overflow checks on. What every type and factor means
//! is checked against plain fractions in `python/tests/test_core_decode.py`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::decode::{Coding, Factor, Part, PointPlan, Reply, ScanPlan, READS_MAX};
use edgeagg_core::error::Error;
use edgeagg_core::reading::{GOOD, IMPLAUSIBLE};

const TYPES: [&str; 23] = [
    "u8", "u16", "u24", "u32", "u48", "u64", "i8", "i16", "i32", "i64", "bcd16", "bcd32", "bcd48",
    "bcd64", "sbcd24", "sbcd64", "f32", "f64", "u8hi", "u8lo", "t5", "t6", "sm32",
];
const ORDERS: [&str; 4] = ["ABCD", "CDAB", "BADC", "DCBA"];

fn part(at: usize, code: &str, order: &str, factor: Factor) -> Part {
    let coding = Coding::new(code, order).unwrap();
    Part { at, coding, factor }
}

fn point(read: usize, part: Part) -> PointPlan {
    PointPlan {
        read,
        part,
        addend: 0,
        plus: None,
        invalid: Vec::new(),
        min: i64::MIN,
        max: i64::MAX,
        by_ratio: false,
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn whole(&mut self) -> i128 {
        let limb = |dice: &mut Dice| i128::from(dice.roll(1 << 31));
        let number = (0..4).fold(0_i128, |number, _| number << 31 | limb(self));
        number >> self.roll(124)
    }

    fn part(&mut self) -> Part {
        loop {
            let code = TYPES[self.roll(TYPES.len() as u64) as usize];
            let order = ORDERS[self.roll(4) as usize];
            let sign = 1 - 2 * i128::from(self.roll(2));
            let factor = Factor::new(sign * self.whole().max(1), self.whole().max(1)).unwrap();
            if let Ok(coding) = Coding::new(code, order) {
                let at = self.roll(9) as usize;
                return Part { at, coding, factor };
            }
        }
    }

    fn point(&mut self, reads: u64) -> PointPlan {
        let edges = [0, 0, 1, -1, i64::MIN, i64::MAX];
        PointPlan {
            addend: edges[self.roll(6) as usize],
            plus: (self.roll(3) == 0).then(|| self.part()),
            invalid: vec![0, u64::MAX],
            by_ratio: self.roll(4) == 0,
            ..point(self.roll(reads) as usize, self.part())
        }
    }
}

#[test]
fn a_scan_of_two_reads_gives_every_point_a_value_or_the_reason_of_its_read() {
    let tenths = Factor::new(10, 1).unwrap();
    let points = vec![
        point(0, part(0, "u16", "ABCD", tenths)),
        point(1, part(0, "i16", "ABCD", Factor::ONE)),
        point(0, part(2, "f32", "CDAB", tenths)),
    ];
    let plan = ScanPlan::new(2, points).unwrap();
    let first = Reply::Bytes(&[0x00, 0x05, 0x00, 0x00, 0x3f, 0xc0]);
    let (values, qualities) = plan.decode(&[first, Reply::Reason(3)], GOOD).unwrap();
    assert_eq!(values, [Some(50), None, Some(15)]);
    assert_eq!(qualities, [GOOD, 3, GOOD]);
}

#[test]
fn contents_that_mean_nothing_and_values_beyond_the_limits_are_implausible() {
    let coding = part(0, "u16", "ABCD", Factor::ONE);
    let with = |invalid: Vec<u64>, min, max| PointPlan {
        invalid,
        min,
        max,
        ..point(0, coding)
    };
    let points = vec![
        with(vec![0x8000, 7], i64::MIN, i64::MAX),
        with(vec![8], 7, 7),
        with(vec![], 8, i64::MAX),
        with(vec![], i64::MIN, 6),
    ];
    let plan = ScanPlan::new(1, points).unwrap();
    let (values, qualities) = plan.decode(&[Reply::Bytes(&[0, 7])], GOOD).unwrap();
    assert_eq!(values, [None, Some(7), None, None]);
    assert_eq!(qualities, [IMPLAUSIBLE, GOOD, IMPLAUSIBLE, IMPLAUSIBLE]);
}

#[test]
fn a_counter_that_a_meter_splits_is_added_up_exactly() {
    // 12 MWh and 345.6 kWh in steps of 0.1 kWh
    let megawatt_hours = part(0, "u16", "ABCD", Factor::new(10_000, 1).unwrap());
    let split = PointPlan {
        plus: Some(part(2, "u16", "ABCD", Factor::ONE)),
        ..point(0, megawatt_hours)
    };
    let plan = ScanPlan::new(1, vec![split]).unwrap();
    let reply = Reply::Bytes(&[0, 12, 0x0d, 0x80]);
    assert_eq!(plan.decode(&[reply], GOOD).unwrap().0, [Some(123_456)]);
}

#[test]
fn no_reply_however_hostile_breaks_the_decoder() {
    let mut dice = Dice(0x005e_ed0f_a11b_ad00);
    for round in 0..4_000 {
        let points = (0..8).map(|_| dice.point(2)).collect();
        let plan = ScanPlan::new(2, points).unwrap();
        let replies: Vec<Vec<u8>> = (0..2)
            .map(|_| {
                let fill = [0x00, 0xff, 0x80, 0x7f][dice.roll(4) as usize];
                (0..dice.roll(24))
                    .map(|_| match dice.roll(3) {
                        0 => fill,
                        _ => dice.roll(256) as u8,
                    })
                    .collect()
            })
            .collect();
        let replies: Vec<Reply<'_>> = replies.iter().map(|it| Reply::Bytes(it)).collect();
        match plan.decode(&replies, GOOD) {
            Ok((values, qualities)) => {
                for (value, quality) in values.iter().zip(qualities) {
                    assert_eq!(value.is_some(), quality == GOOD, "round {round}");
                }
            }
            Err(error) => assert!(matches!(error, Error::ShortReply { .. }), "round {round}"),
        }
    }
}

#[test]
fn a_scan_has_no_more_reads_than_the_limit() {
    let plan = |reads| {
        let first = point(0, part(0, "u16", "ABCD", Factor::ONE));
        ScanPlan::new(reads, vec![first]).is_ok()
    };
    assert!(plan(READS_MAX));
    assert!(!plan(READS_MAX + 1));
    assert!(!plan(0));
}
