//! Proves what events and once-made values promise: no setting is missed, and a crashed initialiser hands over.

mod common;

use std::time::Duration;

use common::{FOREVER, end};

use commons::{Attempt, Error, ErrorKind, Event, Manager, Once, Process};

fn manager() -> Manager {
    Manager::new().unwrap()
}

/// Whoever waits when the event is set returns, though it is cleared before the waiter runs.
#[test]
fn set_then_clear_is_not_missed() {
    commons::init_test!();
    fn wait((event, ready): (Event, Event)) -> bool {
        ready.set().unwrap();
        event.wait().unwrap()
    }
    let manager = manager();
    for _ in 0..5 {
        let (event, ready) = (manager.event().unwrap(), manager.event().unwrap());
        let child = Process::spawn((event.clone(), ready.clone()), wait).unwrap();
        ready.wait().unwrap();
        std::thread::sleep(Duration::from_millis(20)); // asleep by now
        event.set().unwrap();
        event.clear().unwrap();
        assert!(child.join().unwrap());
        assert!(!event.is_set().unwrap());
    }
}

#[test]
fn an_event_wakes_all() {
    commons::init_test!();
    fn wait((event, ready): (Event, Event)) {
        ready.set().unwrap();
        assert!(event.wait().unwrap());
    }
    let manager = manager();
    let event = manager.event().unwrap();
    let start = |_| {
        let ready = manager.event().unwrap();
        let child = Process::spawn((event.clone(), ready.clone()), wait).unwrap();
        ready.wait().unwrap();
        child
    };
    let children: Vec<_> = (0..4).map(start).collect();
    event.set().unwrap();
    children.into_iter().for_each(|child| child.join().unwrap());
    manager.check().unwrap();
}

#[test]
fn a_value_is_made_once() {
    commons::init_test!();
    fn make((once, id): (Once<u64>, u64)) -> (u64, bool) {
        let mut made = false;
        let value = once
            .get_or_init(|_| {
                made = true;
                std::thread::sleep(Duration::from_millis(5));
                Ok(id)
            })
            .unwrap();
        (value, made)
    }
    let manager = manager();
    let once = manager.once::<u64>().unwrap();
    assert_eq!(once.get().unwrap(), None);
    let children: Vec<_> = (0..4).map(|id| Process::spawn((once.clone(), id), make).unwrap()).collect();
    let found: Vec<_> = children.into_iter().map(|child| child.join().unwrap()).collect();
    assert_eq!(found.iter().filter(|(_, made)| *made).count(), 1);
    assert!(found.iter().all(|(value, _)| Some(*value) == once.get().unwrap()));
    manager.check().unwrap();
}

/// The initialiser is killed; a waiter that is asleep meanwhile makes the value, and is told.
#[test]
fn a_crashed_initialiser_hands_over() {
    commons::init_test!();
    fn crash((once, ready): (Once<String>, Event)) {
        let _ = once.get_or_init(|_| {
            ready.set().unwrap();
            std::thread::sleep(FOREVER);
            Ok("never".to_owned())
        });
    }
    let manager = manager();
    let (once, ready) = (manager.once::<String>().unwrap(), manager.event().unwrap());
    let child = Process::spawn((once.clone(), ready.clone()), crash).unwrap();
    ready.wait().unwrap();
    assert_eq!(once.get_or_init_timeout(Duration::from_millis(5), |_| unreachable!()).unwrap(), None);
    let elsewhere = once.clone();
    let waiter = std::thread::spawn(move || elsewhere.get_or_init(|attempt| Ok(format!("{attempt:?}"))).unwrap());
    std::thread::sleep(Duration::from_millis(20));
    end(child);
    assert_eq!(waiter.join().unwrap(), format!("{:?}", Attempt::AfterCrash));
    assert!(once.is_done().unwrap());
    manager.check().unwrap();
}

/// An error and a panic leave the value to be made by the next; asking inside the making is an error.
#[test]
fn a_failed_initialiser_hands_over() {
    commons::init_test!();
    let manager = manager();
    let once = manager.once::<u64>().unwrap();
    let failed = once.get_or_init(|_| Err(Error::new(ErrorKind::Closed, "no"))).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Closed);
    let again = once.clone();
    assert!(std::thread::spawn(move || again.get_or_init(|_| panic!("as it should"))).join().is_err());
    let within = once.get_or_init(|_| once.get_or_init(|_| Ok(1))).unwrap_err();
    assert_eq!(within.kind(), ErrorKind::WouldDeadlock);
    let made = once.get_or_init(|attempt| {
        assert_eq!(attempt, Attempt::Clean);
        Ok(9)
    });
    assert_eq!(made.unwrap(), 9);
}

#[test]
fn signals_nest_as_values_and_have_names() {
    commons::init_test!();
    let manager = manager();
    let queue = manager.queue::<(Event, Once<u8>)>(1).unwrap();
    let (event, once) = (manager.named("e").event().unwrap(), manager.named("o").once::<u8>().unwrap());
    queue.put(&(event.clone(), once.clone())).unwrap();
    assert_eq!(queue.get().unwrap(), (event.clone(), once));
    assert_eq!(manager.existing("e").event().unwrap(), event);
    assert_eq!(manager.existing("o").once::<u16>().unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(manager.existing("o").event().unwrap_err().kind(), ErrorKind::TypeMismatch);
    manager.check().unwrap();
}
