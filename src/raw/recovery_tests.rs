//! Proves that a dead process whom no recovery can put right is left alone after the third attempt, and holds up nobody who
//! does not need what it held.

use super::object::Kind;
use super::recovery::{recover, recover_all};
use super::session::Session;
use crate::ErrorKind;
use crate::mem::{Field, Liveness, Op, OpKind, Options};

#[test]
fn what_no_recovery_can_put_right_is_left_alone() {
    let survivor = Session::anonymous(&Options { capacity: 1 << 20, ..Options::default() }).unwrap();
    let victim = survivor.twin().unwrap();
    let record = victim.segment().membership().me().index;
    let me = victim.segment().enter().unwrap_or_else(|_| panic!("nothing is in the way of a newcomer"));
    me.intent.set(Field::Object, 3); // no table is there
    me.intent.set(Field::Op, Op::new(OpKind::TablePut).pack());
    std::mem::forget(me);
    victim.segment().surrender();
    for _ in 0..3 {
        assert_eq!(survivor.segment().liveness(record).unwrap(), Liveness::Dead);
        assert_eq!(recover(survivor.segment(), record).unwrap_err().kind(), ErrorKind::Corrupted);
    }
    assert_eq!(survivor.segment().liveness(record).unwrap(), Liveness::Poisoned);
    recover_all(survivor.segment()).unwrap();
    let id = survivor.create(Kind::Event, 0, super::sync::event::create).unwrap();
    survivor.release(id).unwrap();
}
