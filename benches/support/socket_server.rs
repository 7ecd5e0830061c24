//! The server of the [socket manager](super::socket_manager): a process of its own, a thread per connection.
//!
//! What it keeps are the [objects](super::socket_objects). What a connection holds is released when it ends, so a killed
//! client blocks nobody, as with the rivals in shared memory that can say so. The process is killed with the bench.

use super::cpu;
use super::frame::{FrameReader, Operation, Reply, Request, Status};
use super::socket_objects::{Objects, State};
use super::worker::{Named, Ready, Worker};
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{process, str, thread};

/// To be among the entries of every bench.
pub const ENTRY: Named = ("socket-server", serve);

/// Starts a server process on the CPU of the bench; returns its address once it accepts connections there.
pub fn start() -> (String, Worker) {
    let address = new_address();
    let server = Worker::start(ENTRY.0, address.as_bytes(), cpu::home());
    (address, server)
}

/// A name in the abstract namespace of sockets that nobody else uses.
pub fn new_address() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let count = MADE.fetch_add(1, Ordering::Relaxed);
    // Processes of other namespaces may share the socket's; the time tells apart those with equal ids.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("commons-bench-{}-{count}-{now:x}", process::id())
}

fn serve(address: Vec<u8>, ready: Ready) {
    let listener = SocketAddr::from_abstract_name(&address)
        .and_then(|name| UnixListener::bind_addr(&name))
        .unwrap_or_else(|error| panic!("binding {:?}: {error}", str::from_utf8(&address)));
    ready.signal();
    let state: &'static State = Box::leak(Box::default());
    for stream in listener.incoming() {
        let stream = stream.expect("accepting a connection");
        thread::spawn(move || Connection { state, held: Default::default() }.serve(&stream));
    }
}

/// How often a connection holds a lock.
#[derive(Clone, Copy, Default)]
struct Holds {
    lock: bool,
    reentrant: u32,
    read: bool,
    write: bool,
}

/// What the thread of one connection knows.
struct Connection {
    state: &'static State,
    /// What this connection holds of the objects with each index.
    held: Objects<Holds>,
}

impl Connection {
    /// Answers requests until the client is gone or talks nonsense.
    fn serve(mut self, mut stream: &UnixStream) {
        let mut requests = FrameReader::new();
        let mut reply = Reply::new();
        let mut answer = || -> io::Result<()> {
            let request = Request::decode(requests.next(stream)?)?;
            reply.clear();
            let status = self.execute(&request, &mut reply).unwrap_or(Status::Refused);
            stream.write_all(reply.finish(status))
        };
        while answer().is_ok() {}
    }

    /// `None` if the request makes no sense.
    fn execute(&mut self, request: &Request, reply: &mut Reply) -> Option<Status> {
        let Request { operation, object, key, value } = *request;
        let index = usize::from(object);
        let State { dicts, sets, lists, values, queues, heaps, events, semaphores, barriers, .. } = self.state;
        let found = match operation {
            Operation::Ping => true,
            Operation::DictGet => dicts.get(index)?.get(key, reply),
            Operation::DictSet => dicts.get(index)?.set(key, value),
            Operation::DictRemove => dicts.get(index)?.remove(key),
            Operation::DictLen => dicts.get(index)?.len(reply),
            Operation::DictClear => dicts.get(index)?.clear(),
            Operation::SetInsert => sets.get(index)?.insert(key),
            Operation::SetContains => sets.get(index)?.contains(key),
            Operation::SetClear => sets.get(index)?.clear(),
            Operation::ListPush => lists.get(index)?.push(value),
            Operation::ListGet => lists.get(index)?.get(number(key)?, reply),
            Operation::ListSet => lists.get(index)?.set(number(key)?, value),
            Operation::ListSnapshot => lists.get(index)?.snapshot(reply),
            Operation::ListClear => lists.get(index)?.clear(),
            Operation::ValueLoad => values.get(index)?.load(reply),
            Operation::ValueStore => values.get(index)?.store(number(value)?),
            Operation::ValueAdd => values.get(index)?.add(number(value)?, reply),
            Operation::QueuePut => queues.get(index)?.put(value),
            Operation::QueueGet => queues.get(index)?.get(reply),
            Operation::HeapPut => heaps.get(index)?.put(number(key)?, value),
            Operation::HeapGet => heaps.get(index)?.get(reply),
            Operation::SemaphoreAcquire => semaphores.get(index)?.acquire(),
            Operation::SemaphoreRelease => semaphores.get(index)?.release(),
            Operation::EventSet => events.get(index)?.set(),
            Operation::EventClear => events.get(index)?.clear(),
            Operation::EventIsSet => events.get(index)?.is_set(),
            Operation::BarrierWait => barriers.get(index)?.wait(),
            _ => self.lock_or_release(operation, index)?,
        };
        Some(if found { Status::Done } else { Status::Absent })
    }

    /// The operations on what has a holder.
    fn lock_or_release(&mut self, operation: Operation, index: usize) -> Option<bool> {
        let held = self.held.get_mut(index)?;
        let (lock, reentrant) = (&self.state.locks[index], &self.state.reentrant[index]);
        let shared = &self.state.shared[index];
        match operation {
            Operation::LockAcquire if !held.lock => {
                lock.acquire();
                held.lock = true;
            }
            Operation::LockRelease if held.lock => {
                held.lock = false;
                lock.release();
            }
            Operation::LockWait if held.lock => lock.wait(),
            Operation::LockNotify if held.lock => lock.notify(),
            Operation::ReentrantAcquire => {
                if held.reentrant == 0 {
                    reentrant.acquire();
                }
                held.reentrant += 1;
            }
            Operation::ReentrantRelease if held.reentrant > 0 => {
                held.reentrant -= 1;
                if held.reentrant == 0 {
                    reentrant.release();
                }
            }
            Operation::ReadAcquire if !held.read && !held.write => {
                shared.acquire_read();
                held.read = true;
            }
            Operation::ReadRelease if held.read => {
                held.read = false;
                shared.release_read();
            }
            Operation::WriteAcquire if !held.read && !held.write => {
                shared.acquire_write();
                held.write = true;
            }
            Operation::WriteRelease if held.write => {
                held.write = false;
                shared.release_write();
            }
            _ => return None,
        }
        Some(true)
    }
}

/// A number of eight bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

impl Drop for Connection {
    fn drop(&mut self) {
        for (index, held) in self.held.iter().enumerate() {
            if held.lock {
                self.state.locks[index].release();
            }
            if held.reentrant > 0 {
                self.state.reentrant[index].release();
            }
            if held.read {
                self.state.shared[index].release_read();
            }
            if held.write {
                self.state.shared[index].release_write();
            }
        }
    }
}
