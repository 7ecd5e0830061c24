//! Proves that lists do what a `Vec` does, in both forms and at random; that readers beside writers see only states that
//! there were; and that a list may contain itself and still be freed.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::codec::{Auto, Codec};
use crate::{ErrorKind, List, Manager};

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn dice() -> Dice {
    let seed = std::env::var("COMMONS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(crate::os::random_u64);
    println!("COMMONS_SEED={seed}");
    Dice(seed | 1)
}

/// Does one operation to both, and compares what they answer.
fn step<T: Ord + Clone + std::fmt::Debug>(list: &List<T>, model: &mut Vec<T>, dice: &mut Dice, make: &dyn Fn(u64) -> T)
where
    Auto: Codec<T>,
{
    let len = model.len() as u64;
    let at = dice.below(len + 2);
    let end = at + dice.below(5);
    let new: Vec<T> = (0..dice.below(4)).map(|_| make(dice.below(50))).collect();
    let element = make(dice.below(50));
    let fails = |result: crate::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::OutOfRange);
    match dice.below(22) {
        0..=3 => {
            list.push(&element).unwrap();
            model.push(element);
        }
        4 => assert_eq!(list.pop().unwrap(), model.pop()),
        5 => assert_eq!(list.pop_front().unwrap(), (!model.is_empty()).then(|| model.remove(0))),
        6 if at < len => assert_eq!(list.pop_at(at).unwrap(), model.remove(at as usize)),
        6 => fails(list.pop_at(at).map(drop)),
        7 if at <= len => {
            list.insert(at, &element).unwrap();
            model.insert(at as usize, element);
        }
        7 => fails(list.insert(at, &element)),
        8 if at < len => {
            list.set(at, &element).unwrap();
            model[at as usize] = element;
        }
        8 => fails(list.set(at, &element)),
        9 => {
            list.extend(&new).unwrap();
            model.extend(new);
        }
        10 if end <= len => {
            list.set_range(at..end, &new).unwrap();
            drop(model.splice(at as usize..end as usize, new));
        }
        10 => fails(list.set_range(at..end, &new)),
        11 if end <= len => {
            list.remove_range(at..end).unwrap();
            drop(model.drain(at as usize..end as usize));
        }
        11 => fails(list.remove_range(at..end)),
        12 if end <= len => assert_eq!(list.get_range(at..end).unwrap(), model[at as usize..end as usize]),
        12 => fails(list.get_range(at..end).map(drop)),
        13 => {
            list.reverse().unwrap();
            model.reverse();
        }
        14 => {
            list.sort_by(|a, b| b.cmp(a)).unwrap();
            model.sort_by(|a, b| b.cmp(a));
        }
        15 => match model.iter().position(|other| *other == element) {
            Some(found) => {
                list.remove(&element).unwrap();
                model.remove(found);
            }
            None => assert_eq!(list.remove(&element).unwrap_err().kind(), ErrorKind::NotFound),
        },
        16 => {
            assert_eq!(list.count(&element).unwrap(), model.iter().filter(|e| **e == element).count() as u64);
            let found = model.iter().skip(at as usize).position(|e| *e == element).map(|i| i as u64 + at);
            assert_eq!(list.index_of_from(&element, at).unwrap(), found);
        }
        17 if len < 60 => {
            let times = dice.below(3) as usize;
            list.repeat(times).unwrap();
            *model = (0..times).flat_map(|_| model.clone()).collect();
        }
        18 if dice.below(8) == 0 => {
            list.clear().unwrap();
            model.clear();
        }
        19 if at < len => {
            assert_eq!(list.update(at, |_| element.clone()).unwrap(), element);
            model[at as usize] = element;
        }
        20 => assert_eq!(list.concat(list).unwrap(), list.repeated(2).unwrap()),
        _ if at < len => assert_eq!(list.get(at).unwrap(), model[at as usize]),
        _ => fails(list.get(at).map(drop)),
    }
}

fn against_the_model<T: Ord + Clone + std::fmt::Debug>(dice: &mut Dice, make: &dyn Fn(u64) -> T)
where
    Auto: Codec<T>,
{
    let manager = Manager::new().unwrap();
    let list = manager.list().unwrap();
    let mut model = Vec::new();
    for round in 0..4000 {
        step(&list, &mut model, dice, make);
        if round % 50 == 0 {
            assert_eq!(list.snapshot().unwrap(), model);
            let backwards: Vec<T> = list.iter().rev().map(Result::unwrap).collect();
            assert!(backwards.iter().eq(model.iter().rev()));
            assert_eq!(list.len().unwrap(), model.len() as u64);
        }
    }
    manager.check().unwrap();
    drop(list);
    assert_eq!(manager.check().unwrap().blocks, 1, "the object table alone");
}

#[test]
fn as_a_vec() {
    let mut dice = dice();
    against_the_model(&mut dice, &|n| n);
    against_the_model(&mut dice, &|n| n as u8);
    against_the_model(&mut dice, &|n| "x".repeat(n as usize));
}

/// Every writer keeps the list a run of consecutive numbers; whatever a reader sees must be one, too.
#[test]
fn readers_see_states() {
    let manager = Manager::new().unwrap();
    let list: List<String> = manager.list().unwrap();
    let stop = AtomicBool::new(false);
    list.extend(&(0..50).map(|n: u32| n.to_string()).collect::<Vec<_>>()).unwrap();
    let number = |text: &String| text.parse::<u64>().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for next in 50..20_000u64 {
                list.push(&next.to_string()).unwrap();
                match next % 3 {
                    0 => drop(list.pop_front().unwrap()),
                    1 => list.remove_range(..1).unwrap(),
                    _ => list.remove_at(0).unwrap(),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seen: Vec<u64> = list.snapshot().unwrap().iter().map(number).collect();
                    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
                    assert!((50..=51).contains(&seen.len()));
                    let first = number(&list.get(0).unwrap());
                    assert!(first >= seen[0]);
                    number(&list.get(49).unwrap());
                }
            });
        }
    });
    manager.check().unwrap();
}

#[test]
fn a_list_in_itself() {
    #[derive(serde::Serialize, serde::Deserialize)]
    enum Tree {
        List(List<Tree>),
        Leaf(u32),
    }
    let manager = Manager::new().unwrap();
    let list: List<Tree> = manager.list().unwrap();
    list.push(&Tree::List(list.clone())).unwrap();
    list.push(&Tree::Leaf(7)).unwrap();
    let inner = match list.get(0).unwrap() {
        Tree::List(inner) => inner,
        Tree::Leaf(_) => panic!("a leaf"),
    };
    inner.push(&Tree::Leaf(8)).unwrap();
    assert_eq!(list.len().unwrap(), 3, "a change through the nested handle is seen");
    drop((list, inner));
    manager.collect().unwrap();
    assert_eq!(manager.objects().unwrap().len(), 0);
    manager.check().unwrap();
}
