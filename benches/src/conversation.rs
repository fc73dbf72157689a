//! One end of a conversation over the broker in memory.

use phonefleet_link::conversation::ConversationOptions;
use phonefleet_link::{Conversation, ConversationHandle, Domain, Incoming, MemoryBroker};
use phonefleet_protocol::host::HostReport;
use phonefleet_protocol::id::{HostId, MachineId, SystemIds};
use phonefleet_protocol::stream::message::{Introduction, PROTOCOL};
use phonefleet_protocol::stream::sender::Regression;
use phonefleet_protocol::time::SystemClock;
use phonefleet_protocol::topic::Channel;
use phonefleet_store::Store;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The machine of every host of a bench.
pub const MACHINE: &str = "machine-17";

/// What a host says of itself; it belongs to no fleet yet.
pub fn introduction(host: HostId) -> Introduction {
    Introduction {
        protocol: PROTOCOL,
        capabilities: Vec::new(),
        software: "phonefleet-benches".to_owned(),
        host_id: host,
        machine_id: Some(MachineId::try_from(MACHINE.to_owned()).expect("a machine id")),
        fleet_id: None,
        report: Some(HostReport::default()),
    }
}

/// Starts one end, about the host of the introduction; it runs until the tasks are dropped.
pub fn converse<N: Send + 'static, D: Domain<N>>(
    tasks: &mut JoinSet<()>,
    broker: &MemoryBroker,
    store: &Store<N>,
    domain: D,
    introduction: Introduction,
    (listens, speaks): (Channel, Channel),
) -> ConversationHandle {
    let host = introduction.host_id.clone();
    let options = ConversationOptions {
        peer: host.as_str().to_owned(),
        send_topic: speaks.of(&host),
        introduction,
        regression: if speaks == Channel::Up { Regression::Replay } else { Regression::Snapshot },
    };
    let client = format!("{} of {host}", speaks.name());
    let (transport, mut incoming) = broker.connect(&client, &[&listens.of(&host)], None);
    let (conversation, handle) = Conversation::new(
        options,
        store.clone(),
        Arc::new(domain),
        transport,
        Arc::new(SystemClock),
        Arc::new(SystemIds),
    );
    tasks.spawn(async move {
        if let Err(error) = conversation.run().await {
            eprintln!("a conversation ended: {error}");
        }
    });
    let route = handle.clone();
    tasks.spawn(async move {
        while let Some(news) = incoming.recv().await {
            match news {
                Incoming::Connected => route.connected(),
                Incoming::Disconnected { .. } => route.disconnected(),
                Incoming::Message { payload, .. } => route.message(payload),
            }
        }
    });
    handle
}
