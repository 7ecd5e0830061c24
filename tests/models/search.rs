//! The search that every model in this directory is run through.
//!
//! Two questions are asked of a protocol, over *every* state that it can reach:
//!
//! 1. **Safety**, by stateright's breadth-first checker: is a rule broken in any state?
//! 2. **Progress**, by a walk backwards over the same graph: can a finished state still be reached from every state? A
//!    state with no step left that is not finished, and a set of states that can only run in circles, both fail here.
//!    stateright's `eventually` cannot ask this: it looks at terminal states only, and it takes a join for a cycle.
//!
//! Both passes must count the same states, which also rules out a collision of stateright's 64-bit fingerprints.
//!
//! A model is sequentially consistent: one step of one process is one atomic access to shared memory, plus whatever it
//! does to its own. A loop "load; compute; CAS; on failure again" is one step where nothing but the word itself
//! decides: the failed attempts change nothing, and the successful one is the step.

use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;

/// A model together with its rules.
pub trait Protocol:
    Model<State: Clone + Debug + Eq + Hash + Send + Sync, Action: Clone + Debug + PartialEq> + Clone
{
    /// The rule that `state` breaks, if any.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;

    /// Whether `state` is a good end: everyone alive has done what it wanted, and nothing is lost or left over.
    fn finished(&self, state: &Self::State) -> bool;
}

/// What `Model::properties` answers for every protocol: the rules, as one property.
pub fn rules<P: Protocol>() -> Vec<Property<P>> {
    vec![Property::always("no rule is broken", |protocol: &P, state| protocol.broken(state).is_none())]
}

/// What a search found.
pub struct Outcome {
    name: String,
    states: usize,
    fault: Option<Fault>,
}

struct Fault {
    what: String,
    steps: Vec<String>,
    last: String,
}

impl Outcome {
    /// The protocol holds its rules everywhere and can finish from everywhere.
    pub fn assert_clean(self) {
        if let Some(fault) = &self.fault {
            panic!("{}: {}\nsteps:\n  {}\nstate: {}", self.name, fault.what, fault.steps.join("\n  "), fault.last);
        }
        println!("{}: clean, {} states", self.name, self.states);
    }

    /// The mutant is caught, by a fault whose text contains `what`. `MODEL_TRACE=1` prints its steps.
    pub fn assert_caught(self, what: &str) {
        let Some(fault) = &self.fault else { panic!("{}: not caught in {} states", self.name, self.states) };
        let (name, steps, states) = (&self.name, fault.steps.len(), self.states);
        println!("{name}: caught, {} (after {steps} steps, {states} states)", fault.what);
        if std::env::var_os("MODEL_TRACE").is_some() {
            println!("  {}\nstate: {}", fault.steps.join("\n  "), fault.last);
        }
        assert!(fault.what.contains(what), "{name}: expected a fault like {what:?}, found {:?}", fault.what);
    }
}

/// Searches all states of `protocol`; of a mutant, until a rule is broken.
pub fn search<P>(name: &str, protocol: P) -> Outcome
where
    P: Protocol + Send + Sync + 'static,
{
    let name = name.to_string();
    let checker = protocol.clone().checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let states = checker.unique_state_count();
    if let Some(path) = checker.discoveries().into_values().next() {
        let last = path.last_state().clone();
        let what = protocol.broken(&last).expect("a discovery is a broken rule").to_string();
        let steps = path.into_actions().iter().map(|action| format!("{action:?}")).collect();
        return Outcome { name, states, fault: Some(Fault { what, steps, last: format!("{last:?}") }) };
    }
    let graph = Graph::of(&protocol);
    assert_eq!(graph.nodes.len(), states, "{name}: the two passes disagree");
    Outcome { name, states, fault: graph.stuck(&protocol) }
}

/// All reachable states, with the edges reversed.
struct Graph<P: Protocol> {
    nodes: Vec<Node<P>>,
    /// `(to, from)`, sorted.
    edges: Vec<(u32, u32)>,
}

struct Node<P: Protocol> {
    state: P::State,
    /// The first step that led here, and from where; `None` for the start.
    origin: Option<(u32, P::Action)>,
    finished: bool,
    terminal: bool,
}

impl<P: Protocol> Graph<P> {
    fn of(protocol: &P) -> Self {
        let (mut nodes, mut edges) = (Vec::new(), Vec::new());
        let mut index: HashMap<P::State, u32> = HashMap::new();
        let mut add = |nodes: &mut Vec<Node<P>>, state: P::State, origin| {
            *index.entry(state).or_insert_with_key(|state| {
                let finished = protocol.finished(state);
                nodes.push(Node { state: state.clone(), origin, finished, terminal: true });
                nodes.len() as u32 - 1
            })
        };
        for state in protocol.init_states() {
            add(&mut nodes, state, None);
        }
        let mut at = 0;
        while at < nodes.len() {
            for (action, next) in protocol.next_steps(&nodes[at].state) {
                let to = add(&mut nodes, next, Some((at as u32, action)));
                edges.push((to, at as u32));
                nodes[at].terminal = false;
            }
            at += 1;
        }
        edges.sort_unstable();
        Graph { nodes, edges }
    }

    /// A state from which no finished one can be reached: a terminal one if there is any, else the first found.
    fn stuck(&self, protocol: &P) -> Option<Fault> {
        let mut reaches: Vec<bool> = self.nodes.iter().map(|node| node.finished).collect();
        let mut queue: VecDeque<u32> = (0..self.nodes.len() as u32).filter(|&at| reaches[at as usize]).collect();
        while let Some(to) = queue.pop_front() {
            let first = self.edges.partition_point(|edge| edge.0 < to);
            for &(_, from) in self.edges[first..].iter().take_while(|edge| edge.0 == to) {
                if !std::mem::replace(&mut reaches[from as usize], true) {
                    queue.push_back(from);
                }
            }
        }
        let stuck = || (0..self.nodes.len()).filter(|&at| !reaches[at]);
        let example = stuck().find(|&at| self.nodes[at].terminal).or_else(|| stuck().next())?;
        let what = format!("stuck: {} states reach no good end", stuck().count());
        let (mut at, mut steps) = (example, Vec::new());
        while let Some((from, action)) = &self.nodes[at].origin {
            steps.push(format!("{action:?}"));
            at = *from as usize;
        }
        steps.reverse();
        debug_assert!(protocol.init_states().contains(&self.nodes[at].state));
        Some(Fault { what, steps, last: format!("{:?}", self.nodes[example].state) })
    }
}
