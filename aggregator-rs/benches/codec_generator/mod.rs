//! Meters that do not exist: seeded readings whose steps are as large, as noisy and as related to
//! each other as those of recorded ones (bits per reading of each kind of quantity).
//!
//! Integers and exact f64 arithmetic only, so that a seed gives the same readings everywhere.

use super::{Column, Table, TableKind, WINDOW_COLUMNS};

/// A small generator of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Numbers of a seed.
    pub(super) fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal, of this deviation.
    fn noise(&mut self, deviation: f64) -> f64 {
        let sum: f64 = (0..6).map(|_| self.share()).sum();
        (sum - 3.0) * std::f64::consts::SQRT_2 * deviation
    }
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meter {
    /// A three-phase meter with 44 points, every 22 s.
    ThreePhase,
    /// Twelve noisy points, every second.
    Fast,
    /// A house: power, voltage, current, three sub-meters, every minute.
    House,
    /// A plug: power in steps, and its counter, every second.
    Plug,
    /// One counter, every minute.
    Counter,
    /// A plant: energies and power factors, every 15 minutes.
    Plant,
}

/// All of them.
pub(super) const METERS: [Meter; 6] = [
    Meter::ThreePhase,
    Meter::Fast,
    Meter::House,
    Meter::Plug,
    Meter::Counter,
    Meter::Plant,
];

impl Meter {
    /// Milliseconds from slot to slot.
    pub(super) fn period_ms(self) -> i64 {
        match self {
            Meter::ThreePhase => 22_000,
            Meter::Fast | Meter::Plug => 1000,
            Meter::House | Meter::Counter => 60_000,
            Meter::Plant => 900_000,
        }
    }
}

/// A load that moves: slowly, in steps, and with noise.
#[derive(Clone, Debug)]
struct Load {
    level: f64,
    base: f64,
    drift: f64,
    step: f64,
    chance: f64,
}

impl Load {
    fn next(&mut self, random: &mut Random) -> f64 {
        if random.share() < self.chance {
            self.base = (self.base + random.noise(self.step)).max(self.step * 0.2);
        }
        self.level += (self.base - self.level) * 0.3 + random.noise(self.drift);
        self.level = self.level.max(0.0);
        self.level
    }
}

/// The rows of a meter, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Readings {
    meter: Meter,
    random: Random,
    loads: Vec<Load>,
    levels: Vec<f64>,
    counters: Vec<f64>,
    demands: [f64; 6],
}

impl Readings {
    /// A meter of its own per seed.
    pub(super) fn new(meter: Meter, seed: u64) -> Readings {
        let mut random = Random::new(seed);
        let loads = (0..12)
            .map(|_| {
                let base = 20.0 + 180.0 * random.share();
                Load {
                    level: base,
                    base,
                    drift: base * (0.002 + 0.01 * random.share()),
                    step: base * 0.4,
                    chance: 0.01 + 0.04 * random.share(),
                }
            })
            .collect();
        let levels = (0..16).map(|_| random.share()).collect();
        let counters = (0..6).map(|_| (random.share() * 3e6).floor()).collect();
        Readings {
            meter,
            random,
            loads,
            levels,
            counters,
            demands: [80.0; 6],
        }
    }

    /// Scaled integers of the next row.
    pub(super) fn row(&mut self) -> Vec<i64> {
        let loads: Vec<f64> = (self.loads.iter_mut())
            .map(|load| load.next(&mut self.random))
            .collect();
        let row = match self.meter {
            Meter::ThreePhase => self.three_phase(&loads),
            Meter::Fast => self.fast(&loads),
            Meter::House => self.house(&loads),
            Meter::Plug => self.plug(),
            Meter::Counter => self.counter(&loads),
            Meter::Plant => self.plant(&loads),
        };
        row.iter().map(|value| value.round() as i64).collect()
    }

    fn wander(&mut self, at: usize, deviation: f64) -> f64 {
        let step = self.random.noise(deviation);
        self.levels[at] = self.levels[at] * 0.98 + step;
        self.levels[at]
    }

    fn three_phase(&mut self, loads: &[f64]) -> Vec<f64> {
        let grid = self.wander(0, 2.0);
        let volts: Vec<f64> = (0..3)
            .map(|phase| 2310.0 + 6.0 * phase as f64 + grid + self.wander(1 + phase, 1.0))
            .collect();
        let lines: Vec<f64> = (0..3)
            .map(|phase| {
                let noise = self.random.noise(0.7);
                (volts[phase] + volts[(phase + 1) % 3]) * 0.866 + noise
            })
            .collect();
        let amps: Vec<f64> = (0..3)
            .map(|phase| loads[phase] * 0.4 + self.random.noise(0.3))
            .collect();
        let factor = 940.0 + self.wander(4, 2.0);
        let apparent: Vec<f64> = (0..3).map(|at| volts[at] * amps[at] / 10_000.0).collect();
        let active: Vec<f64> = apparent.iter().map(|va| va * factor / 1000.0).collect();
        let reactive: Vec<f64> = apparent.iter().map(|va| va * 0.33).collect();
        let total = |of: &[f64]| of.iter().sum::<f64>();
        let mut row = volts.clone();
        row.extend(&lines);
        row.extend(&amps);
        row.push((amps[0] - amps[1]).abs() * 0.2);
        row.push(5000.0 + self.wander(5, 1.0));
        row.extend([total(&volts) / 3.0, total(&lines) / 3.0, total(&amps) / 3.0]);
        row.extend([total(&active), total(&reactive), total(&apparent), factor]);
        for (at, demand) in self.demands.iter_mut().enumerate() {
            *demand += (loads[at] - *demand) * 0.0005;
            row.push(*demand);
        }
        for at in 0..6 {
            row.push(22.0 + self.wander(6 + at, if at < 3 { 1.2 } else { 0.9 }));
        }
        for at in 0..4 {
            row.push(60.0 + self.wander(12 + at, 1.3));
        }
        row.extend(&active);
        row.extend(&reactive);
        for (at, share) in [1.0, 0.0, 0.3, 0.02].iter().enumerate() {
            row.push(1000.0 * at as f64 + self.energy(at, total(&active) * share * 0.006));
        }
        row
    }

    /// A counter's register: whole units only.
    fn energy(&mut self, at: usize, step: f64) -> f64 {
        self.counters[at] += step;
        self.counters[at].floor()
    }

    fn fast(&mut self, loads: &[f64]) -> Vec<f64> {
        let common = self.random.noise(24.0);
        let other = self.random.noise(14.0);
        (0..12)
            .map(|at| {
                let gain = 0.5 + 0.1 * at as f64;
                let shared = common * gain + other * (1.5 - gain);
                loads[at % 3] * (2.0 + gain) + shared + self.random.noise(1.2)
            })
            .collect()
    }

    fn house(&mut self, loads: &[f64]) -> Vec<f64> {
        let power = (loads[0] + loads[1]) * 12.0 + self.random.noise(30.0);
        let volts = 24_000.0 + self.wander(0, 40.0) - power * 0.02;
        let reactive = 100.0 + self.wander(1, 8.0);
        let mut row = vec![power, reactive, volts, power * 100.0 / volts * 10.0];
        for at in 0..3 {
            let on = self.random.share() < 0.08;
            let moved = if on { self.random.share() * 3.0 } else { 0.0 };
            self.levels[2 + at] = self.levels[2 + at] * 0.9 + moved;
            row.push(self.levels[2 + at].floor());
        }
        row
    }

    fn plug(&mut self) -> Vec<f64> {
        if self.random.share() < 0.01 {
            self.levels[0] = (self.random.share() * 5.0).floor() * 37.0;
        }
        let power = self.levels[0] + (self.random.noise(0.6)).round();
        let step = power.max(0.0) / 360.0;
        vec![power.max(0.0), self.energy(0, step)]
    }

    fn counter(&mut self, loads: &[f64]) -> Vec<f64> {
        let step = (loads[0] + self.random.noise(1.2)).max(0.0);
        vec![self.energy(0, step)]
    }

    fn plant(&mut self, loads: &[f64]) -> Vec<f64> {
        let night = self.random.share() < 0.02;
        self.levels[0] = if night {
            1.0 - self.levels[0].round()
        } else {
            self.levels[0].round()
        };
        let busy = 0.1 + 0.9 * self.levels[0];
        let energy = (loads[0] + loads[1]) * 10.0 * busy + self.random.noise(60.0 * busy);
        let lagging = (energy * 0.4 + self.random.noise(50.0 * busy)).max(0.0);
        let leading = if busy < 0.5 {
            900.0 + self.random.noise(80.0)
        } else {
            0.0
        };
        let size = (energy * energy + lagging * lagging).sqrt().max(1.0);
        let counter = self.energy(0, energy.max(0.0));
        let factor = (energy / size * 10_000.0).clamp(0.0, 10_000.0);
        vec![
            energy.max(0.0),
            lagging,
            leading,
            factor,
            10_000.0 - leading * 2.0,
            counter,
        ]
    }
}

/// How rows become tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// Rows without a reply, of a thousand.
    pub(super) silent: u64,
    /// Slots that nobody read, of a thousand.
    pub(super) skipped: u64,
    /// Milliseconds that a reply's time moves.
    pub(super) jitter_ms: u64,
}

/// No faults but a clock's jitter.
pub(super) const NO_FAULTS: Faults = Faults {
    silent: 0,
    skipped: 0,
    jitter_ms: 1,
};

/// A table of readings of a group.
pub(super) fn table(
    readings: &mut Readings,
    group: u32,
    start_ms: i64,
    rows: usize,
    faults: Faults,
) -> Table {
    let period_ms = readings.meter.period_ms();
    let mut random = readings.random.clone();
    let mut due_ms = start_ms - start_ms.rem_euclid(period_ms);
    let mut lead: [Column; 2] = [Vec::new(), Vec::new()];
    let mut values: Vec<Column> = Vec::new();
    let mut qualities: Vec<Column> = Vec::new();
    for _ in 0..rows {
        let row = readings.row();
        values.resize(row.len(), Vec::new());
        qualities.resize(row.len(), Vec::new());
        let is_silent = random.below(1000) < faults.silent;
        lead[0].push(Some(due_ms));
        let delay_ms = 40 + random.below(faults.jitter_ms) as i64;
        lead[1].push(Some(if is_silent { delay_ms + 300 } else { delay_ms }));
        for (at, value) in row.into_iter().enumerate() {
            values[at].push((!is_silent).then_some(value));
            qualities[at].push(Some(i64::from(is_silent)));
        }
        due_ms += period_ms;
        while random.below(1000) < faults.skipped {
            due_ms += period_ms;
        }
    }
    let columns = lead.into_iter().chain(values).chain(qualities).collect();
    Table::new(TableKind::Readings, group, 0, columns).expect("BUG: a table of readings")
}

/// The windows of 15 minutes over such a table's values.
pub(super) fn windows(readings: &Table, start_ms: i64) -> Table {
    let points = (readings.columns().len() - 2) / 2;
    let mut columns: Vec<Column> = vec![vec![Some(start_ms - start_ms.rem_euclid(900_000))]];
    let rows = readings.rows() as i64;
    for column in &readings.columns()[2..2 + points] {
        let values: Vec<i64> = column.iter().flatten().copied().collect();
        let any = |value: Option<&i64>| value.copied();
        let first = any(values.first());
        let last = any(values.last());
        let is_counter = values.windows(2).all(|pair| pair[0] <= pair[1]) && first < last;
        let mean =
            (!values.is_empty()).then(|| values.iter().sum::<i64>() * 1000 / values.len() as i64);
        let gauge = |value: Option<i64>| if is_counter { None } else { value };
        let cells = [
            Some(rows),
            Some(values.len() as i64),
            gauge(any(values.iter().min())),
            gauge(any(values.iter().max())),
            gauge(mean),
            first,
            last,
            if is_counter {
                last.zip(first).map(|(last, first)| last - first)
            } else {
                None
            },
            Some(if values.is_empty() { 0 } else { 900_000 }),
            Some(i64::from(values.len() < readings.rows())),
        ];
        assert_eq!(cells.len(), WINDOW_COLUMNS, "BUG: another shape of windows");
        columns.extend(cells.map(|cell| vec![cell]));
    }
    Table::new(TableKind::Windows, readings.group(), 900_000, columns).expect("BUG: windows")
}
