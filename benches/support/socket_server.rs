//! The server of the [socket manager](super::socket_manager): a process of its own, a thread per connection.
//!
//! A dict is a mutex around a `HashMap` with the hash function of the dashmap rows; a queue or a lock is a
//! mutex with a condition variable. What a connection holds is released when it ends, so a killed client blocks
//! nobody, as with the rivals in shared memory that can say so. The process is killed with the bench.

use super::cpu;
use super::frame::{FrameReader, Operation, Reply, Request, Status};
use super::worker::{Named, Ready, Worker};
use foldhash::fast::RandomState;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{process, str, thread};

/// To be among the entries of every bench.
pub const ENTRY: Named = ("socket-server", serve);

/// Dicts, queues and locks there are of each.
const OBJECTS: usize = 4;

/// Starts a server process on the CPU of the bench; returns its address once it accepts connections there.
pub fn start() -> (String, Worker) {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let count = STARTED.fetch_add(1, Ordering::Relaxed);
    // Processes of other namespaces may share the socket's; the time tells apart those with equal ids.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let address = format!("commons-bench-{}-{count}-{now:x}", process::id());
    let server = Worker::start(ENTRY.0, address.as_bytes(), cpu::home());
    (address, server)
}

fn serve(address: Vec<u8>, ready: Ready) {
    let listener = SocketAddr::from_abstract_name(&address)
        .and_then(|name| UnixListener::bind_addr(&name))
        .unwrap_or_else(|error| panic!("binding {:?}: {error}", str::from_utf8(&address)));
    ready.signal();
    let state: &'static State = Box::leak(Box::default());
    for stream in listener.incoming() {
        let stream = stream.expect("accepting a connection");
        thread::spawn(move || Connection { state, held: [false; OBJECTS] }.serve(&stream));
    }
}

type Dict = Mutex<HashMap<Box<[u8]>, Vec<u8>, RandomState>>;

/// All objects. A client names them by their index.
#[derive(Default)]
struct State {
    dicts: [Dict; OBJECTS],
    queues: [Queue; OBJECTS],
    locks: [Lock; OBJECTS],
}

#[derive(Default)]
struct Queue {
    items: Mutex<VecDeque<Vec<u8>>>,
    filled: Condvar,
}

#[derive(Default)]
struct Lock {
    taken: Mutex<bool>,
    released: Condvar,
}

impl Queue {
    fn put(&self, item: &[u8]) {
        let item = item.to_vec();
        self.items.lock().push_back(item);
        self.filled.notify_one();
    }

    fn get(&self) -> Vec<u8> {
        let mut items = self.items.lock();
        loop {
            match items.pop_front() {
                Some(item) => return item,
                None => self.filled.wait(&mut items),
            }
        }
    }
}

impl Lock {
    fn acquire(&self) {
        let mut taken = self.taken.lock();
        self.released.wait_while(&mut taken, |taken| *taken);
        *taken = true;
    }

    fn release(&self) {
        *self.taken.lock() = false;
        self.released.notify_one();
    }
}

/// What the thread of one connection knows.
struct Connection {
    state: &'static State,
    /// Locks that this connection holds.
    held: [bool; OBJECTS],
}

impl Connection {
    /// Answers requests until the client is gone or talks nonsense.
    fn serve(mut self, mut stream: &UnixStream) {
        let mut requests = FrameReader::new();
        let mut reply = Reply::new();
        let mut answer = || -> io::Result<()> {
            let request = Request::decode(requests.next(stream)?)?;
            reply.clear();
            let status = self.execute(&request, &mut reply)?;
            stream.write_all(reply.finish(status))
        };
        while answer().is_ok() {}
    }

    fn execute(&mut self, request: &Request, reply: &mut Reply) -> io::Result<Status> {
        let Request { operation, object, key, value } = *request;
        let index = usize::from(object);
        if index >= OBJECTS {
            return Ok(Status::Refused);
        }
        let (dict, queue, lock) = (&self.state.dicts[index], &self.state.queues[index], &self.state.locks[index]);
        match operation {
            Operation::Ping => {}
            Operation::DictGet => match dict.lock().get(key) {
                Some(value) => reply.extend(value),
                None => return Ok(Status::Absent),
            },
            Operation::DictSet => {
                let mut dict = dict.lock();
                match dict.get_mut(key) {
                    Some(old) => value.clone_into(old),
                    None => drop(dict.insert(key.into(), value.into())),
                }
            }
            Operation::DictRemove => {
                if dict.lock().remove(key).is_none() {
                    return Ok(Status::Absent);
                }
            }
            Operation::DictLen => reply.extend(&(dict.lock().len() as u64).to_le_bytes()),
            Operation::DictClear => *dict.lock() = HashMap::default(),
            Operation::QueuePut => queue.put(value),
            Operation::QueueGet => reply.extend(&queue.get()),
            Operation::LockAcquire if self.held[index] => return Ok(Status::Refused),
            Operation::LockAcquire => {
                lock.acquire();
                self.held[index] = true;
            }
            Operation::LockRelease if !self.held[index] => return Ok(Status::Refused),
            Operation::LockRelease => {
                self.held[index] = false;
                lock.release();
            }
        }
        Ok(Status::Done)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for (lock, held) in self.state.locks.iter().zip(self.held) {
            if held {
                lock.release();
            }
        }
    }
}
