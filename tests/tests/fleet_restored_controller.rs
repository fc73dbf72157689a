//! A controller that comes back from a backup counts on from old numbers: what its hosts
//! answered to a time that is lost is no answer to an order of now.

use phonefleet_controller::order::Verb;
use phonefleet_controller::store::device::Status;
use phonefleet_controller::store::saga::SagaStatus;
use phonefleet_link::memory::Fate;
use phonefleet_protocol::id::DeviceId;
use phonefleet_protocol::stream::Message;
use phonefleet_tests::database_copy::DatabaseCopy;
use phonefleet_tests::fleet::{Fleet, spec};
use std::time::Duration;
use tokio::time::sleep;

/// A phone that runs, at a controller that has lost these orders about it, and whose host has
/// not been heard since.
async fn after_a_lost_time(lost: &[Verb]) -> (Fleet, DeviceId) {
    let fleet = Fleet::start(1).await;
    let order = fleet.create("phone", spec(&[])).await;
    assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
    let id = order.device.device_id;
    sleep(Duration::from_secs(15)).await;
    fleet.controller.stop();
    sleep(Duration::from_secs(1)).await;
    let saved = DatabaseCopy::of(&fleet.controller.database);
    fleet.controller.release();
    for verb in lost {
        let order = fleet.verb(id, *verb).await;
        assert_eq!(fleet.ended(&order.saga_id).await.status, SagaStatus::Completed);
    }
    sleep(Duration::from_secs(15)).await;
    fleet.hosts[0].agent.stop();
    fleet.controller.stop();
    sleep(Duration::from_secs(1)).await;
    saved.put_back();
    fleet.controller.release();
    (fleet, id)
}

fn runs(fleet: &Fleet, id: DeviceId) -> bool {
    fleet.hosts[0].machine.phone(id).is_some_and(|phone| phone.is_running())
}

/// The host is heard, with all that it answered in the lost time, but does not get one item:
/// whatever ends meanwhile ends by an answer to something else.
#[tokio::test(start_paused = true)]
async fn an_order_of_now_is_not_ended_by_an_answer_of_a_lost_time() {
    for orders in [&[Verb::Stop][..], &[Verb::Delete], &[Verb::Stop, Verb::Delete]] {
        let (fleet, id) = after_a_lost_time(&[Verb::Stop, Verb::Start, Verb::Stop, Verb::Start]).await;
        let mut accepted = Vec::new();
        for verb in orders {
            accepted.push(fleet.verb(id, *verb).await);
        }
        let before = fleet.controller.count("SELECT through FROM inbox_cursor");
        fleet.broker.set_fate(|message| match Message::decode(&message.payload) {
            Ok(Message::Frame(frame)) if message.topic.ends_with("/down") && !frame.items.is_empty() => {
                Fate::Drop
            }
            _ => Fate::Deliver,
        });
        fleet.hosts[0].agent.release();
        fleet
            .until("the host's answers are applied", || async {
                let last = fleet.hosts[0].agent.count("SELECT max(seq) FROM event_outbox");
                fleet.controller.count("SELECT through FROM inbox_cursor") == last && last > before
            })
            .await;
        sleep(Duration::from_secs(20)).await;
        assert!(runs(&fleet, id), "{orders:?}: it was never told to stop");
        for order in &accepted {
            let saga = fleet.saga(&order.saga_id).await;
            assert_ne!(saga.status, SagaStatus::Completed, "{orders:?}, while the phone runs: {saga:?}");
        }
        assert_ne!(fleet.device(id).await.status, Status::Deleted, "{orders:?}");
        assert_eq!(
            fleet.controller.count("SELECT count(*) FROM quota_reservation"),
            2,
            "{orders:?}: it exists, and it runs"
        );

        fleet.broker.set_fate(|_| Fate::Deliver);
        let last = accepted.last().expect("there is an order");
        assert_eq!(fleet.ended(&last.saga_id).await.status, SagaStatus::Completed, "{orders:?}");
        assert!(!runs(&fleet, id), "{orders:?}: ended, and the phone runs");
        let deletion = fleet.verb(id, Verb::Delete).await;
        assert_eq!(fleet.ended(&deletion.saga_id).await.status, SagaStatus::Completed);
        fleet.until_clean().await;
    }
}
