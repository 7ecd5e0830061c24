//! What is in a segment: its objects, as [`Manager::objects`] lists them.

use super::Manager;
use crate::error::Result;
use crate::raw::object::{Kind, ObjectId};
use crate::raw::session::Listed;
use crate::raw::{agenda, array, list, ring, table};
use crate::record;

impl Manager {
    /// Every object of the segment.
    pub fn objects(&self) -> Result<Vec<ObjectInfo>> {
        let segment = self.session.segment();
        let info = |listed: Listed| {
            let len = match listed.kind {
                Kind::Dict | Kind::Set | Kind::Namespace => {
                    table::Table::open(segment, listed.root).and_then(|t| t.len(segment)).ok()
                }
                Kind::List => list::List::open(segment, listed.root).and_then(|l| l.len(segment)).ok(),
                Kind::Array | Kind::Block => array::Area::open(segment, listed.root).map(|area| area.len()).ok(),
                Kind::Queue => ring::Ring::open(segment, listed.root).and_then(|r| r.len(segment)).ok(),
                Kind::PriorityQueue | Kind::JoinableQueue => {
                    agenda::Agenda::open(segment, listed.root).and_then(|agenda| agenda.len_at_rest(segment)).ok()
                }
                _ => None,
            };
            let holders = listed.holders.iter().filter_map(|index| segment.pid_of(*index).ok()).collect();
            let type_name = match listed.kind {
                Kind::Record => record::type_name(segment, listed.root).ok(),
                _ => None,
            };
            ObjectInfo { name: listed.name, kind: listed.kind.into(), type_name, len, holders, id: listed.id }
        };
        Ok(self.session.objects()?.into_iter().map(info).collect())
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectKind {
    /// A [`Dict`](crate::Dict).
    Dict,
    /// A [`Queue`](crate::Queue).
    Queue,
    /// A [`Lock`](crate::Lock).
    Lock,
    /// What a worker of a [`Pool`](crate::Pool) says about itself.
    Board,
    /// One end of a pipe: a [`Connection`](crate::Connection).
    Connection,
    /// What is between the ends of a pipe.
    Pipe,
    /// An [`RLock`](crate::RLock).
    RLock,
    /// An [`RwLock`](crate::RwLock).
    RwLock,
    /// A [`Semaphore`](crate::Semaphore), bounded or not.
    Semaphore,
    /// A [`Condition`](crate::Condition).
    Condition,
    /// An [`Event`](crate::Event).
    Event,
    /// A [`Barrier`](crate::Barrier).
    Barrier,
    /// A [`Once`](crate::Once).
    Once,
    /// A type of the user's own, made by [`shared!`](crate::shared!).
    Record,
    /// A [`Set`](crate::Set).
    Set,
    /// A [`Namespace`](crate::Namespace).
    Namespace,
    /// A [`Value`](crate::Value).
    Value,
    /// A [`List`](crate::List).
    List,
    /// An [`Array`](crate::Array).
    Array,
    /// A [`Block`](crate::Block).
    Block,
    /// A [`PriorityQueue`](crate::PriorityQueue).
    PriorityQueue,
    /// A [`JoinableQueue`](crate::JoinableQueue).
    JoinableQueue,
}

/// One object of a [listing](Manager::objects).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What it is.
    pub kind: ObjectKind,
    /// Of a record, the name of its type.
    pub type_name: Option<String>,
    /// Entries or items, where it has any; of an array or a block the bytes.
    pub len: Option<u64>,
    /// The processes that hold it, by process id.
    pub holders: Vec<u32>,
    id: ObjectId,
}

impl ObjectInfo {
    /// Its index in the segment; used again after it is gone.
    pub fn index(&self) -> u32 {
        self.id.index
    }
}

impl From<Kind> for ObjectKind {
    fn from(kind: Kind) -> ObjectKind {
        match kind {
            Kind::Dict | Kind::Directory => ObjectKind::Dict,
            Kind::Queue => ObjectKind::Queue,
            Kind::Lock => ObjectKind::Lock,
            Kind::Set => ObjectKind::Set,
            Kind::Namespace => ObjectKind::Namespace,
            Kind::Value => ObjectKind::Value,
            Kind::List => ObjectKind::List,
            Kind::Array => ObjectKind::Array,
            Kind::Block => ObjectKind::Block,
            Kind::Board => ObjectKind::Board,
            Kind::Connection => ObjectKind::Connection,
            Kind::Pipe => ObjectKind::Pipe,
            Kind::RLock => ObjectKind::RLock,
            Kind::RwLock => ObjectKind::RwLock,
            Kind::Semaphore => ObjectKind::Semaphore,
            Kind::Condition => ObjectKind::Condition,
            Kind::Event => ObjectKind::Event,
            Kind::Barrier => ObjectKind::Barrier,
            Kind::Once => ObjectKind::Once,
            Kind::Record => ObjectKind::Record,
            Kind::PriorityQueue => ObjectKind::PriorityQueue,
            Kind::JoinableQueue => ObjectKind::JoinableQueue,
        }
    }
}
