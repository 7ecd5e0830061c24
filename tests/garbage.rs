//! Proves that a full segment makes room by itself: whatever needs memory collects what nobody can reach, cycles included,
//! before it fails; and that it fails, with nothing lost, when there is no garbage.

use commons::{ErrorKind, List, Manager, shared};
use serde::{Deserialize, Serialize};

/// A list that holds itself, and a payload.
#[derive(Serialize, Deserialize)]
struct Cycle(Option<List<Cycle>>, Vec<u8>);

const MIB: usize = 1 << 20;
/// What each operation needs.
const LARGE: usize = 3 * MIB;

shared! {
    struct Large {
        bytes: commons::Block = |manager| manager.block(LARGE as u64),
    }
}

/// What has been made before memory ran out, so that only the operation itself needs some.
struct World {
    manager: Manager,
    /// So many objects that no collection is due because of a few that are garbage.
    _crowd: Vec<commons::Event>,
}

impl World {
    fn new() -> World {
        let manager = Manager::builder().capacity(16 << 20).anonymous().unwrap();
        let crowd = (0..1000).map(|_| manager.event().unwrap()).collect();
        World { manager, _crowd: crowd }
    }

    /// Fills the segment with cycles of 2 MiB each, that nobody has, or that are kept.
    fn fill(&self, kept: &mut Option<Vec<List<Cycle>>>) -> usize {
        let mut cycles = 0;
        while self.manager.capacity() - self.manager.committed() > (5 * MIB / 2) as u64 {
            let list = self.manager.list().unwrap();
            list.push(&Cycle(Some(list.clone()), vec![1; 2 * MIB])).unwrap();
            if let Some(kept) = kept {
                kept.push(list);
            }
            cycles += 1;
        }
        cycles
    }

    fn lists(&self) -> usize {
        self.manager.objects().unwrap().iter().filter(|object| object.kind == commons::ObjectKind::List).count()
    }
}

type Operation = Box<dyn Fn() -> commons::Result<()>>;

/// An operation of each kind that needs memory: what it is called, and how it is prepared.
fn operations() -> Vec<(&'static str, fn(&Manager) -> Operation)> {
    fn bytes() -> Vec<u8> {
        vec![2; LARGE]
    }
    /// Prepares an object by `$make`, and operates on it by `$act`.
    macro_rules! operation {
        ($make:expr, $act:expr) => {
            |manager: &Manager| {
                let object = $make(manager).unwrap();
                Box::new(move || $act(&object).map(drop))
            }
        };
    }
    /// The same for what is made.
    macro_rules! making {
        ($make:expr) => {
            |manager: &Manager| {
                let manager = manager.clone();
                Box::new(move || $make(&manager).map(drop))
            }
        };
    }
    vec![
        (
            "dict insert",
            operation!(Manager::dict::<u64, Vec<u8>>, |dict: &commons::Dict<_, _>| dict.insert(&1, &bytes())),
        ),
        (
            "dict update",
            operation!(Manager::dict::<u64, Vec<u8>>, |dict: &commons::Dict<_, _>| dict.update(&1, |_| Some(bytes()))),
        ),
        ("list push", operation!(Manager::list::<Vec<u8>>, |list: &List<_>| list.push(&bytes()))),
        ("list extend", operation!(Manager::list::<Vec<u8>>, |list: &List<_>| list.extend([&vec![], &bytes()]))),
        ("set insert", operation!(Manager::set::<Vec<u8>>, |set: &commons::Set<_>| set.insert(&bytes()))),
        ("namespace set", operation!(Manager::namespace, |space: &commons::Namespace| space.set("a", &bytes()))),
        (
            "value store",
            operation!(|m: &Manager| m.value(vec![0u8]), |value: &commons::Value<_>| value.store(&bytes())),
        ),
        (
            "lock set",
            operation!(|m: &Manager| m.lock(vec![0u8]), |lock: &commons::Lock<Vec<u8>>| lock
                .lock()?
                .into_guard()
                .set(&bytes())),
        ),
        (
            "rlock set",
            operation!(|m: &Manager| m.rlock(vec![0u8]), |lock: &commons::RLock<Vec<u8>>| lock
                .lock()?
                .into_guard()
                .set(&bytes())),
        ),
        (
            "rwlock set",
            operation!(|m: &Manager| m.rwlock(vec![0u8]), |lock: &commons::RwLock<Vec<u8>>| lock
                .write()?
                .into_guard()
                .set(&bytes())),
        ),
        ("once", operation!(Manager::once::<Vec<u8>>, |once: &commons::Once<_>| once.get_or_init(|_| Ok(bytes())))),
        ("queue put", operation!(|m: &Manager| m.queue(2), |queue: &commons::Queue<Vec<u8>>| queue.put(&bytes()))),
        (
            "joinable put",
            operation!(|m: &Manager| m.joinable_queue(2), |queue: &commons::JoinableQueue<Vec<u8>>| queue
                .put(&bytes())),
        ),
        (
            "loan",
            operation!(|m: &Manager| m.joinable_queue(2), |queue: &commons::JoinableQueue<Vec<u8>>| queue
                .loan(LARGE)?
                .commit()),
        ),
        (
            "priority put",
            operation!(|m: &Manager| m.priority_queue(2), |queue: &commons::PriorityQueue<Vec<u8>>| queue
                .put(1, &bytes())),
        ),
        (
            "pipe send",
            operation!(Manager::pipe::<Vec<u8>>, |ends: &(commons::Connection<_>, commons::Connection<_>)| ends
                .0
                .send(&bytes())),
        ),
        ("array", making!(|manager: &Manager| manager.array::<u64>((LARGE / 8) as u64))),
        ("block", making!(|manager: &Manager| manager.named("b").block(LARGE as u64))),
        ("record", making!(|manager: &Manager| manager.shared::<Large>())),
    ]
}

#[test]
fn what_needs_memory_collects_first() {
    for (name, prepare) in operations() {
        let world = World::new();
        let operation = prepare(&world.manager);
        let before = world.lists();
        let cycles = world.fill(&mut None);
        assert_eq!(world.lists(), before + cycles, "{name}: all the garbage is there still");
        operation().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(world.lists(), before, "{name}");
        world.manager.check().unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn without_garbage_it_fails_and_nothing_is_lost() {
    for (name, prepare) in operations() {
        let world = World::new();
        let operation = prepare(&world.manager);
        let mut kept = Some(Vec::new());
        world.fill(&mut kept);
        let before = world.manager.objects().unwrap().len();
        let error = operation().expect_err(name);
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{name}: {error}");
        assert_eq!(world.manager.objects().unwrap().len(), before, "{name}");
        world.manager.check().unwrap_or_else(|e| panic!("{name}: {e}"));
        drop(kept);
        operation().unwrap_or_else(|e| panic!("{name}: {e}"));
        world.manager.check().unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}
