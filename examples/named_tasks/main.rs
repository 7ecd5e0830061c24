//! A pool whose workers are another program, which has the tasks; this one has only their names and types:
//!
//! ```text
//! cargo build --features linkme --example named_worker
//! cargo run --features linkme --example named_tasks
//! ```

use commons::Pool;

fn main() -> commons::Result<()> {
    commons::init();
    let worker = std::env::current_exe().expect("a program").with_file_name("named_worker");
    let pool = Pool::builder().processes(2).program(worker).build()?;
    let lengths: Vec<usize> = pool.call().map_named("named_worker.length", ["one", "three"].map(String::from))?;
    let squares: Vec<u64> = pool.call().map_named("named_worker.square", 1..=4u64)?;
    println!("{lengths:?} {squares:?}");
    let error = pool.apply_named::<u64, u64>("named_worker.cube", 3).expect_err("there is none");
    println!("{error}");
    pool.close()?;
    pool.join()
}
