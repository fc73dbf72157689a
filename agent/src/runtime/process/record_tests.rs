//! What a folder says of its phone.

use super::*;
use crate::runtime::Privilege;

fn spec(name: &str, data: &Path) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        image: "phonesim".to_owned(),
        command: vec!["ro.x=1".to_owned()],
        labels: BTreeMap::from([(LABEL_HOST.to_owned(), "h1".to_owned())]),
        memory_bytes: 1,
        nano_cpus: 1,
        pids_limit: 1,
        shm_bytes: 1,
        open_files: (1, 1),
        bind: "127.0.0.1".parse().unwrap(),
        adb_port: 20_000,
        data_dir: data.to_owned(),
        privilege: Privilege::None,
    }
}

fn state(records: &Records, id: &str) -> ContainerState {
    records.find(id).unwrap().unwrap().state
}

#[test]
fn a_phone_is_found_by_id_and_name_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::new(&folder.path().join("processes"));
    let host: HostId = "h1".parse().unwrap();
    assert!(records.all(&host).unwrap().is_empty());
    let record = Record::of(&spec("phone-1", folder.path()));
    let id = records.create(&record).unwrap();
    assert_eq!(records.find(&id).unwrap().unwrap().record, record);
    assert_eq!(records.find("phone-1").unwrap().unwrap().record, record);
    let again = Record::of(&spec("phone-1", folder.path()));
    assert_eq!(records.create(&again), Err(EngineError::NameTaken("phone-1".into())));
    assert_eq!(records.all(&host).unwrap().len(), 1);
    assert!(records.all(&"h2".parse().unwrap()).unwrap().is_empty());
    let found = records.find(&id).unwrap().unwrap();
    records.remove(&found).unwrap();
    records.remove(&found).unwrap();
    assert!(records.find(&id).unwrap().is_none());
    // Its successor is another one.
    records.create(&again).unwrap();
    assert!(records.find(&id).unwrap().is_none());
    assert_eq!(fs::read_dir(&records.folder).unwrap().count(), 1, "no drafts are left");
}

#[test]
fn the_state_follows_from_lock_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::new(folder.path());
    let id = records.create(&Record::of(&spec("phone-1", folder.path()))).unwrap();
    let place = records.find(&id).unwrap().unwrap().folder;
    assert_eq!(state(&records, &id), ContainerState::Created);
    fs::write(place.join("lock"), "").unwrap();
    assert_eq!(state(&records, &id), ContainerState::Created);
    fs::write(place.join("init"), "1 0\n").unwrap();
    // Nobody saw it end: the machine went down, or its supervisor was killed.
    assert_eq!(state(&records, &id), ContainerState::Exited { code: 137, out_of_memory: false });
    fs::write(place.join("ended"), "129\n").unwrap();
    assert_eq!(state(&records, &id), ContainerState::Exited { code: 129, out_of_memory: false });
}

#[test]
fn names_lead_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::new(&folder.path().join("processes"));
    for name in ["", ".", "..", "../x", "a/b", ".new-x", "a\0", &"x".repeat(300)] {
        assert!(records.find(name).unwrap().is_none(), "{name:?}");
        let created = records.create(&Record::of(&spec(name, folder.path())));
        assert!(matches!(created, Err(EngineError::Refused(_))), "{name:?}");
    }
    let gone = folder.path().join("gone");
    let created = records.create(&Record::of(&spec("phone-1", &gone)));
    assert!(matches!(created, Err(EngineError::Refused(why)) if why.contains("gone")));
}

#[test]
fn a_torn_record_is_no_reason_to_forget_a_phone() {
    let folder = tempfile::tempdir().unwrap();
    let records = Records::new(folder.path());
    fs::create_dir(folder.path().join("phone-1")).unwrap();
    fs::write(folder.path().join("phone-1").join(RECORD), "{").unwrap();
    assert!(matches!(records.find("phone-1"), Err(EngineError::Unavailable(_))));
}
