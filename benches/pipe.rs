//! Pipes between two processes: a round trip, and a stream in one direction.
//!
//! Rows: `commons`, a connection; `os-pipe`, one kernel pipe for each direction; `unix-socket`, one stream socket for
//! both; and `socket-manager`, two queues in a server process, as Python's users of a manager would do it. For the
//! kernel's rivals a message is one `write` and one `read`.
//!
//! All rows of a group do equal work: one generic function makes the same messages, and the side that gets one checks it.
//!
//! - `round-trip`: 8 bytes to another process, and back. Both sides wait.
//! - `stream`: messages of 8 or 256 bytes to another process, as fast as they go. At the end it tells how many it got;
//!   time is until that has come. The throughput is in messages.
//!
//! Both are there twice: with both processes on one CPU, and with each on its own (the server is on the bench's).

mod support;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group};
use std::any::type_name;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write, pipe};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::id;
use std::time::Instant;
use support::cpu::{self, Cpu};
use support::keys::Numbered;
use support::socket_manager::SocketManager;
use support::socket_server;
use support::worker::{Named, Ready, Worker};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Messages that a connection holds.
const CAPACITY: usize = 256;

/// The message that ends the peer.
const STOP: u64 = u64::MAX;

/// The message that ends a stream.
const LAST: u64 = u64::MAX - 1;

/// Any message of a round trip or a stream.
trait Message: Numbered + IntoBytes + FromBytes + Immutable + 'static {}

impl<M: Numbered + IntoBytes + FromBytes + Immutable + 'static> Message for M {}

/// One end of a pipe in both directions. Failures panic.
trait End<M>: Sized + 'static {
    /// The bench's end, and the running [`entry`] `name` that has the other one.
    fn start(name: &str, play: Play, cpu: Cpu) -> (Self, Worker);

    /// The peer's end, from what `start` passed on.
    fn join(passed: &[u8]) -> Self;

    fn send(&mut self, message: &M);
    fn receive(&mut self) -> M;
}

/// What the peer does with messages.
#[derive(Clone, Copy)]
enum Play {
    Echo,
    Drain,
}

/// The argument of a peer.
fn argument(play: Play, passed: &[u8]) -> Vec<u8> {
    [&[play as u8], passed].concat()
}

/// The peer of an end `E`.
fn entry<M: Message, E: End<M>>() -> Named {
    (type_name::<(M, E)>(), |argument, ready| {
        let (play, passed) = argument.split_first().expect("what to do");
        match *play {
            0 => echo(E::join(passed), ready),
            _ => drain(E::join(passed), ready),
        }
    })
}

fn echo<M: Message>(mut end: impl End<M>, ready: Ready) {
    ready.signal();
    loop {
        let message = end.receive();
        if message.number() == STOP {
            return;
        }
        end.send(&message);
    }
}

/// Numbers of messages in a stream count from 0.
fn drain<M: Message>(mut end: impl End<M>, ready: Ready) {
    ready.signal();
    let mut expected = 0;
    loop {
        match end.receive().number() {
            STOP => return,
            LAST => {
                end.send(&M::numbered(expected));
                expected = 0;
            }
            number => {
                assert_eq!(number, expected);
                expected += 1;
            }
        }
    }
}

/// An end and, in the process that made it, the manager that must outlive it.
struct Commons<C> {
    _manager: Option<commons::Manager>,
    end: C,
}

type Words = commons::Connection<u64>;
type Bytes = commons::Connection<[u8; 256], commons::Pod>;

macro_rules! commons_end {
    ($message:ty, $connection:ty) => {
        impl End<$message> for Commons<$connection> {
            fn start(name: &str, play: Play, cpu: Cpu) -> (Self, Worker) {
                let manager = commons::Manager::new().expect("manager");
                let (ours, theirs): ($connection, $connection) = manager.pipe_with(CAPACITY).expect("pipe");
                let handle = postcard::to_stdvec(&theirs).expect("a handle");
                let worker = Worker::start(name, &argument(play, &handle), cpu);
                (Commons { _manager: Some(manager), end: ours }, worker)
            }

            fn join(passed: &[u8]) -> Self {
                Commons { _manager: None, end: postcard::from_bytes(passed).expect("a connection") }
            }

            fn send(&mut self, message: &$message) {
                self.end.send(message).expect("send");
            }

            fn receive(&mut self) -> $message {
                self.end.recv().expect("recv")
            }
        }
    };
}

commons_end!(u64, Words);
commons_end!([u8; 256], Bytes);

fn read_message<M: Message>(mut from: impl Read) -> M {
    let mut message = M::new_zeroed();
    from.read_exact(message.as_mut_bytes()).expect("read");
    message
}

/// Where to read and to write.
struct OsPipe {
    input: File,
    output: File,
}

impl<M: Message> End<M> for OsPipe {
    fn start(name: &str, play: Play, cpu: Cpu) -> (Self, Worker) {
        let (theirs_in, ours_out) = pipe().expect("pipe");
        let (ours_in, theirs_out) = pipe().expect("pipe");
        // A pipe has no name but that of a descriptor: the peer opens it by that, while this process has it.
        let path = |fd: i32| format!("/proc/{}/fd/{fd}", id());
        let paths = [path(theirs_in.as_raw_fd()), path(theirs_out.as_raw_fd())].join(" ");
        let worker = Worker::start(name, &argument(play, paths.as_bytes()), cpu);
        let (input, output) = (OwnedFd::from(ours_in).into(), OwnedFd::from(ours_out).into());
        (OsPipe { input, output }, worker)
    }

    fn join(passed: &[u8]) -> Self {
        let paths = str::from_utf8(passed).expect("paths");
        let (input, output) = paths.split_once(' ').expect("two paths");
        let input = File::open(input).expect("opening a pipe");
        let output = OpenOptions::new().write(true).open(output).expect("opening a pipe");
        OsPipe { input, output }
    }

    fn send(&mut self, message: &M) {
        self.output.write_all(message.as_bytes()).expect("write");
    }

    fn receive(&mut self) -> M {
        read_message(&self.input)
    }
}

impl<M: Message> End<M> for UnixStream {
    fn start(name: &str, play: Play, cpu: Cpu) -> (Self, Worker) {
        let address = socket_server::new_address();
        let listener = SocketAddr::from_abstract_name(&address)
            .and_then(|name| UnixListener::bind_addr(&name))
            .expect("listening");
        let worker = Worker::start(name, &argument(play, address.as_bytes()), cpu);
        let (stream, _) = listener.accept().expect("the peer's connection");
        (stream, worker)
    }

    fn join(passed: &[u8]) -> Self {
        let address = SocketAddr::from_abstract_name(passed).expect("an address");
        UnixStream::connect_addr(&address).expect("connecting")
    }

    fn send(&mut self, message: &M) {
        self.write_all(message.as_bytes()).expect("write");
    }

    fn receive(&mut self) -> M {
        read_message(self)
    }
}

/// A client and its queues to get from and to put to.
struct SocketQueues {
    manager: SocketManager,
    input: u8,
    output: u8,
}

impl<M: Message> End<M> for SocketQueues {
    fn start(name: &str, play: Play, cpu: Cpu) -> (Self, Worker) {
        let manager = SocketManager::start();
        let worker = Worker::start(name, &argument(play, manager.address().as_bytes()), cpu);
        (SocketQueues { manager, input: 0, output: 1 }, worker)
    }

    fn join(passed: &[u8]) -> Self {
        let manager = SocketManager::connect(str::from_utf8(passed).expect("an address"));
        SocketQueues { manager, input: 1, output: 0 }
    }

    fn send(&mut self, message: &M) {
        self.manager.queue_put(self.output, message.as_bytes());
    }

    fn receive(&mut self) -> M {
        M::read_from_bytes(self.manager.queue_get(self.input)).expect("a message")
    }
}

fn start<M: Message, E: End<M>>(play: Play, cpu: Cpu) -> (E, Worker) {
    E::start(entry::<M, E>().0, play, cpu)
}

fn round_trip<E: End<u64>>(group: &mut BenchmarkGroup<WallTime>, row: &str, cpu: Cpu) {
    let mut pair: Option<(E, Worker)> = None;
    let mut n = 0;
    group.bench_function(row, |bencher| {
        let (end, _) = pair.get_or_insert_with(|| start(Play::Echo, cpu));
        bencher.iter(|| {
            end.send(&n);
            assert_eq!(end.receive(), n);
            n += 1;
        });
    });
    if let Some((mut end, peer)) = pair {
        end.send(&STOP);
        peer.stop();
    }
}

fn stream<M: Message, E: End<M>>(group: &mut BenchmarkGroup<WallTime>, row: &str, cpu: Cpu) {
    let mut pair: Option<(E, Worker)> = None;
    group.bench_function(row, |bencher| {
        let (end, _) = pair.get_or_insert_with(|| start(Play::Drain, cpu));
        bencher.iter_custom(|messages| {
            let start = Instant::now();
            (0..messages).for_each(|n| end.send(&M::numbered(n)));
            end.send(&M::numbered(LAST));
            assert_eq!(end.receive().number(), messages);
            start.elapsed()
        });
    });
    if let Some((mut end, peer)) = pair {
        end.send(&M::numbered(STOP));
        peer.stop();
    }
}

fn streams<M: Message, C: End<M>>(criterion: &mut Criterion, name: &str, cpu: Cpu) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    stream::<M, C>(&mut group, "commons", cpu);
    stream::<M, OsPipe>(&mut group, "os-pipe", cpu);
    stream::<M, UnixStream>(&mut group, "unix-socket", cpu);
    stream::<M, SocketQueues>(&mut group, "socket-manager", cpu);
    group.finish();
}

fn two_processes(criterion: &mut Criterion) {
    for (place, cpu) in [("one-cpu", Some(cpu::home())), ("two-cpus", cpu::away())] {
        let Some(cpu) = cpu else { continue };
        let mut group = criterion.benchmark_group(format!("pipe/round-trip/{place}"));
        round_trip::<Commons<Words>>(&mut group, "commons", cpu);
        round_trip::<OsPipe>(&mut group, "os-pipe", cpu);
        round_trip::<UnixStream>(&mut group, "unix-socket", cpu);
        round_trip::<SocketQueues>(&mut group, "socket-manager", cpu);
        group.finish();
        streams::<u64, Commons<Words>>(criterion, &format!("pipe/stream/8B/{place}"), cpu);
        streams::<[u8; 256], Commons<Bytes>>(criterion, &format!("pipe/stream/256B/{place}"), cpu);
    }
}

criterion_group!(name = benches; config = support::criterion(); targets = two_processes);

/// The peers for messages `M`, with the commons one by `C`.
fn peers<M: Message, C: End<M>>() -> [Named; 4] {
    [entry::<M, C>(), entry::<M, OsPipe>(), entry::<M, UnixStream>(), entry::<M, SocketQueues>()]
}

fn main() {
    commons::init();
    support::init(&[peers::<u64, Commons<Words>>(), peers::<[u8; 256], Commons<Bytes>>()].concat());
    benches();
}
