//! Two processes square a number each, into a dict that they share with the one that started them.
//!
//!     cargo run --example squares

use std::collections::BTreeMap;

use commons::{Dict, Manager, Process};

fn square((number, res): (u64, Dict<u64, u64>)) {
    res.insert(&number, &(number * number)).unwrap();
    let seen: BTreeMap<u64, u64> = res.iter().map(Result::unwrap).collect();
    println!("[Child] square[{number}] = {}, res = {seen:?}", number * number);
}

fn main() -> commons::Result<()> {
    commons::init();
    let result = Manager::new()?.dict::<u64, u64>()?;
    let children = [1, 22].map(|number| Process::spawn((number, result.clone()), square));
    for child in children {
        child?.join()?;
    }
    let result: BTreeMap<u64, u64> = result.iter().collect::<commons::Result<_>>()?;
    println!("[Main] result = {result:?}");
    println!("All processing done");
    Ok(())
}
