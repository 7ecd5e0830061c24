//! Counts the words of files with several processes, any of which may be killed at any time:
//!
//! ```text
//! cargo run --release --example word_count -- --kill --verify /usr/share/doc
//! ```
//!
//! Files go through a shared queue to the workers; a file's counts enter a shared dict in one step, and the parent
//! merges them. `worker.rs` is what a worker does, `crew.rs` how the parent gets by without those that die.

mod crew;
mod killer;
mod words;
mod worker;

use std::error::Error;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use commons::Manager;
use indicatif::{ProgressBar, ProgressStyle};
use walkdir::WalkDir;

use crew::{Crew, Ledger};
use killer::Killer;
use words::Counts;

/// Counts words (runs of ASCII letters, in lower case) with several processes that share memory.
#[derive(Parser)]
struct Args {
    /// Files, and folders to walk.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Worker processes [default: as many as the machine runs in parallel].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_WORKERS))]
    workers: Option<u32>,

    /// How many of the most frequent words to print.
    #[arg(long, value_name = "K", default_value_t = 10)]
    top: usize,

    /// Count again in a single process and compare.
    #[arg(long)]
    verify: bool,

    /// Kill workers at random, so many times a second (5 unless stated), and count right nevertheless.
    #[arg(long, value_name = "PER_SECOND", num_args = 0..=1, require_equals = true, default_missing_value = "5",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    kill: Option<u32>,

    /// Choose the same victims as another run.
    #[arg(long, requires = "kill")]
    seed: Option<u64>,
}

const MOST_WORKERS: i64 = 128;

fn main() -> ExitCode {
    commons::init();
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("word_count: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything could be read and was verified, as far as asked.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let mut unreadable = 0;
    let mut report = |path: &Path, why: &str| {
        eprintln!("word_count: {}: {why}", path.display());
        unreadable += 1;
    };
    let files = find_files(&args.paths, &mut report);

    let killer = args.kill.map(|per_second| {
        let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        eprintln!("killing workers; the same again: --seed {seed}");
        Killer::new(seed, per_second)
    });

    let bar = progress_bar(files.len());
    let mut counts = Counts::new();
    let mut failures = Vec::new();
    let manager = Manager::new()?;
    let ledger = Crew::hire(&manager, &files, workers(args))?.run(
        killer,
        |path, outcome| match outcome {
            Ok(found) => merge(&mut counts, &found),
            Err(why) => failures.push((path.clone(), why)),
        },
        |files, words| {
            bar.set_position(files);
            bar.set_message(format!("{words} words"));
        },
    )?;
    bar.finish_and_clear();

    for (path, why) in &failures {
        report(path, why);
    }
    print_recovery(&ledger, args.kill.is_some());
    let mut stdout = io::stdout().lock();
    for (word, count) in words::most_frequent(&counts, args.top) {
        writeln!(stdout, "{count}\t{word}")?;
    }
    stdout.flush()?;
    if unreadable > 0 {
        eprintln!("word_count: {unreadable} unreadable");
    }
    let verified = !args.verify || verify(&files, &counts);
    Ok(unreadable == 0 && verified)
}

/// The files at `paths` and in the folders there, in the order of names; `report` hears of what cannot be read.
fn find_files(paths: &[PathBuf], report: &mut impl FnMut(&Path, &str)) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        match fs::metadata(path) {
            Ok(found) if found.is_file() => files.push(path.clone()),
            Ok(found) if found.is_dir() => {
                for entry in WalkDir::new(path).sort_by_file_name() {
                    match entry {
                        Ok(entry) if entry.file_type().is_file() => files.push(entry.into_path()),
                        Ok(_) => {} // a folder, or nothing that is read from start to end
                        Err(error) => report(error.path().unwrap_or(path), &error.to_string()),
                    }
                }
            }
            Ok(_) => report(path, "neither file nor folder"),
            Err(error) => report(path, &error.to_string()),
        }
    }
    files
}

fn workers(args: &Args) -> usize {
    let available = || thread::available_parallelism().map_or(1, |count| count.get().min(MOST_WORKERS as usize));
    args.workers.map_or_else(available, |count| count as usize)
}

fn progress_bar(files: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} files, {msg}").expect("a valid template");
    ProgressBar::new(files as u64).with_style(style)
}

fn merge(counts: &mut Counts, more: &Counts) {
    for (word, count) in more {
        words::add(counts, word, *count);
    }
}

/// Says what died and what was put right, if anything was to be expected or happened.
fn print_recovery(ledger: &Ledger, killing: bool) {
    if killing || ledger.strange > 0 {
        let Ledger { killed, strange, claimed, unclaimed, repaired } = ledger;
        let files = claimed + unclaimed;
        eprintln!(
            "killed {killed} workers ({strange} more died otherwise), put back {files} files ({unclaimed} of them claimed \
             by nobody), recovered what {repaired} left half done"
        );
    }
}

/// Whether this process alone comes to the same counts.
fn verify(files: &[PathBuf], counts: &Counts) -> bool {
    let mut alone = Counts::new();
    for found in files.iter().filter_map(|path| words::count_file(path).ok()) {
        merge(&mut alone, &found);
    }
    let identical = alone == *counts;
    eprintln!("verified: {}", if identical { "identical" } else { "DIFFERENT" });
    identical
}
