//! Events that wait for the controller, as status and heartbeats tell.

use crate::world::{World, wish};
use phonefleet_agent::status::StatusSource as _;
use phonefleet_link::transport::Incoming;
use phonefleet_protocol::desired::Wish;
use phonefleet_protocol::host::Heartbeat;
use phonefleet_protocol::topic::Channel;

const NEWEST: &str = "SELECT max(seq) FROM event_outbox";
const WRITTEN: &str = "SELECT acknowledged FROM stream_log";

#[tokio::test(start_paused = true)]
async fn what_the_controller_has_is_not_told_as_waiting() {
    let world = World::start().await;
    let host = "h1".parse().unwrap();
    let (_ear, mut heartbeats) = world.broker.connect("ear", &[&Channel::Telemetry.of(&host)], None);
    world.reach(&wish(1, 1, Wish::Running)).await;
    let agent = world.handle.as_ref().unwrap();
    let newest = u64::try_from(world.count(NEWEST)).unwrap();
    world
        .until("the last word of the controller", |_| {
            (agent.conversation()?.acknowledged == newest).then_some(())
        })
        .await;

    // That word is written along with other work, or after 10 s: otherwise this would show nothing.
    assert!(u64::try_from(world.count(WRITTEN)).unwrap() < newest);
    let snapshot = agent.snapshot().await.unwrap();
    assert_eq!((snapshot.outbox_pending, snapshot.outbox_oldest), (0, None));

    while heartbeats.try_recv().is_ok() {}
    let beat = loop {
        if let Incoming::Message { payload, .. } = heartbeats.recv().await.unwrap() {
            break serde_json::from_slice::<Heartbeat>(&payload).unwrap();
        }
    };
    assert_eq!((beat.phones_running, beat.outbox_pending), (1, 0));
    assert!(u64::try_from(world.count(WRITTEN)).unwrap() < newest, "the heartbeat came too late to show it");
}

#[tokio::test(start_paused = true)]
async fn what_the_controller_has_not_heard_of_waits() {
    let world = World::start().await;
    world.reach(&wish(1, 1, Wish::Running)).await;
    let agent = world.handle.as_ref().unwrap();
    let before = u64::try_from(world.count(NEWEST)).unwrap();
    world.until("quiet", |_| (agent.conversation()?.acknowledged == before).then_some(())).await;
    world.broker.cut("h1");
    let died = world.now();
    world.machine.die(crate::world::device(1), 137);
    let told = world
        .until("events of its death", |world| {
            let newest = u64::try_from(world.count(NEWEST)).unwrap();
            (newest > before).then_some(newest)
        })
        .await;
    let snapshot = agent.snapshot().await.unwrap();
    assert_eq!(snapshot.outbox_pending, told - before);
    assert!(snapshot.outbox_oldest.unwrap() >= died);
}
