//! Proves that the word_count example counts right, whoever is killed, and fails clearly; that squares
//! prints squares, and that mandelbrot paints the same picture whoever is killed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// No run takes nearly as long: one that does hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const FILES: usize = 400;
const LARGE_FILE_BYTES: usize = 5_000_000;

/// What a program printed, and how it ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs an example to its end, or kills it and fails.
fn run<A: AsRef<std::ffi::OsStr>>(example: &str, args: impl IntoIterator<Item = A>) -> Ran {
    let output = tempfile::tempdir().unwrap();
    let (stdout, stderr) = (output.path().join("stdout"), output.path().join("stderr"));
    let mut child = Command::new(binary(example))
        .args(args)
        .stdin(Stdio::null())
        .stdout(File::create(&stdout).unwrap())
        .stderr(File::create(&stderr).unwrap())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if started.elapsed() > PATIENCE => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let read = |path: &Path| String::from_utf8(fs::read(path).unwrap()).unwrap();
    let ran = Ran { code: status.and_then(|s| s.code()), stdout: read(&stdout), stderr: read(&stderr) };
    assert!(status.is_some(), "{example} hangs: {ran:?}");
    ran
}

/// The example's program. Cargo builds it with all tests, but not with this one alone.
fn binary(example: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _guard = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(Path::parent).unwrap();
    let path = profile.join("examples").join(example);
    let sources = source(example).unwrap();
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let newest = sources.iter().map(|source| modified(source)).chain([modified(&this)]).max().unwrap();
    if modified(&path) < newest {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
        cargo.args(["build", "--quiet", "--offline", "--example", example]).current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "cannot build {example}");
    }
    assert!(path.exists(), "{} was not built", path.display());
    path
}

/// The source files of an example, if there is one of that name.
fn source(example: &str) -> Option<Vec<PathBuf>> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let single = examples.join(example).with_extension("rs");
    if single.exists() {
        return Some(vec![single]);
    }
    let entries = fs::read_dir(examples.join(example)).ok()?;
    Some(entries.map(|entry| entry.unwrap().path()).collect())
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// A folder of files of all sorts, and the counts of its words.
struct Tree {
    seed: u64,
    folder: tempfile::TempDir,
    counts: HashMap<String, u64>,
}

impl Tree {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The lines that are to be printed.
    fn lines(&self, top: usize) -> String {
        let mut words: Vec<_> = self.counts.iter().collect();
        words.sort_by_key(|(word, count)| (u64::MAX - **count, *word));
        words.iter().take(top).map(|(word, count)| format!("{count}\t{word}\n")).collect()
    }
}

/// The tree of this run; `COMMONS_SEED` repeats one.
fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    let tree = TREE.get_or_init(|| {
        let seed = std::env::var("COMMONS_SEED").ok().map(|seed| seed.parse().expect("COMMONS_SEED is a number"));
        plant(seed.unwrap_or_else(|| RandomState::new().hash_one(0)))
    });
    // In every test that uses it: any of them may fail.
    println!("COMMONS_SEED={}", tree.seed);
    tree
}

fn plant(seed: u64) -> Tree {
    let mut random = Random(seed | 1);
    let mut tree = Tree { seed, folder: tempfile::tempdir().unwrap(), counts: HashMap::new() };
    let vocabulary: Vec<String> = (0..3000)
        .map(|_| (0..1 + random.below(9)).map(|_| (b'a' + random.below(26) as u8) as char).collect())
        .collect();
    let mut files: Vec<(PathBuf, Vec<u8>)> = (0..FILES)
        .map(|i| {
            let folders = (0..random.below(4)).map(|depth| format!("folder {depth}{}", random.below(3)));
            let path = folders.collect::<PathBuf>().join(format!("{i}.txt"));
            let length = random.below(20_000);
            (path, text(&mut random, &vocabulary, length))
        })
        .collect();
    files.push(("empty".into(), Vec::new()));
    files.push(("binary".into(), (0..300_000).map(|_| random.below(256) as u8).collect()));
    files.push(("no letters".into(), b"12 + 34 = 46;\n\xff\xc3\xa4 \n".repeat(500)));
    files.push(("large".into(), text(&mut random, &vocabulary, LARGE_FILE_BYTES)));
    files.push(("one word".into(), b"LongWord".repeat(100_000)));
    for (path, bytes) in files {
        for word in bytes.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty()) {
            *tree.counts.entry(String::from_utf8(word.to_ascii_lowercase()).unwrap()).or_default() += 1;
        }
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    tree
}

fn text(random: &mut Random, vocabulary: &[String], length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 20);
    while text.len() < length {
        // The square root of a uniform number favours the end of the vocabulary: some words are frequent.
        let uniform = random.below(vocabulary.len() * vocabulary.len());
        let word = &vocabulary[uniform.isqrt()];
        match random.below(4) {
            0 => text.extend(word.to_ascii_uppercase().bytes()),
            _ => text.extend(word.bytes()),
        }
        text.extend_from_slice([&b" "[..], b"\n", b", ", b"1", b"\xc3\xa4"][random.below(5)]);
    }
    text
}

fn word_count(args: &[&str]) -> Ran {
    let tree = tree().path().to_str().unwrap();
    run("word_count", args.iter().copied().chain([tree]))
}

#[track_caller]
fn assert_counted(ran: &Ran, top: usize) {
    assert_eq!(ran.stdout, tree().lines(top), "{ran:?}");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn counts_with_default_arguments() {
    let ran = word_count(&[]);
    assert_counted(&ran, 10);
    assert_eq!(ran.stderr, "", "no progress bar without a terminal");
}

#[test]
fn counts_with_any_number_of_workers() {
    for workers in ["1", "3", "20"] {
        assert_counted(&word_count(&["--workers", workers]), 10);
    }
}

#[test]
fn prints_as_many_words_as_asked() {
    for top in [0, 1, 3, 2000, 1_000_000] {
        assert_counted(&word_count(&["--top", &top.to_string()]), top);
    }
}

#[test]
fn verifies() {
    let ran = word_count(&["--verify", "--top", "100000"]);
    assert_counted(&ran, 100_000);
    assert_eq!(ran.stderr, "verified: identical\n");
}

#[test]
fn a_file_named_twice_counts_twice() {
    let file = tree().path().join("large");
    let once = run("word_count", [file.to_str().unwrap(), "--top", "1"]);
    let twice = run("word_count", [file.to_str().unwrap(), file.to_str().unwrap(), "--top", "1"]);
    let count = |ran: &Ran| ran.stdout.split('\t').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(count(&twice), 2 * count(&once));
}

#[test]
fn every_file_counts_once_whoever_is_killed() {
    let mut killed = 0;
    for (seed, workers) in [("1", "3"), ("2", "2"), ("3", "1")] {
        let ran = word_count(&["--kill=100", "--seed", seed, "--workers", workers, "--verify", "--top", "100000"]);
        println!("seed {seed}: {}", ran.stderr);
        assert_counted(&ran, 100_000);
        assert!(ran.stderr.contains(&format!("--seed {seed}\n")), "{ran:?}");
        assert!(ran.stderr.ends_with("verified: identical\n"), "{ran:?}");
        let line = ran.stderr.lines().find_map(|line| line.strip_prefix("killed ")).unwrap();
        killed += line.split(' ').next().unwrap().parse::<u64>().unwrap();
    }
    assert!(killed > 0, "nobody was killed in time");
}

#[test]
fn a_slow_killer_and_a_seed_of_its_own() {
    let ran = word_count(&["--kill", "--verify"]);
    assert_counted(&ran, 10);
    assert!(ran.stderr.contains("--seed "), "{ran:?}");
}

#[test]
fn what_cannot_be_read_is_reported_and_the_rest_counted() {
    let missing = tree().path().join("no such file");
    let ran = word_count(&["--verify", missing.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.stdout, tree().lines(10));
    assert!(ran.stderr.contains("no such file: No such file or directory"), "{ran:?}");
    assert!(ran.stderr.contains("1 unreadable"), "{ran:?}");
    assert!(ran.stderr.contains("verified: identical"), "{ran:?}");
    if cfg!(target_os = "linux") {
        // A regular file that can be opened and not read, also by root.
        let ran = word_count(&["/proc/self/mem"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert_eq!(ran.stdout, tree().lines(10));
        assert!(ran.stderr.starts_with("word_count: /proc/self/mem: "), "{ran:?}");
    }
}

#[test]
fn paths_need_not_be_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "Ship ship").unwrap();
    let ran = run("word_count", [folder.path()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "2\tship\n"), "{ran:?}");
}

#[test]
fn an_empty_folder_has_no_words() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&[][..], &["--verify"], &["--kill", "--seed", "1"]] {
        let ran = run("word_count", args.iter().copied().chain([folder.path().to_str().unwrap()]));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let cases: [(&[&str], &str); 5] = [
        (&["--workers", "0"], "invalid value '0' for '--workers"),
        (&["--workers", "many"], "invalid value 'many' for '--workers"),
        (&["--seed", "1"], "--kill"),
        (&["--kill=0"], "invalid value '0' for '--kill"),
        (&["--slow"], "unexpected argument '--slow'"),
    ];
    for (args, message) in cases {
        let ran = word_count(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        assert!(ran.stderr.contains(message), "{ran:?}");
    }
    let ran = run("word_count", ["--verify"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("PATH"), "{ran:?}");
}

#[test]
fn squares_prints_squares() {
    let ran = run("squares", [""; 0]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines.split_off(lines.len().saturating_sub(2)),
        ["[Main] result = {1: 1, 22: 484}", "All processing done"]
    );
    // The children come in any order, and may see each other's square or not.
    lines.sort_unstable();
    let seen = |line: &str, number: &str, alone: &str| {
        let said = line.strip_prefix(number).and_then(|rest| rest.strip_prefix(", res = ")).map(str::to_owned);
        said.is_some_and(|res| res == alone || res == "{1: 1, 22: 484}")
    };
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert!(seen(lines[0], "[Child] square[1] = 1", "{1: 1}"), "{ran:?}");
    assert!(seen(lines[1], "[Child] square[22] = 484", "{22: 484}"), "{ran:?}");
}

#[test]
fn mandelbrot_is_exact() {
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("mandelbrot.png");
    let path = picture.to_str().unwrap();
    for options in [&["--workers", "2"][..], &["--workers", "3", "--kill=200"]] {
        let _ = fs::remove_file(&picture);
        let args = ["--width", "240", "--depth", "500", "--verify"].iter().chain(options).chain([&path]);
        let ran = run("mandelbrot", args);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(fs::read(&picture).unwrap().starts_with(b"\x89PNG"), "{ran:?}");
    }
    let ran = run("mandelbrot", ["--width", "240", "/nowhere/at/all.png"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.stderr.is_empty());
}
