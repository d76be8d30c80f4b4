//! Damaged payloads for every decoder, from a seed: no panic, no more than 50 ms, no more than
//! 32 MB. A corpus and a few mutations stand in for a coverage-guided fuzzer, which needs a
//! nightly compiler.
//!
//!     cargo run --release -- --codec 2 --executions 1000000 --seed 1 [--seconds N] [FOLDER]
//!
//! Codec 12 stands for anchored payloads of codec 2: what is decoded is a keyframe and, on top of
//! it, a payload; mostly only the payload is damaged, or the keyframe would end every execution.
//!
//! Overflow checks and debug assertions are on. An input over a limit is left in the folder for
//! temporary files and named; the exit code is 1 then.

mod memory;
mod mutation;

use edgeagg_core::codec::{decode, decode_on, encode_anchored, encode_as, Keyframe, CODEC_CM};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TIME_MAX: Duration = Duration::from_millis(50);
const BYTES_MAX: usize = 32 << 20;
/// Not a codec: pairs of a keyframe and a payload of codec 2.
const ANCHORED: u8 = 12;
/// One input in so many is made of a payload that claims as much as its size allows: those take
/// most of a run's time, and damage to their few bytes seldom leads anywhere new.
const CLAIMS_ONE_IN: usize = 16;
/// One pair in so many has a damaged keyframe too.
const DAMAGED_KEYFRAME_ONE_IN: usize = 64;
const PROGRESS: Duration = Duration::from_secs(10);

/// What to do.
struct Options {
    codec: u8,
    executions: u64,
    seed: u64,
    seconds: u64,
    corpus: PathBuf,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        codec: 2,
        executions: 100_000,
        seed: 1,
        seconds: u64::MAX,
        corpus: Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus"),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse().ok());
            value.ok_or(format!("{word} needs a number"))
        };
        match word.as_str() {
            "--codec" => options.codec = number()? as u8,
            "--executions" => options.executions = number()?,
            "--seed" => options.seed = number()?,
            "--seconds" => options.seconds = number()?,
            _ => options.corpus = PathBuf::from(word),
        }
    }
    Ok(options)
}

/// Known payloads, and the keyframes of pairs as they are when nothing has damaged them.
struct Corpus {
    usual: Vec<Vec<u8>>,
    claims: Vec<Vec<u8>>,
    keyframes: BTreeMap<Vec<u8>, Keyframe>,
}

impl Corpus {
    fn read(folder: &Path, prefix: &str) -> Result<Corpus, String> {
        let mut corpus = Corpus {
            usual: Vec::new(),
            claims: Vec::new(),
            keyframes: BTreeMap::new(),
        };
        let files = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
        let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with(prefix) {
                continue;
            }
            let payload = std::fs::read(&path).map_err(|error| error.to_string())?;
            match name.contains("_claims_") {
                true => corpus.claims.push(payload),
                false => corpus.usual.push(payload),
            }
        }
        if corpus.usual.is_empty() {
            return Err(format!("no {prefix}* in {}", folder.display()));
        }
        Ok(corpus)
    }

    fn keep_keyframes(&mut self) {
        for input in &self.usual {
            let (first, _) = pair(input);
            if let Ok(keyframe) = Keyframe::new(first) {
                self.keyframes.insert(first.to_vec(), keyframe);
            }
        }
    }

    fn some(&self, random: &mut mutation::Random) -> &[Vec<u8>] {
        match !self.claims.is_empty() && random.below(CLAIMS_ONE_IN) == 0 {
            true => &self.claims,
            false => &self.usual,
        }
    }
}

/// What the worst execution took.
#[derive(Default)]
struct Worst {
    time: Duration,
    bytes: usize,
    decoded: u64,
}

/// Time that the processor spent on this thread, where the system tells.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// A keyframe's length, the keyframe, a payload.
fn pair(input: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = input.split_first_chunk().unwrap_or((&[0; 4], &[]));
    rest.split_at(rest.len().min(u32::from_le_bytes(*length) as usize))
}

/// Decode, and again what comes of encoding it.
fn execute(codec: u8, input: &[u8], corpus: &Corpus, is_checked: bool) -> bool {
    if codec != ANCHORED {
        let found = decode(codec, input);
        if let (Ok(tables), true) = (&found, is_checked) {
            let again = encode_as(codec, tables).expect("BUG: what was decoded can be encoded");
            assert!(
                decode(codec, &again).as_ref() == Ok(tables),
                "BUG: another meaning"
            );
        }
        return found.is_ok();
    }
    let (first, payload) = pair(input);
    let damaged;
    let keyframe = match corpus.keyframes.get(first) {
        Some(keyframe) => keyframe,
        None => {
            let Ok(keyframe) = Keyframe::new(first) else {
                return false;
            };
            damaged = keyframe;
            &damaged
        }
    };
    let found = decode_on(CODEC_CM, payload, Some(keyframe));
    if let (Ok(tables), true) = (&found, is_checked) {
        let again = encode_anchored(tables, keyframe, 1);
        let again = again.expect("BUG: what was decoded can be encoded");
        let found = decode_on(CODEC_CM, &again, Some(keyframe));
        assert!(found.as_ref() == Ok(tables), "BUG: another meaning");
    }
    found.is_ok()
}

/// The next input: of pairs mostly the payload alone is damaged.
fn next_input(random: &mut mutation::Random, codec: u8, corpus: &Corpus) -> Vec<u8> {
    let known = corpus.some(random);
    if codec != ANCHORED || random.below(DAMAGED_KEYFRAME_ONE_IN) == 0 {
        return mutation::input(random, known);
    }
    let (first, payload) = pair(&known[random.below(known.len())]);
    let payload = mutation::input(random, &[payload.to_vec()]);
    [&(first.len() as u32).to_le_bytes(), first, &payload].concat()
}

/// A slow execution is measured again without what others do on the machine meanwhile.
fn measured_again(codec: u8, input: &[u8], corpus: &Corpus) -> Option<Duration> {
    let start = processor_time()?;
    execute(codec, input, corpus, false);
    processor_time().map(|end| end - start)
}

fn run(codec: u8, input: &[u8], corpus: &Corpus, worst: &mut Worst) -> bool {
    memory::reset_peak();
    let before = memory::held();
    let start = Instant::now();
    let is_decoded = execute(codec, input, corpus, false);
    let mut time = start.elapsed();
    let bytes = memory::peak() - before;
    if is_decoded {
        worst.decoded += 1;
        execute(codec, input, corpus, true);
    }
    if time > worst.time {
        time = measured_again(codec, input, corpus).unwrap_or(time);
    }
    worst.time = worst.time.max(time);
    worst.bytes = worst.bytes.max(bytes);
    time < TIME_MAX && bytes < BYTES_MAX
}

fn main() -> Result<(), String> {
    let options = options()?;
    let prefix = match options.codec {
        ANCHORED => "anchored_".to_owned(),
        codec => format!("codec{codec}_"),
    };
    let mut corpus = Corpus::read(&options.corpus, &prefix)?;
    if options.codec == ANCHORED {
        corpus.keep_keyframes();
    }
    let mut random = mutation::Random::new(options.seed);
    let mut worst = Worst::default();
    let start = Instant::now();
    let mut told = start;
    let mut done = 0;
    while done < options.executions && start.elapsed().as_secs() < options.seconds {
        let input = next_input(&mut random, options.codec, &corpus);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(options.codec, &input, &corpus, &mut worst)
        }));
        if !matches!(result, Ok(true)) {
            let name = format!("{prefix}seed{}_{done}", options.seed);
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, &input).map_err(|error| error.to_string())?;
            return Err(format!("execution {done}: see {}", path.display()));
        }
        done += 1;
        if told.elapsed() > PROGRESS {
            told = Instant::now();
            eprintln!("codec {}: {done} of {}", options.codec, options.executions);
        }
    }
    println!(
        "codec {}: {done} executions of seed {} in {:.0} s, {} decoded; worst {:.1} ms, {:.2} MB",
        options.codec,
        options.seed,
        start.elapsed().as_secs_f64(),
        worst.decoded,
        worst.time.as_secs_f64() * 1e3,
        worst.bytes as f64 / 1e6,
    );
    Ok(())
}
