//! Single stories: bugs that the properties found once, and what they cannot tell apart.

use crate::channel::Side::{self, Agent, Controller};
use crate::history::Action;
use crate::properties::REST;
use crate::world::World;

const CLEAN: [&str; 0] = [];

fn flow(seconds: u32) -> Action {
    Action::Flow { milliseconds: seconds * 1000 }
}

fn write(side: Side, which: u8, key: u8, times: u8) -> Action {
    Action::Write { side, which, key, times, remove: false }
}

/// Two sides that know each other, at rest.
fn acquainted() -> World {
    let mut world = World::new(2, true, None);
    world.act(&flow(5));
    world
}

fn rest(world: &mut World) -> u64 {
    let (said, _) = world.settle(REST);
    world.test_at_rest();
    assert_eq!(world.violations(), CLEAN);
    said
}

/// The end that was answered first used to repeat its hello for ever: nobody told it that it
/// was heard.
#[test]
fn hellos_come_to_an_end() {
    let mut world = World::new(2, true, None);
    world.act(&Action::Forget { to: Controller });
    assert!(rest(&mut world) <= 10);
    world.act(&Action::Crash { side: Agent, which: 0 });
    assert!(rest(&mut world) <= 10);
}

/// Clones on both sides used to take each other's answers for new hellos, at network speed.
#[test]
fn clones_are_no_storm() {
    for sides in [&[Agent][..], &[Controller], &Side::BOTH] {
        let mut world = acquainted();
        for side in Side::BOTH {
            world.act(&write(side, 0, 0, 12));
        }
        world.act(&flow(5));
        for &side in sides {
            world.act(&Action::Clone { side, backup: false });
        }
        for key in 0..5 {
            for (side, which) in [(Agent, 0), (Agent, 1), (Controller, 0), (Controller, 1)] {
                world.act(&write(side, which, key, 1));
            }
            let said = world.said();
            world.act(&flow(10));
            assert!(world.said() - said < 100, "{sides:?}: {} messages", world.said() - said);
        }
        for (side, which) in [(Agent, 0), (Agent, 1), (Controller, 0), (Controller, 1)] {
            world.act(&Action::Connect { side, which });
        }
        let said = world.said();
        world.act(&flow(60));
        assert!(world.said() - said < 120, "{sides:?}: {} messages", world.said() - said);
        world.heal(0, true);
        rest(&mut world);
    }
}

/// Retention went by the old acknowledgement when a restored receiver was being replayed, and
/// freed the rows under the sender, which then said nothing more, not even acknowledgements.
#[test]
fn what_is_replayed_is_kept() {
    let mut world = acquainted();
    world.act(&Action::Backup { side: Controller, which: 0 });
    world.act(&write(Agent, 0, 0, 6));
    world.act(&flow(5));
    let epoch = world.database(Agent).log_head().epoch;
    world.act(&Action::Restore { side: Controller, which: 0, pick: 1 });
    // The agent hears of it; what it sends is lost until retention has come by.
    world.act(&Action::Partition { to: Controller, partitioned: true });
    world.act(&Action::Flow { milliseconds: 100 });
    world.act(&Action::Prune { side: Agent, which: 0, keep: 0 });
    world.act(&Action::Partition { to: Controller, partitioned: false });
    rest(&mut world);
    assert_eq!(world.database(Agent).log_head().epoch, epoch, "replayed, without a fork");
}

/// Rows that were freed all the same are found missing, and acknowledgements go on.
#[test]
fn rows_that_vanish_are_a_fork() {
    let mut world = acquainted();
    world.act(&Action::Partition { to: Controller, partitioned: true });
    world.act(&write(Agent, 0, 0, 6));
    let head = world.database(Agent).log_head();
    world.database(Agent).acknowledged = head.last - 1;
    world.database(Agent).prune(0);
    world.database(Agent).acknowledged = 2;
    world.act(&write(Controller, 0, 0, 1));
    world.act(&Action::Partition { to: Controller, partitioned: false });
    rest(&mut world);
    assert_ne!(world.database(Agent).log_head().epoch, head.epoch);
}

/// A session that was refused begins when it is admitted: its cursor is the truth then, though
/// its hello was heard before.
#[test]
fn a_refused_session_begins_when_it_is_admitted() {
    let mut world = acquainted();
    world.act(&write(Agent, 0, 0, 3));
    world.act(&flow(5));
    world.database(Agent).refuses = true;
    world.act(&Action::Empty { side: Controller, which: 0 });
    world.act(&Action::Deliver {
        to: Agent,
        picks: vec![(0, true)],
        outcome: crate::history::Outcome::Commits,
    });
    world.database(Agent).refuses = false;
    rest(&mut world);
}

/// A log that was given up behind the endpoint's back, as by an operator, is told from the start.
#[test]
fn another_epoch_is_told_from_its_beginning() {
    let mut world = acquainted();
    world.act(&write(Agent, 0, 0, 6));
    world.act(&flow(5));
    world.fork(Agent);
    rest(&mut world);
}
