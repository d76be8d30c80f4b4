//! Demand by example, against what a meter keeps itself, against a naive list of periods, and
//! against the windows over the same time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use edgeagg_core::aggregator::{Aggregator, GroupShape};
use edgeagg_core::calendar::Calendar;
use edgeagg_core::codec::{decode, CODEC_DELTA};
use edgeagg_core::demand::{DemandShape, EnergyDemand, Period, PowerDemand};
use edgeagg_core::reading::Row;
use edgeagg_core::table::{TableKind, DEMAND_COLUMNS};
use edgeagg_core::totaliser::{Guard, Step};
use edgeagg_core::window::PointKind::{self, Gauge, Guarded, Totaliser};

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const PERIOD_MS: i64 = 15 * MINUTE_MS;
const BRIDGE_MS: i64 = 3 * MINUTE_MS;
const HOLD_MS: i64 = 2 * MINUTE_MS;
const SLIPS_MS: [i64; 4] = [MINUTE_MS, 3 * MINUTE_MS, 5 * MINUTE_MS, PERIOD_MS];
const PERIODS_MS: [i64; 3] = [PERIOD_MS, 2 * PERIOD_MS, 4 * PERIOD_MS];
const HISTORIES: u64 = 300;

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

fn shape(slip_ms: i64) -> DemandShape {
    DemandShape::new(PERIOD_MS, slip_ms).unwrap()
}

fn row(at_ms: i64, values: Vec<Option<i64>>) -> Row {
    let qualities = values.iter().map(|it| u8::from(it.is_none())).collect();
    Row {
        due_ms: at_ms,
        at_ms,
        values,
        qualities,
    }
}

/// A group of one point in UTC, read every minute, with its demand.
fn metered(kind: PointKind, demand: DemandShape) -> Aggregator {
    let group = GroupShape::new(MINUTE_MS, vec![kind]).unwrap();
    let group = group.with_demands(&[(0, demand)]).unwrap();
    let utc = Calendar::new(&[(0, 0)]).unwrap();
    Aggregator::with_calendar(vec![group], &[PERIOD_MS], utc).unwrap()
}

/// The rows of a kind of table in everything that can be cut.
fn cut_rows(aggregator: &mut Aggregator, now_ms: i64, kind: TableKind) -> Vec<Vec<Option<i64>>> {
    let mut rows = Vec::new();
    while let Some(cut) = aggregator.cut(now_ms) {
        let payload = cut.encode_as(CODEC_DELTA).unwrap();
        for table in decode(CODEC_DELTA, &payload).unwrap() {
            let columns = table.columns();
            let row = |at: usize| columns.iter().map(|column| column[at]).collect();
            if table.kind() == kind {
                rows.extend((0..table.rows()).map(row));
            }
        }
    }
    rows
}

/// A day's row without point, start and length.
fn demands(aggregator: &mut Aggregator, now_ms: i64) -> Vec<[Option<i64>; 5]> {
    let rows = cut_rows(aggregator, now_ms, TableKind::Demands);
    let cells = |row: &Vec<Option<i64>>| [row[3], row[4], row[5], row[6], row[7]];
    rows.iter().map(cells).collect()
}

#[test]
fn a_peak_across_two_blocks_is_seen_by_sliding_demand_only() {
    // 1 Wh a minute, but 100 Wh a minute from minute 10 to minute 20
    let energy = |minute: i64| minute + 99 * (minute - 10).clamp(0, 10);
    for (slip_ms, sliding, end_min) in [
        (MINUTE_MS, 1_005, 20),
        (3 * MINUTE_MS, 1_005, 21),
        (5 * MINUTE_MS, 1_005, 20),
        (PERIOD_MS, 510, 15),
    ] {
        let mut aggregator = metered(Totaliser, shape(slip_ms));
        for minute in 0..=45 {
            let row = row(minute * MINUTE_MS, vec![Some(energy(minute))]);
            aggregator.push_row(0, row).unwrap();
        }
        // 510 Wh in 15 minutes are 2040 W
        let expected = [2_040, 15 * MINUTE_MS, 4 * sliding, end_min * MINUTE_MS, 3];
        let found = cut_rows(&mut aggregator, 2 * DAY_MS, TableKind::Demands);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].len(), DEMAND_COLUMNS);
        assert_eq!(found[0][..3], [0, 0, DAY_MS].map(Some));
        assert_eq!(found[0][3..], expected.map(Some), "slip {slip_ms}");
    }
}

#[test]
fn a_power_gauge_gives_the_mean_of_what_was_held() {
    for (minutes, block, end_min) in [(30, 900_000, 30), (15, 610_000, 15)] {
        let mut aggregator = metered(Gauge, shape(5 * MINUTE_MS));
        // 600 W, from 14 min 30 s on 900 W: (600 x 870 + 900 x 30) / 900
        for second in (0..=minutes * 60).step_by(30) {
            let power = if second < 870 { 600 } else { 900 };
            let row = row(second * SECOND_MS, vec![Some(power)]);
            aggregator.push_row(0, row).unwrap();
        }
        let end_ms = end_min * MINUTE_MS;
        let expected = [block, end_ms, block, end_ms, minutes / 15];
        let found = demands(&mut aggregator, 2 * DAY_MS);
        assert_eq!(found, [expected.map(Some)]);
    }
}

#[test]
fn a_period_with_a_hole_has_no_demand_from_a_gauge() {
    let mut demand = PowerDemand::new(shape(PERIOD_MS), HOLD_MS);
    let mut ended = Vec::new();
    for minute in (0..20).chain(23..=60) {
        demand.push(minute * MINUTE_MS, Some(minute / 15), &mut ended);
    }
    demand.push(61 * MINUTE_MS, None, &mut ended);
    for minute in 62..=90 {
        demand.push(minute * MINUTE_MS, Some(9), &mut ended);
    }
    // minutes 15 to 30 hold nothing from 21 to 23, 60 to 75 nothing from 61 to 62
    let known = [(0, 15), (2, 45), (3, 60), (9, 90)].map(|(power, end_min)| Period {
        amount: i128::from(power * PERIOD_MS),
        end_ms: end_min * MINUTE_MS,
    });
    assert_eq!(ended, known);
}

#[test]
fn a_value_stands_to_the_moment_of_the_next_one() {
    let mut demand = PowerDemand::new(shape(MINUTE_MS), HOLD_MS);
    let mut ended = Vec::new();
    for minute in (0..=30).step_by(2) {
        demand.push(minute * MINUTE_MS, Some(6), &mut ended);
    }
    let ends: Vec<i64> = ended.iter().map(|it| it.end_ms / MINUTE_MS).collect();
    assert_eq!(ends, (15..=30).collect::<Vec<i64>>());
}

/// A meter as it is built: an energy counter of 1 Wh, a demand register that ends its period after
/// every slip and shows kW with four decimals; and the totaliser it shows us, also of 1 Wh.
#[test]
fn the_maximum_demand_register_of_a_meter_is_reproduced_with_its_time() {
    for (slip_ms, seed) in SLIPS_MS
        .into_iter()
        .flat_map(|slip| (1..=8).map(move |it| (slip, it)))
    {
        for period_ms in PERIODS_MS {
            let dice = &mut Dice(seed);
            let slip_s = slip_ms / SECOND_MS;
            let demand = DemandShape::new(period_ms, slip_ms).unwrap();
            let mut aggregator = metered(Totaliser, demand);
            let ends = (period_ms / slip_ms) as usize;
            let (mut energy_wh, mut pulse_mj, mut power_w) = (dice.roll(1 << 30), 0, 0);
            let mut at_slips = vec![energy_wh];
            let mut register = (0, 0); // 0.0001 kW, and the second at which the period ended
            aggregator
                .push_row(0, row(0, vec![Some(energy_wh)]))
                .unwrap();
            for second in 1..=4 * 3_600 {
                if dice.roll(600) == 0 {
                    power_w = dice.roll(2_000_000);
                }
                pulse_mj += power_w;
                energy_wh += pulse_mj / 3_600;
                pulse_mj %= 3_600;
                if second % slip_s == 0 {
                    at_slips.push(energy_wh);
                    if at_slips.len() > ends {
                        let energy = energy_wh - at_slips[at_slips.len() - 1 - ends];
                        let shown = energy * (HOUR_MS / period_ms) * 10;
                        if shown > register.0 {
                            register = (shown, second);
                        }
                    }
                }
                if second % 20 == 0 {
                    let row = row(second * SECOND_MS, vec![Some(energy_wh)]);
                    aggregator.push_row(0, row).unwrap();
                }
            }
            let [_, _, power_w, end_ms, _] = demands(&mut aggregator, 2 * DAY_MS)[0];
            // 1 W is ten steps of the register
            assert_eq!(
                (power_w.unwrap() * 10, end_ms.unwrap()),
                (register.0, register.1 * SECOND_MS),
                "slip {slip_ms} ms, period {period_ms} ms, seed {seed}"
            );
        }
    }
}

#[test]
fn between_two_readings_demand_is_off_by_no_more_than_their_resolution() {
    // the same energy, read 7 s beside the slips with a resolution of 0.01 kWh: at constant power
    // each of the two ends is off by at most one step
    for power_w in [100, 2_345, 1_999_999] {
        let mut aggregator = metered(Totaliser, shape(MINUTE_MS));
        for second in (7..7_200).step_by(20) {
            let row = row(second * SECOND_MS, vec![Some(power_w * second / 36_000)]);
            aggregator.push_row(0, row).unwrap();
        }
        let found = demands(&mut aggregator, 2 * DAY_MS)[0][2].unwrap() * 10;
        assert!((found - power_w).abs() <= 80, "{found} W, not {power_w} W");
    }
}

#[test]
fn the_longest_silence_that_is_bridged_is_just_as_long() {
    for (silence_ms, known) in [(BRIDGE_MS, 1), (BRIDGE_MS + 1, 0)] {
        let mut aggregator = metered(Totaliser, shape(PERIOD_MS));
        let last_ms = PERIOD_MS + 1;
        for at_ms in [0, MINUTE_MS, last_ms - silence_ms, last_ms] {
            let row = row(at_ms, vec![Some(30 * i64::from(at_ms > MINUTE_MS))]);
            aggregator.push_row(0, row).unwrap();
        }
        let found = demands(&mut aggregator, 2 * DAY_MS)[0];
        assert_eq!(
            (found[0], found[4]),
            ((known > 0).then_some(120), Some(known))
        );
    }
}

/// Readings of a totaliser about every 40 s: jitter, silences, falls; times always go on.
fn readings(dice: &mut Dice) -> Vec<(i64, i64)> {
    let mut at_ms = dice.roll(1 << 30) / SECOND_MS * SECOND_MS;
    let mut total = dice.roll(1 << 20);
    let mut found = Vec::new();
    for _ in 0..dice.roll(200) {
        found.push((at_ms, total));
        at_ms += match dice.roll(20) {
            0 => SECOND_MS * (1 + dice.roll(1_200)),
            1 => MINUTE_MS - at_ms % MINUTE_MS,
            _ => SECOND_MS * (20 + dice.roll(40)),
        };
        total = match dice.roll(40) {
            0 => dice.roll(1 << 20),
            _ => total + dice.roll(1_000),
        };
    }
    found
}

fn step(from: (i64, i64), to: (i64, i64)) -> Step {
    Step {
        from_ms: from.0,
        from: from.1,
        to_ms: to.0,
        to: to.1,
        placed: to.0.saturating_sub(from.0) <= BRIDGE_MS,
    }
}

fn naive_total(readings: &[(i64, i64)], ms: i64) -> Option<i64> {
    readings.windows(2).find_map(|pair| {
        let [(from_ms, from), (to_ms, to)] = [pair[0], pair[1]];
        let is_near = to_ms - from_ms <= BRIDGE_MS && to >= from;
        (is_near && from_ms <= ms && ms <= to_ms).then(|| {
            let (share, span) = ((to - from) * (ms - from_ms), to_ms - from_ms);
            let (whole, twice) = (share / span, share % span * 2);
            from + whole + i64::from(twice > span || (twice == span && whole % 2 == 1))
        })
    })
}

/// Every period that ends while these readings come, with its energy.
fn naive_periods(readings: &[(i64, i64)], slip_ms: i64) -> Vec<Period> {
    let (Some(first), Some(last)) = (readings.first(), readings.last()) else {
        return Vec::new();
    };
    let starts = first.0 / slip_ms..=last.0 / slip_ms;
    let periods = starts.map(|number| (number * slip_ms, number * slip_ms + PERIOD_MS));
    periods
        .filter_map(|(start_ms, end_ms)| {
            let fell = readings
                .windows(2)
                .any(|pair| pair[1].1 < pair[0].1 && start_ms <= pair[1].0 && end_ms > pair[0].0);
            let ends = naive_total(readings, start_ms).zip(naive_total(readings, end_ms));
            let (opening, closing) = ends.filter(|_| !fell)?;
            let amount = i128::from(closing - opening);
            Some(Period { amount, end_ms })
        })
        .collect()
}

#[test]
fn every_period_is_that_of_a_naive_list_through_silences_and_falls() {
    let mut known = 0;
    for seed in 1..=HISTORIES {
        let readings = readings(&mut Dice(seed));
        for slip_ms in SLIPS_MS {
            let mut demand = EnergyDemand::new(shape(slip_ms));
            let mut ended = Vec::new();
            for pair in readings.windows(2) {
                demand.push(&step(pair[0], pair[1]), &mut ended);
            }
            let naive = naive_periods(&readings, slip_ms);
            known += ended.len();
            assert_eq!(ended, naive, "seed {seed}, slip {slip_ms}");
        }
    }
    assert!(known > 5_000, "only {known} periods were known");
}

/// A gauge, a totaliser and a guarded one, read about every 40 s by a clock that is set back now
/// and then, cut now and then.
fn hostile_rows(dice: &mut Dice) -> Vec<(Row, Option<i64>)> {
    let mut due_ms = 0;
    let mut rows = Vec::new();
    for (at_ms, total) in readings(dice) {
        due_ms += MINUTE_MS;
        let back_ms = if dice.roll(30) == 0 {
            dice.roll(900_000)
        } else {
            0
        };
        let values = [total - 500_000, total, total];
        let told = values.map(|value| (dice.roll(50) > 0).then_some(value));
        let row = Row {
            due_ms,
            ..row(at_ms - back_ms, told.to_vec())
        };
        let cut_ms = (dice.roll(9) == 0).then(|| at_ms + dice.roll(2) * DAY_MS);
        rows.push((row, cut_ms));
    }
    rows
}

fn hostile_aggregator(demand: DemandShape) -> Aggregator {
    let guard = Guard::new(Some(1 << 20), 100_000, 1).unwrap();
    let group = GroupShape::new(MINUTE_MS, vec![Gauge, Totaliser, Guarded(guard)]).unwrap();
    let asked = [2, 0, 1].map(|point| (point, demand));
    let group = group.with_demands(&asked).unwrap();
    Aggregator::new(vec![group], &[PERIOD_MS]).unwrap()
}

#[test]
fn the_highest_block_is_never_above_the_highest_sliding_demand() {
    let mut days = 0;
    for seed in 1..=HISTORIES {
        let rows = hostile_rows(&mut Dice(seed));
        for slip_ms in SLIPS_MS {
            let mut aggregator = hostile_aggregator(shape(slip_ms));
            for (row, _) in &rows {
                aggregator.push_row(0, row.clone()).unwrap();
            }
            for day in cut_rows(&mut aggregator, i64::MAX / 2, TableKind::Demands) {
                let (block, sliding, blocks) = (day[3], day[5], day[7].unwrap());
                assert!(block <= sliding, "seed {seed}: {day:?}");
                assert_eq!(block.is_some(), blocks > 0, "seed {seed}: {day:?}");
                assert!(slip_ms < PERIOD_MS || day[3..5] == day[5..7]);
                assert!(
                    day[0] == Some(0) || sliding >= sliding.map(|_| 0),
                    "{day:?}"
                );
                days += usize::from(block.is_some());
            }
        }
    }
    assert!(days > 500, "only {days} days had a block");
}

#[test]
fn a_kill_at_any_time_changes_no_payload() {
    let mut days = 0;
    for seed in 1..=HISTORIES {
        let dice = &mut Dice(seed);
        let rows = hostile_rows(dice);
        let demand = shape(SLIPS_MS[dice.roll(4) as usize]);
        let mut payloads = [Vec::new(), Vec::new()];
        let mut whole = hostile_aggregator(demand);
        let mut killed = hostile_aggregator(demand);
        let (mut snapshot, mut journal) = (killed.snapshot().unwrap(), Vec::new());
        for (row, cut_ms) in rows {
            whole.push_row(0, row.clone()).unwrap();
            journal.push(killed.push_row(0, row).unwrap());
            if let Some(cut_ms) = cut_ms {
                for (one, payloads) in [&mut whole, &mut killed].into_iter().zip(&mut payloads) {
                    while let Some(cut) = one.cut(cut_ms) {
                        payloads.push(cut.encode_as(CODEC_DELTA).unwrap());
                    }
                }
                journal.clear();
                snapshot = killed.snapshot().unwrap();
                assert_eq!(snapshot, whole.snapshot().unwrap(), "seed {seed}");
            }
            if dice.roll(7) == 0 {
                killed = hostile_aggregator(demand);
                killed.restore(&snapshot).unwrap();
                for record in &journal {
                    killed.replay(record).unwrap();
                }
            }
        }
        assert_eq!(payloads[0], payloads[1], "seed {seed}");
        let rest = [&mut whole, &mut killed].map(|it| it.cut(i64::MAX / 2));
        assert_eq!(rest[0], rest[1], "seed {seed}");
        let tables = payloads[0]
            .iter()
            .flat_map(|it| decode(CODEC_DELTA, it).unwrap());
        days += tables.filter(|it| it.kind() == TableKind::Demands).count();
    }
    assert!(days > 100, "only {days} tables of demands before the end");
}

#[test]
fn block_demand_is_what_the_window_over_the_same_time_says() {
    let mut some = [0, 0];
    for seed in 1..=HISTORIES {
        let readings = readings(&mut Dice(seed));
        let group = GroupShape::new(MINUTE_MS, vec![Totaliser, Gauge]).unwrap();
        let mut aggregator = Aggregator::new(vec![group], &[PERIOD_MS]).unwrap();
        let mut energy = EnergyDemand::new(shape(MINUTE_MS));
        let mut power = PowerDemand::new(shape(MINUTE_MS), HOLD_MS);
        let mut ended = [Vec::new(), Vec::new()];
        for &(at_ms, total) in &readings {
            let row = row(at_ms, vec![Some(total), Some(total)]);
            aggregator.push_row(0, row).unwrap();
            power.push(at_ms, Some(total), &mut ended[1]);
        }
        power.pass(i64::MAX, &mut ended[1]);
        for pair in readings.windows(2) {
            energy.push(&step(pair[0], pair[1]), &mut ended[0]);
        }
        let windows = cut_rows(&mut aggregator, i64::MAX / 2, TableKind::Windows);
        for window in windows {
            let end_ms = window[0].unwrap() + PERIOD_MS;
            let found = [0, 1].map(|course: usize| {
                let of_window = |period: &&Period| period.end_ms == end_ms;
                ended[course].iter().find(of_window).map(|it| it.amount)
            });
            let mean = window[15].filter(|_| window[19] == Some(PERIOD_MS));
            let means = found[1].and_then(|it| shape(MINUTE_MS).power_of_integral(it));
            assert_eq!(found[0], window[8].map(i128::from), "seed {seed}");
            assert_eq!(means, mean, "seed {seed}");
            some[0] += usize::from(found[0].is_some());
            some[1] += usize::from(mean.is_some());
        }
    }
    assert!(some[0] > 300 && some[1] > 100, "only {some:?} windows");
}
