//! The parent's side: hires workers, replaces those that die, and puts back the files they leave.
//!
//! Exactly once, whoever is killed and when:
//! 1. A file's outcome is inserted if absent, in one step, and the merge passes every file once: no file counts twice.
//! 2. A file without outcome is in the queue, in a claim, or with neither. A dead worker's claim goes back into the queue.
//!    When the queue and the claims are empty, what has no outcome goes back too: no file is lost.
//! 3. A file that goes back without need is counted again, for nothing, by rule 1. So rule 2 may err on that side.

use std::ops::Range;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use commons::{Error, ErrorKind, Manager, Process, Result};

use crate::killer::Killer;
use crate::worker::{FILES, Outcome, Shared, Task, WORDS, work};

/// How often the parent looks after its workers.
const TICK: Duration = Duration::from_millis(20);
/// Ticks without a task or a claim after which a file without outcome is taken for lost. A worker between `get` and its
/// claim looks the same for a moment.
const QUIET_TICKS: u32 = 3;
/// Deaths without any progress that are not our doing, before we give up: some file may be deadly.
const STRANGE_DEATHS: u32 = 20;

struct Worker {
    id: u64,
    process: Process<Result<(), String>>,
    condemned: bool,
}

/// What went wrong and was put right.
#[derive(Clone, Copy, Default)]
pub struct Ledger {
    /// Workers that we killed.
    pub killed: u64,
    /// Workers that died by another hand.
    pub strange: u64,
    /// Files put back that a dead worker had claimed.
    pub claimed: u64,
    /// Files put back that a worker had taken and died before its claim.
    pub unclaimed: u64,
    /// Dead processes whose half-done operations on the shared memory the parent repaired; workers repair others in passing.
    pub repaired: u64,
}

/// The workers, and what they have left to do.
pub struct Crew<'a> {
    manager: &'a Manager,
    shared: Shared,
    files: &'a [PathBuf],
    workers: Vec<Worker>,
    hired: u64,
    /// Files before this one have been merged.
    merged: u64,
    /// Files that had been done when we last looked, by the running totals.
    done: u64,
    quiet_ticks: u32,
    strange_in_a_row: u32,
    ledger: Ledger,
}

impl<'a> Crew<'a> {
    /// Puts `files` into the queue and hires `count` workers, or as many as there are files.
    pub fn hire(manager: &'a Manager, files: &'a [PathBuf], count: usize) -> Result<Crew<'a>> {
        let mut crew = Crew {
            manager,
            shared: Shared::new(manager)?,
            files,
            workers: Vec::new(),
            hired: 0,
            merged: 0,
            done: 0,
            quiet_ticks: 0,
            strange_in_a_row: 0,
            ledger: Ledger::default(),
        };
        for file in 0..files.len() as u64 {
            crew.enqueue(file)?;
        }
        for _ in 0..count.min(files.len()) {
            let worker = crew.start_worker()?;
            crew.workers.push(worker);
        }
        Ok(crew)
    }

    /// Waits until every file has its outcome and gives each to `merge`, in the order of files; `show` hears of files and
    /// words done so far.
    pub fn run(
        mut self,
        mut killer: Option<Killer>,
        mut merge: impl FnMut(&PathBuf, Outcome),
        show: impl Fn(u64, u64),
    ) -> Result<Ledger> {
        loop {
            while let Some(outcome) = self.shared.outcomes.get(&self.merged)? {
                merge(&self.files[self.merged as usize], outcome);
                self.merged += 1;
            }
            let done = self.total(FILES)?;
            show(done, self.total(WORDS)?);
            if done > self.done {
                self.done = done;
                self.strange_in_a_row = 0;
            }
            if self.merged == self.files.len() as u64 {
                break;
            }
            thread::sleep(killer.as_ref().map_or(TICK, |killer| killer.pause().min(TICK)));
            if let Some(killer) = &mut killer {
                self.kill(killer.victims(self.workers.len(), done))?;
            }
            self.replace_the_dead()?;
            self.put_back_the_lost()?;
        }
        self.shared.tasks.close()?;
        for worker in self.workers {
            // All outcomes are there: how a worker ends does not matter any more, unless it says what is wrong.
            if let Ok(Err(why)) = worker.process.join() {
                return Err(failed(worker.id, why));
            }
        }
        Ok(self.ledger)
    }

    fn start_worker(&mut self) -> Result<Worker> {
        let id = self.hired;
        self.hired += 1;
        let process = Process::builder().kill_with_parent(true).spawn((id, self.shared.clone()), work)?;
        Ok(Worker { id, process, condemned: false })
    }

    fn enqueue(&self, file: u64) -> Result<()> {
        let path = self.files[file as usize].clone().into_os_string();
        self.shared.tasks.put(&Task { file, path })
    }

    fn kill(&mut self, victims: Range<usize>) -> Result<()> {
        for worker in &mut self.workers[victims] {
            if !worker.condemned {
                worker.process.kill()?;
                worker.condemned = true;
                self.ledger.killed += 1;
            }
        }
        Ok(())
    }

    fn replace_the_dead(&mut self) -> Result<()> {
        for index in 0..self.workers.len() {
            let worker = &mut self.workers[index];
            match worker.process.join_timeout(Duration::ZERO) {
                Ok(None) => continue,
                Ok(Some(Ok(()))) => return Err(failed(worker.id, "ended before its work did")),
                Ok(Some(Err(why))) => return Err(failed(worker.id, why)),
                Err(error) if error.kind() != ErrorKind::Process => return Err(error),
                Err(_) if worker.condemned => {}
                Err(error) => {
                    self.ledger.strange += 1;
                    self.strange_in_a_row += 1;
                    if self.strange_in_a_row > STRANGE_DEATHS {
                        return Err(error.within(format!("{STRANGE_DEATHS} deaths in a row")));
                    }
                }
            }
            let dead = worker.id;
            self.ledger.repaired += self.manager.recover()? as u64;
            if let Some(file) = self.shared.claims.pop(&dead)?
                && !self.shared.outcomes.contains(&file)?
            {
                self.enqueue(file)?;
                self.ledger.claimed += 1;
            }
            self.workers[index] = self.start_worker()?;
        }
        Ok(())
    }

    fn put_back_the_lost(&mut self) -> Result<()> {
        if !self.shared.tasks.is_empty()? || !self.shared.claims.is_empty()? {
            self.quiet_ticks = 0;
            return Ok(());
        }
        self.quiet_ticks += 1;
        if self.quiet_ticks < QUIET_TICKS {
            return Ok(());
        }
        for file in self.merged..self.files.len() as u64 {
            if !self.shared.outcomes.contains(&file)? {
                self.enqueue(file)?;
                self.ledger.unclaimed += 1;
            }
        }
        self.quiet_ticks = 0;
        Ok(())
    }

    fn total(&self, key: u64) -> Result<u64> {
        Ok(self.shared.totals.get(&key)?.unwrap_or(0))
    }
}

fn failed(worker: u64, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Process, format!("worker {worker}: {why}"))
}
