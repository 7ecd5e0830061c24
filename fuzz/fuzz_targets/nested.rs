//! Dicts, queues, sets and own types that hold each other's handles, against a graph.
//!
//! After a collection exactly those objects are left that a handle or a name reaches; cycles included.

#![no_main]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arbitrary::Arbitrary;
use commons::{Dict, ErrorKind, Manager, Put, Queue, Set, shared};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

const CAPACITY: u64 = 8 << 20;
const MOST_OPS: usize = 80;
const MOST_HANDLES: usize = 12;
const QUEUE_BOUND: usize = 4;

#[derive(Arbitrary, Debug)]
enum Op {
    NewDict,
    NewQueue(bool),
    NewSet,
    NewPair,
    /// Gets the dict of a pair, or its queue.
    Part(u8, bool),
    /// Opens the dict of this name, or creates it.
    Named(u8),
    Unlink(u8),
    Clone(u8),
    Drop(u8),
    /// Stores handles of the second and third in the first.
    Store(u8, u8, u8, u8),
    /// Stores so many new objects in the first, which is then all that holds them.
    Give(u8, u8),
    /// Drops all handles but this one.
    KeepOnly(u8),
    /// Takes something out of a container, and drops it or keeps the handles.
    Take(u8, u8, bool),
    /// Gets a copy of what a dict has under a key.
    Get(u8, u8),
    Clear(u8),
    Collect,
}

#[derive(Clone, Serialize, Deserialize)]
enum Node {
    Dict(Dict<u64, Vec<Node>>),
    Queue(Queue<Vec<Node>>),
    Set(Set<Node>),
    Pair(Pair),
}

shared! {
    /// An own type.
    struct Pair {
        dict: Dict<u64, Vec<Node>>,
        queue: Queue<Vec<Node>>,
    }
}

/// Number of an object in the model.
type Id = usize;

#[derive(Debug)]
enum Content {
    Dict(BTreeMap<u64, Vec<Id>>),
    Queue(VecDeque<Vec<Id>>, Option<usize>),
    /// Handles that are the elements themselves.
    Set(BTreeSet<Id>),
    /// A dict and a queue.
    Pair(Id, Id),
}

struct World {
    manager: Manager,
    /// Objects that a fresh segment has.
    own: usize,
    handles: Vec<(Node, Id)>,
    names: BTreeMap<u8, Id>,
    contents: Vec<Content>,
}

impl World {
    fn add(&mut self, content: Content) -> Id {
        self.contents.push(content);
        self.contents.len() - 1
    }

    fn keep(&mut self, node: Node, id: Id) {
        if self.handles.len() < MOST_HANDLES {
            self.handles.push((node, id));
        }
    }

    fn nth(&self, n: u8) -> Option<(Node, Id)> {
        self.handles.get(usize::from(n) % self.handles.len().max(1)).cloned()
    }

    fn reached(&self) -> BTreeSet<Id> {
        let mut todo: Vec<Id> = self.handles.iter().map(|(_, id)| *id).chain(self.names.values().copied()).collect();
        let mut reached = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if reached.insert(id) {
                match &self.contents[id] {
                    Content::Dict(entries) => todo.extend(entries.values().flatten()),
                    Content::Queue(items, _) => todo.extend(items.iter().flatten()),
                    Content::Set(elements) => todo.extend(elements),
                    Content::Pair(dict, queue) => todo.extend([dict, queue]),
                }
            }
        }
        reached
    }

    fn compare(&self) {
        self.manager.collect().unwrap();
        assert_eq!(self.manager.objects().unwrap().len() - self.own, self.reached().len());
        for (node, id) in &self.handles {
            match (node, &self.contents[*id]) {
                (Node::Dict(dict), Content::Dict(entries)) => assert_eq!(dict.len().unwrap(), entries.len() as u64),
                (Node::Queue(queue), Content::Queue(items, _)) => {
                    assert_eq!(queue.len().unwrap(), items.len() as u64);
                }
                (Node::Set(set), Content::Set(elements)) => assert_eq!(set.len().unwrap(), elements.len() as u64),
                (Node::Pair(pair), Content::Pair(dict, _)) => {
                    let Content::Dict(entries) = &self.contents[*dict] else { panic!("an object of the wrong kind") };
                    assert_eq!(pair.dict.len().unwrap(), entries.len() as u64);
                }
                _ => panic!("an object of the wrong kind"),
            }
        }
    }

    fn store(&mut self, container: u8, key: u8, first: u8, second: u8) {
        let Some((node, id)) = self.nth(container) else { return };
        let Some((first, second)) = self.nth(first).zip(self.nth(second)) else { return };
        let (nodes, ids) = (vec![first.0, second.0], vec![first.1, second.1]);
        match (node, &mut self.contents[id]) {
            (Node::Dict(dict), Content::Dict(entries)) => {
                let key = u64::from(key % 8);
                let new = dict.insert(&key, &nodes).unwrap();
                assert_eq!(new, entries.insert(key, ids).is_none());
            }
            (Node::Queue(queue), Content::Queue(items, bound)) => match queue.try_put(&nodes).unwrap() {
                Put::Done => items.push_back(ids),
                Put::Full => assert_eq!(Some(items.len()), *bound),
            },
            (Node::Set(set), Content::Set(elements)) => {
                for (node, id) in nodes.iter().zip(ids) {
                    assert_eq!(set.insert(node).unwrap(), elements.insert(id));
                }
            }
            (Node::Pair(_), Content::Pair(..)) => {}
            _ => panic!("an object of the wrong kind"),
        }
    }

    fn take(&mut self, container: u8, key: u8, keep: bool) {
        let Some((node, id)) = self.nth(container) else { return };
        let (nodes, ids) = match (node, &mut self.contents[id]) {
            (Node::Dict(dict), Content::Dict(entries)) => {
                let key = u64::from(key % 8);
                (dict.pop(&key).unwrap(), entries.remove(&key))
            }
            (Node::Queue(queue), Content::Queue(items, _)) => (queue.try_get().unwrap(), items.pop_front()),
            (Node::Set(set), Content::Set(elements)) => {
                // One that this side has a handle of, which is another than the one in the set.
                let Some((node, id)) = self.handles.get(usize::from(key) % self.handles.len().max(1)) else { return };
                assert_eq!(set.contains(node).unwrap(), elements.contains(id));
                assert_eq!(set.discard(node).unwrap(), elements.remove(id));
                return;
            }
            (Node::Pair(_), Content::Pair(..)) => return,
            _ => panic!("an object of the wrong kind"),
        };
        self.same(nodes, ids, keep);
    }

    /// Compares what a container gave, and keeps the handles or not.
    fn same(&mut self, nodes: Option<Vec<Node>>, ids: Option<Vec<Id>>, keep: bool) {
        let (nodes, ids) = (nodes.unwrap_or_default(), ids.unwrap_or_default());
        assert_eq!(nodes.len(), ids.len());
        for (node, id) in nodes.into_iter().zip(ids) {
            assert!(matches!(
                (&node, &self.contents[id]),
                (Node::Dict(_), Content::Dict(_))
                    | (Node::Queue(_), Content::Queue(..))
                    | (Node::Set(_), Content::Set(_))
                    | (Node::Pair(_), Content::Pair(..))
            ));
            if keep {
                self.keep(node, id);
            }
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::NewDict => {
                let dict = self.manager.dict().unwrap();
                let id = self.add(Content::Dict(BTreeMap::new()));
                self.keep(Node::Dict(dict), id);
            }
            Op::NewQueue(bounded) => {
                let bound = bounded.then_some(QUEUE_BOUND);
                let queue = match bound {
                    Some(bound) => self.manager.queue(bound),
                    None => self.manager.unbounded_queue(),
                };
                let id = self.add(Content::Queue(VecDeque::new(), bound));
                self.keep(Node::Queue(queue.unwrap()), id);
            }
            Op::NewSet => {
                let set = self.manager.set().unwrap();
                let id = self.add(Content::Set(BTreeSet::new()));
                self.keep(Node::Set(set), id);
            }
            Op::NewPair => {
                let pair: Pair = self.manager.shared().unwrap();
                let dict = self.add(Content::Dict(BTreeMap::new()));
                let queue = self.add(Content::Queue(VecDeque::new(), None));
                let id = self.add(Content::Pair(dict, queue));
                self.keep(Node::Pair(pair), id);
            }
            Op::Part(n, which) => {
                let Some((Node::Pair(pair), id)) = self.nth(n) else { return };
                let Content::Pair(dict, queue) = self.contents[id] else { panic!("an object of the wrong kind") };
                match which {
                    true => self.keep(Node::Dict(pair.dict.clone()), dict),
                    false => self.keep(Node::Queue(pair.queue.clone()), queue),
                }
            }
            Op::Named(name) => {
                let name = name % 3;
                let dict = self.manager.named(&format!("name {name}")).dict().unwrap();
                let id = match self.names.get(&name) {
                    Some(id) => *id,
                    None => self.add(Content::Dict(BTreeMap::new())),
                };
                self.names.insert(name, id);
                self.keep(Node::Dict(dict), id);
            }
            Op::Unlink(name) => {
                let name = name % 3;
                let unlinked = self.manager.unlink(&format!("name {name}"));
                match self.names.remove(&name) {
                    Some(_) => unlinked.unwrap(),
                    None => assert_eq!(unlinked.unwrap_err().kind(), ErrorKind::NotFound),
                }
            }
            Op::Clone(n) => {
                if let Some((node, id)) = self.nth(n) {
                    self.keep(node, id);
                }
            }
            Op::Drop(n) => {
                if !self.handles.is_empty() {
                    let n = usize::from(n) % self.handles.len();
                    self.handles.swap_remove(n);
                }
            }
            Op::Store(container, key, first, second) => self.store(container, key, first, second),
            Op::Give(container, count) => {
                for key in 0..count % 8 {
                    if self.handles.len() == MOST_HANDLES {
                        self.handles.pop();
                    }
                    self.run(match key % 4 {
                        0 => &Op::NewDict,
                        1 => &Op::NewQueue(true),
                        2 => &Op::NewSet,
                        _ => &Op::NewPair,
                    });
                    let last = self.handles.len() as u8 - 1;
                    self.store(container % last.max(1), key, last, last);
                    self.handles.pop();
                }
            }
            Op::KeepOnly(n) => self.handles = self.nth(n).into_iter().collect(),
            Op::Take(container, key, keep) => self.take(container, key, keep),
            Op::Get(container, key) => {
                let Some((Node::Dict(dict), id)) = self.nth(container) else { return };
                let Content::Dict(entries) = &self.contents[id] else { panic!("an object of the wrong kind") };
                let key = u64::from(key % 8);
                let ids = entries.get(&key).cloned();
                self.same(dict.get(&key).unwrap(), ids, true);
            }
            Op::Clear(container) => {
                match self.nth(container) {
                    Some((Node::Dict(dict), id)) => {
                        dict.clear().unwrap();
                        self.contents[id] = Content::Dict(BTreeMap::new());
                    }
                    Some((Node::Set(set), id)) => {
                        set.clear().unwrap();
                        self.contents[id] = Content::Set(BTreeSet::new());
                    }
                    _ => {}
                }
            }
            Op::Collect => self.compare(),
        }
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let manager = Manager::builder().capacity(CAPACITY).anonymous().unwrap();
    let own = manager.objects().unwrap().len();
    let mut world = World { manager, own, handles: Vec::new(), names: BTreeMap::new(), contents: Vec::new() };
    ops.iter().take(MOST_OPS).for_each(|op| world.run(op));
    world.compare();
    world.manager.check().unwrap();
    world.handles.clear();
    world.compare();
    world.manager.check().unwrap();
});
