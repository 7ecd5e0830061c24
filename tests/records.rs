//! Proves that own types (`shared!`) are shared objects like any other: named, checked, sent, nested, listed, freed with
//! their parts, and all or nothing when their creator is killed at any of its stores.

mod common;

use std::collections::BTreeMap;

use common::{assert_kind, end};
use commons::{
    Condition, Dict, Error, ErrorKind, Event, List, Lock, Manager, ObjectKind, Process, Queue, Set, Value, shared,
};

shared! {
    /// What is in stock, and who asked for it.
    pub struct Inventory {
        /// Pieces of each article.
        pub stock: Dict<String, u64>,
        orders: Queue<String> = |manager| manager.queue(4),
        limit: u64 = |_| Ok(100),
    }

    /// A record of a record, and of everything that is made by itself.
    struct Company {
        inventory: Inventory,
        notes: List<String>,
        staff: Set<u32>,
        open: Event,
        cash: Lock<i64>,
        visits: Value<u64>,
    }

    /// Handles that refer to each other.
    struct Gate {
        open: Lock<bool>,
        changed: Condition<Lock<bool>> = |_| Err(Error::new(ErrorKind::InvalidInput, "a condition needs its lock")),
    }

    /// With a parameter.
    struct Cache<K, V> {
        entries: Dict<K, V>,
        order: List<K>,
    }

    /// Part of itself.
    struct Tree {
        branches: List<Tree>,
    }
}

/// A type of another shape with the same name.
mod other {
    commons::shared! {
        pub struct Inventory {
            pub stock: commons::Dict<String, u64>,
        }
    }
}

/// Objects by kind, after a collection.
fn kinds(manager: &Manager) -> BTreeMap<String, usize> {
    manager.collect().unwrap();
    let mut kinds = BTreeMap::new();
    for object in manager.objects().unwrap() {
        *kinds.entry(format!("{:?}", object.kind)).or_default() += 1;
    }
    kinds
}

fn count(manager: &Manager) -> usize {
    kinds(manager).values().sum()
}

#[test]
fn made_by_itself() {
    let manager = Manager::new().unwrap();
    let company: Company = manager.shared().unwrap();
    company.inventory.stock.insert("bolt", &3).unwrap();
    company.inventory.orders.put(&"bolt".to_owned()).unwrap();
    company.notes.push(&"first".to_owned()).unwrap();
    company.staff.insert(&7).unwrap();
    company.open.set().unwrap();
    company.cash.lock().unwrap().into_guard().set(&-5).unwrap();
    assert_eq!((company.inventory.limit, company.inventory.orders.capacity()), (100, Some(4)));
    assert_eq!(company.visits.fetch_add(1).unwrap(), 0);
    let again = company.clone();
    assert_eq!(again, company);
    assert_ne!(manager.shared::<Inventory>().unwrap(), company.inventory);
    assert!(format!("{company:?}").starts_with("Company { object: "), "{company:?}");
    drop(company);
    assert_eq!(again.inventory.stock.get("bolt").unwrap(), Some(3));
    assert!(again.open.is_set().unwrap());
    manager.check().unwrap();
}

#[test]
fn names_and_types() {
    let manager = Manager::new().unwrap();
    let inventory = manager.named("i").shared::<Inventory>().unwrap();
    inventory.stock.insert("a", &1).unwrap();
    let opened = manager.named("i").shared::<Inventory>().unwrap();
    assert_eq!((&opened, &opened.stock, &opened.orders), (&inventory, &inventory.stock, &inventory.orders));
    assert_kind(manager.fresh("i").shared::<Inventory>(), ErrorKind::AlreadyExists);
    assert_kind(manager.existing("j").shared::<Inventory>(), ErrorKind::NotFound);
    assert_kind(manager.named("i").shared::<other::Inventory>(), ErrorKind::TypeMismatch);
    assert_kind(manager.named("i").shared::<Company>(), ErrorKind::TypeMismatch);
    assert_kind(manager.named("i").shared::<Dict<String, u64>>(), ErrorKind::TypeMismatch);
    manager.named("d").shared::<Dict<String, u64>>().unwrap();
    assert_kind(manager.named("d").shared::<Inventory>(), ErrorKind::TypeMismatch);
    let cache = manager.named("c").shared::<Cache<u64, String>>().unwrap();
    cache.entries.insert(&1, &"one".to_owned()).unwrap();
    cache.order.push(&1).unwrap();
    assert_kind(manager.named("c").shared::<Cache<u64, u64>>(), ErrorKind::TypeMismatch);
    drop((inventory, opened, cache));
    assert_eq!(
        kinds(&manager),
        [("Dict".into(), 3), ("List".into(), 1), ("Queue".into(), 1), ("Record".into(), 2)].into()
    );
    let listed = manager.objects().unwrap();
    let record = listed.iter().find(|object| object.name.as_deref() == Some("i")).unwrap();
    assert_eq!((record.kind, record.type_name.as_deref()), (ObjectKind::Record, Some("records::Inventory")));
    assert!(listed.iter().all(|object| object.type_name.is_some() == (object.kind == ObjectKind::Record)));
    ["i", "c", "d"].iter().for_each(|name| manager.unlink(name).unwrap());
    assert_eq!(count(&manager), 0);
    manager.check().unwrap();
}

#[test]
fn made_with_values_of_run_time() {
    let manager = Manager::new().unwrap();
    assert_kind(manager.shared::<Gate>(), ErrorKind::InvalidInput);
    let gate: Gate = manager
        .named("g")
        .shared_with(|manager| {
            let open = manager.lock(false)?;
            Ok((open.clone(), manager.condition(&open)?))
        })
        .unwrap();
    assert_eq!(gate.changed.lock(), &gate.open);
    let never = |_: &Manager| panic!("it exists");
    assert_eq!(manager.named("g").shared_with::<Gate>(never).unwrap(), gate);
    // What fails leaves nothing.
    drop(gate);
    manager.unlink("g").unwrap();
    assert_eq!(count(&manager), 0);
    let elsewhere = Manager::new().unwrap();
    let foreign = |manager: &Manager| Ok((elsewhere.dict()?, manager.queue(1)?, 1));
    assert_kind(manager.shared_with::<Inventory>(foreign), ErrorKind::InvalidInput);
    assert_kind(manager.named("x").shared_with::<Inventory>(foreign), ErrorKind::InvalidInput);
    assert_kind(manager.existing("x").shared::<Inventory>(), ErrorKind::NotFound);
    assert_eq!((count(&manager), count(&elsewhere)), (0, 0));
    manager.check().unwrap();
}

/// The parts live while a handle of a part, a handle of the record, a container or a name holds them, and no longer.
#[test]
fn parts_live_as_long_as_they_should() {
    let manager = Manager::new().unwrap();
    let stores = manager.dict::<String, Inventory>().unwrap();
    let inventory: Inventory = manager.shared().unwrap();
    stores.insert("a", &inventory).unwrap();
    let stock = inventory.stock.clone();
    stock.insert("bolt", &1).unwrap();
    drop(inventory);
    assert_eq!(count(&manager), 4);
    assert_eq!(stores.get("a").unwrap().unwrap().stock, stock);
    stores.clear().unwrap();
    assert_eq!(kinds(&manager), [("Dict".into(), 2)].into(), "the part that is held by itself");
    assert_eq!(stock.get("bolt").unwrap(), Some(1));
    drop((stores, stock));
    assert_eq!(count(&manager), 0);
    // A cycle through a record.
    let tree: Tree = manager.shared().unwrap();
    tree.branches.push(&tree).unwrap();
    tree.branches.push(&manager.shared().unwrap()).unwrap();
    assert_eq!(count(&manager), 4);
    assert_eq!(tree.branches.get(0).unwrap(), tree);
    drop(tree);
    assert_eq!(count(&manager), 0);
    manager.check().unwrap();
}

/// A record travels to a child, in an argument and through a container, and back in a result.
#[test]
fn between_processes() {
    commons::init_test!();
    fn work((inventory, queue): (Inventory, Queue<Inventory>)) -> Inventory {
        inventory.stock.fetch_add("bolt", 2).unwrap();
        let other = queue.get().unwrap();
        other.stock.insert("nut", &inventory.limit).unwrap();
        other
    }
    let manager = Manager::new().unwrap();
    let (inventory, queue) = (manager.shared::<Inventory>().unwrap(), manager.queue(1).unwrap());
    queue.put(&manager.shared::<Inventory>().unwrap()).unwrap();
    let other = Process::spawn((inventory.clone(), queue.clone()), work).unwrap().join().unwrap();
    assert_eq!(inventory.stock.get("bolt").unwrap(), Some(2));
    assert_eq!(other.stock.get("nut").unwrap(), Some(100));
    assert_eq!(kinds(&manager), [("Dict".into(), 2), ("Queue".into(), 3), ("Record".into(), 2)].into());
    manager.check().unwrap();
}

/// A process that holds records, in its hands and in a container of its own, is killed: they go with it.
#[test]
fn freed_after_a_kill() {
    commons::init_test!();
    fn hold((manager, ready): (Manager, Event)) {
        let kept: Vec<Company> = (0..3).map(|_| manager.shared().unwrap()).collect();
        let nested = manager.list::<Company>().unwrap();
        nested.push(&manager.shared().unwrap()).unwrap();
        ready.set().unwrap();
        std::thread::sleep(common::FOREVER);
        drop((kept, nested));
    }
    let manager = Manager::new().unwrap();
    let ready = manager.event().unwrap();
    let child = Process::spawn((manager.clone(), ready.clone()), hold).unwrap();
    ready.wait().unwrap();
    assert!(count(&manager) > 4 * 8);
    end(child);
    manager.recover().unwrap();
    assert_eq!(kinds(&manager), [("Event".into(), 1)].into());
    manager.check().unwrap();
}

/// Makes a record, dying at the `at`-th store; returns, if it lives, how many stores there were.
#[cfg(debug_assertions)]
fn make((manager, named, at): (Manager, bool, u64)) -> u64 {
    commons::testing::arm_kill(at);
    match named {
        true => drop(manager.named("i").shared::<Inventory>().unwrap()),
        false => drop(manager.shared::<Inventory>().unwrap()),
    }
    commons::testing::disarm()
}

/// Real SIGKILL at the stores of making a record and dropping its handle (of the long rows, that clear a block, some):
/// there is a whole record under the name, or nothing at all.
#[cfg(debug_assertions)]
#[test]
fn killed_while_it_is_made() {
    commons::init_test!();
    for named in [false, true] {
        let world = || {
            let manager = Manager::new().unwrap();
            manager.named("first").event().unwrap(); // the table of names is there
            manager
        };
        let about = Process::spawn((world(), named, u64::MAX), make).unwrap().join().unwrap();
        let (mut at, mut made, mut kills) = (1, 0, 0);
        loop {
            let manager = world();
            let outcome = Process::spawn((manager.clone(), named, at), make).unwrap().join();
            manager.recover().unwrap();
            let what = format!("named {named}, at store {at} of about {about}");
            let lives = match outcome {
                Ok(_) => true,
                Err(e) if e.kind() == ErrorKind::Process => false,
                Err(e) => panic!("{what}: {e}"),
            };
            match manager.existing("i").shared::<Inventory>() {
                Ok(inventory) => {
                    inventory.stock.insert("bolt", &1).unwrap();
                    inventory.orders.put(&"bolt".to_owned()).unwrap();
                    assert_eq!(count(&manager), 4, "{what}");
                    drop(inventory);
                    manager.unlink("i").unwrap();
                    made += 1;
                }
                Err(e) => assert!(e.kind() == ErrorKind::NotFound && !(lives && named), "{what}: {e}"),
            }
            assert_eq!(count(&manager), 1, "{what}: something is left");
            manager.check().unwrap_or_else(|e| panic!("{what}: {e}"));
            if lives {
                break;
            }
            kills += 1;
            // The last of them are the record itself, its name, and the end of its handle.
            at += if at + 150 > about { 1 } else { 1 + at / 24 };
        }
        println!("named {named}: {kills} kills at about {about} stores, {made} times it was there");
        assert!(kills > 150 && (made > 1) == named);
    }
}
