//! The controller's database is removed, or overwritten, under it or while it is down. Nothing
//! makes good for quota, users' devices and sagas but a backup: it ends, says so, does not start
//! without one, and leaves what there is as it is. Phones run on.

use crate::MINUTE;
use phonefleet_store::rusqlite::Connection;
use phonefleet_tests::real::{HostOptions, World, WorldOptions, until};
use std::fs;
use std::path::{Path, PathBuf};

/// Waits until the controller has ended by itself; what it said in this run.
fn controller_ends(world: &mut World, said_before: usize) -> String {
    until("the controller ends by itself", MINUTE, || {
        // Whoever asks it something may be the one that makes it notice.
        let _ = world.api.try_call("GET", "/devices", None, None);
        match world.controller.ended() {
            Some(status) if !status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    world.controller.kill(); // only its remains
    world.controller.output().split_off(said_before)
}

/// Starts it where it must refuse; what it said.
fn refuses_to_start(world: &mut World) -> String {
    let said_before = world.controller.output().len();
    world.controller.start_again();
    controller_ends(world, said_before)
}

/// The files of a database, as they are.
fn files(database: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let all = ["", "-wal"].map(|beside| PathBuf::from(format!("{}{beside}", database.display())));
    // A log without anything in it is as good as none.
    let read =
        |file: PathBuf| fs::read(&file).ok().filter(|bytes| !bytes.is_empty()).map(|bytes| (file, bytes));
    all.into_iter().filter_map(read).collect()
}

fn unchanged(database: &Path, before: &[(PathBuf, Vec<u8>)]) {
    let now = files(database);
    let sizes = |files: &[(PathBuf, Vec<u8>)]| -> Vec<_> {
        files.iter().map(|(file, bytes)| (file.clone(), bytes.len())).collect()
    };
    assert_eq!(sizes(&now), sizes(before));
    assert!(now == before, "something was changed");
}

fn remove(database: &Path) {
    for beside in ["", "-wal", "-shm"] {
        // Whichever there are.
        let _ = fs::remove_file(format!("{}{beside}", database.display()));
    }
}

/// As the manual says: the files away, the backup in their place, a start.
fn restore(world: &mut World, backup: &Path) {
    let database = world.folder.join("controller.db");
    remove(&database);
    fs::copy(backup, &database).expect("the backup in its place");
    world.controller.start_again();
    world.until_ready();
    let host = world.host().id.clone();
    world.until_online(&host);
}

#[test]
fn a_controller_that_has_lost_its_database_waits_for_a_backup() {
    let Some(mut world) = World::without_hosts(&WorldOptions::default()) else { return };
    world.add_host(&HostOptions { first_port: 26_700, ..HostOptions::default() });
    let phone = world.phone("phone");
    world.at_rest();
    let witness = world.witness(&phone);
    let database = world.folder.join("controller.db");
    let backup = world.folder.join("backup.db");
    let connection = Connection::open(&database).expect("the controller's database");
    connection.execute("VACUUM INTO ?1", [backup.to_str().expect("a path")]).expect("a backup");
    drop(connection);

    let said_before = world.controller.output().len();
    remove(&database);
    let told = controller_ends(&mut world, said_before);
    assert!(told.contains("removed or replaced"), "{told}");
    let told = refuses_to_start(&mut world);
    assert!(told.contains("is gone") && told.contains("a backup of it"), "{told}");
    assert!(!database.exists(), "an empty one was begun");
    restore(&mut world, &backup);
    world.at_rest();
    assert_eq!(world.witness(&phone), witness);

    // Overwritten while it runs; then it is refused, too.
    let said_before = world.controller.output().len();
    let length = fs::metadata(&database).expect("the database").len();
    fs::write(&database, vec![0x5a; length as usize]).expect("overwritten");
    let told = controller_ends(&mut world, said_before);
    assert!(told.contains("start again from the disk"), "{told}");
    let before = files(&database);
    let told = refuses_to_start(&mut world);
    assert!(told.contains("is damaged") && told.contains("put a backup in its place"), "{told}");
    unchanged(&database, &before);
    restore(&mut world, &backup);
    world.at_rest();

    // Pages of its middle, while it is down.
    assert!(world.controller.end(MINUTE).success());
    let mut bytes = fs::read(&database).expect("the database");
    bytes[4096..3 * 4096].fill(0);
    fs::write(&database, &bytes).expect("damaged");
    let before = files(&database);
    let told = refuses_to_start(&mut world);
    assert!(told.contains("is damaged"), "{told}");
    unchanged(&database, &before);
    restore(&mut world, &backup);
    world.at_rest();

    assert_eq!(world.witness(&phone), witness);
    let again = world.phone("after-all-of-it");
    for device in [phone.id, again.id] {
        world.do_verb(&device, "delete");
    }
    world.clean();
}
