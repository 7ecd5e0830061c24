//! Paints the Mandelbrot set with a pool of processes, any of which may be killed at any time:
//!
//! ```text
//! cargo run --release --example mandelbrot -- --kill --verify mandelbrot.png
//! ```
//!
//! Every row of the picture is a task. They come back in any order, and are put in their places.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use commons::Pool;
use image::{Rgb, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// Paints the Mandelbrot set with several processes.
#[derive(Parser)]
struct Args {
    /// Where to put the picture.
    #[arg(default_value = "mandelbrot.png")]
    output: PathBuf,

    /// Worker processes [default: as many as the machine runs in parallel].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=240))]
    workers: Option<u16>,

    /// Width of the picture, in pixels; its height is two thirds of that.
    #[arg(long, value_name = "PIXELS", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(3..=30_000))]
    width: u32,

    /// Most iterations for a pixel.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,

    /// Paint again in a single process and compare.
    #[arg(long)]
    verify: bool,

    /// Kill workers at random, so many times a second (20 unless stated), and paint right nevertheless.
    #[arg(long, value_name = "PER_SECOND", num_args = 0..=1, require_equals = true, default_missing_value = "20",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    kill: Option<u32>,

    /// Choose the same victims as another run.
    #[arg(long, requires = "kill")]
    seed: Option<u64>,
}

/// One row of one picture.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Row {
    y: u32,
    width: u32,
    height: u32,
    depth: u32,
}

/// The row's number, and the iterations of its pixels after which they are known to be outside; `depth` if they are not.
fn paint(row: Row) -> (u32, Vec<u32>) {
    let step = 3.0 / f64::from(row.width);
    let im = (f64::from(row.y) - f64::from(row.height) / 2.0) * step;
    let pixel = |x| escape(f64::from(x) * step - 2.25, im, row.depth);
    (row.y, (0..row.width).map(pixel).collect())
}

fn escape(re: f64, im: f64, depth: u32) -> u32 {
    let (mut x, mut y) = (0.0, 0.0);
    for iteration in 0..depth {
        let (xx, yy) = (x * x, y * y);
        if xx + yy > 4.0 {
            return iteration;
        }
        (x, y) = (xx - yy + re, 2.0 * x * y + im);
    }
    depth
}

fn colour(iterations: u32, depth: u32) -> Rgb<u8> {
    if iterations == depth {
        return Rgb([0, 0, 0]);
    }
    let turn = f64::from(iterations).sqrt() * 0.35;
    let channel = |shift: f64| (127.5 + 127.5 * (turn + shift).sin()) as u8;
    Rgb([channel(3.0), channel(3.6), channel(4.6)])
}

fn main() -> ExitCode {
    commons::init();
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mandelbrot: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the picture was verified, if that was asked for.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let (width, height) = (args.width, args.width * 2 / 3);
    let rows = (0..height).map(|y| Row { y, width, height, depth: args.depth });
    let bar = progress_bar(height);
    let moving = bar.clone();

    // A row that dies with its worker is painted again.
    let mut builder = Pool::builder().name("painter").retries(u32::MAX);
    if let Some(workers) = args.workers {
        builder = builder.processes(workers.into());
    }
    let pool = builder.build()?;
    let picture = with_killer(args, &pool, || {
        let painted = pool.call().on_progress(move |progress| moving.set_position(progress.done));
        let mut picture = RgbImage::new(width, height);
        for row in painted.imap_unordered(paint, rows.clone())? {
            let (y, iterations) = row?;
            put_row(&mut picture, y, &iterations, args.depth);
        }
        Ok::<_, commons::Error>(picture)
    })?;
    pool.close()?;
    pool.join()?;
    bar.finish_and_clear();
    picture.save(&args.output)?;
    eprintln!("{}: {width} x {height}", args.output.display());
    Ok(!args.verify || verify(&picture, rows, args.depth))
}

fn put_row(picture: &mut RgbImage, y: u32, iterations: &[u32], depth: u32) {
    for (x, pixel) in (0..).zip(iterations) {
        picture.put_pixel(x, y, colour(*pixel, depth));
    }
}

/// Whether this process alone comes to the same picture.
fn verify(picture: &RgbImage, rows: impl Iterator<Item = Row>, depth: u32) -> bool {
    let mut alone = RgbImage::new(picture.width(), picture.height());
    for (y, iterations) in rows.map(paint) {
        put_row(&mut alone, y, &iterations, depth);
    }
    let identical = alone == *picture;
    eprintln!("verified: {}", if identical { "identical" } else { "DIFFERENT" });
    identical
}

fn progress_bar(rows: u32) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {eta} to go").expect("a valid template");
    ProgressBar::new(rows.into()).with_style(style)
}

/// Runs `work` while workers of `pool` are killed, if that was asked for.
fn with_killer<T>(args: &Args, pool: &Pool, work: impl FnOnce() -> T) -> T {
    let Some(per_second) = args.kill else { return work() };
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    eprintln!("killing workers; the same again: --seed {seed}");
    let (over, killed) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| kill_workers(pool, seed, per_second, &over, &killed));
        let _end = OnDrop(&over);
        work()
    });
    eprintln!("killed {} workers", killed.load(Ordering::Relaxed));
    result
}

/// Ends the killing, however the work ends.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn kill_workers(pool: &Pool, mut seed: u64, per_second: u32, over: &AtomicBool, killed: &AtomicU64) {
    // SplitMix64 (Steele, Lea, Flood 2014).
    let mut below = move |bound: usize| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    };
    while !over.load(Ordering::Relaxed) {
        let percent = 50 + below(101) as u32;
        std::thread::sleep(Duration::from_secs(1) / per_second * percent / 100);
        let pids = pool.pids();
        if let Some(pid) = pids.get(below(pids.len().max(1))).and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            // One that was replaced a moment ago is gone, or about to be.
            killed.fetch_add(1, Ordering::Relaxed);
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
