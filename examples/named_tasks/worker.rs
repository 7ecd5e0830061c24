//! The workers of the example `named_tasks`: a program of its own, started by a pool.

commons::named_task! {
    "named_worker.square",
    fn square(n: u64) -> u64 {
        n * n
    }
}

commons::named_task! {
    "named_worker.length",
    fn length(text: String) -> usize {
        text.len()
    }
}

fn main() -> commons::Result<()> {
    commons::serve_pool()
}
