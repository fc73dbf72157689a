//! Where the sagas start from. A saga of the registry without a scenario does not compile.

use phonefleet_controller::order::Verb;
use phonefleet_controller::saga::{Definition, REGISTRY};
use phonefleet_protocol::id::{DeviceId, SagaId};
use phonefleet_tests::saga_kit::World;

/// How a saga begins.
pub struct Scenario {
    /// Type of the saga that begins.
    pub saga_type: &'static str,
    /// What is special about it.
    pub name: &'static str,
    /// Brings the world to where it can begin.
    prepare: fn(&mut World) -> Option<DeviceId>,
    /// The order that begins it.
    begin: fn(&mut World, Option<DeviceId>) -> (DeviceId, SagaId),
}

/// A saga that has just begun, in its world.
pub struct Begun {
    /// The world.
    pub world: World,
    /// The saga's device.
    pub device: DeviceId,
    /// The saga.
    pub saga: SagaId,
}

impl Scenario {
    /// A fresh world in which the saga has just been ordered.
    pub fn begin(&self) -> Begun {
        let (mut world, prepared) = self.prepare();
        let (device, saga) = (self.begin)(&mut world, prepared);
        Begun { world, device, saga }
    }

    /// A fresh world in which `before` is called, and then the saga is ordered.
    pub fn begin_after(&self, before: impl FnOnce(&mut World)) -> Begun {
        let (mut world, prepared) = self.prepare();
        before(&mut world);
        let (device, saga) = (self.begin)(&mut world, prepared);
        Begun { world, device, saga }
    }

    fn prepare(&self) -> (World, Option<DeviceId>) {
        let mut world = World::new();
        let prepared = (self.prepare)(&mut world);
        (world, prepared)
    }

    /// What the saga follows.
    pub fn definition(&self) -> &'static Definition {
        let found = REGISTRY.0.iter().find(|definition| definition.saga_type == self.saga_type);
        found.expect("asserted at compile time")
    }
}

/// Every scenario: at least one for each saga.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        saga_type: "DEVICE_CREATION",
        name: "a new phone",
        prepare: |_| None,
        begin: |world, _| {
            let accepted = world.create("phone");
            (accepted.device.device_id, accepted.saga_id)
        },
    },
    Scenario {
        saga_type: "DEVICE_START",
        name: "a stopped phone",
        prepare: |world| {
            let device = running(world);
            world.verb(device, Verb::Stop);
            world.settle();
            Some(device)
        },
        begin: |world, device| verb(world, device, Verb::Start),
    },
    Scenario {
        saga_type: "DEVICE_STOP",
        name: "a phone that is recorded",
        prepare: |world| Some(recorded(world)),
        begin: |world, device| verb(world, device, Verb::Stop),
    },
    Scenario {
        saga_type: "DEVICE_REBOOT",
        name: "a phone that is recorded",
        prepare: |world| Some(recorded(world)),
        begin: |world, device| verb(world, device, Verb::Reboot),
    },
    Scenario {
        saga_type: "DEVICE_RESET",
        name: "a phone that is recorded",
        prepare: |world| Some(recorded(world)),
        begin: |world, device| verb(world, device, Verb::Reset),
    },
    Scenario {
        saga_type: "DEVICE_DELETION",
        name: "a phone that is recorded",
        prepare: |world| Some(recorded(world)),
        begin: |world, device| verb(world, device, Verb::Delete),
    },
    Scenario {
        saga_type: "DEVICE_DELETION",
        name: "a phone that is being made",
        prepare: |world| {
            let device = world.create("phone").device.device_id;
            for _ in 0..8 {
                world.turn();
            }
            Some(device)
        },
        begin: |world, device| verb(world, device, Verb::Delete),
    },
];

// A saga without its run in the kit does not build.
const _: () = {
    let mut index = 0;
    while index < REGISTRY.0.len() {
        assert!(has_scenario(REGISTRY.0[index].saga_type), "give this saga a scenario above");
        index += 1;
    }
};

const fn has_scenario(saga_type: &str) -> bool {
    let mut index = 0;
    while index < SCENARIOS.len() {
        if same(SCENARIOS[index].saga_type, saga_type) {
            return true;
        }
        index += 1;
    }
    false
}

const fn same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut index = 0;
    while index < left.len() && index < right.len() && left[index] == right[index] {
        index += 1;
    }
    index == left.len() && index == right.len()
}

fn running(world: &mut World) -> DeviceId {
    let device = world.create("phone").device.device_id;
    world.settle();
    device
}

fn recorded(world: &mut World) -> DeviceId {
    let device = running(world);
    world.record(device);
    world.settle();
    device
}

fn verb(world: &mut World, device: Option<DeviceId>, verb: Verb) -> (DeviceId, SagaId) {
    let device = device.expect("its scenario prepares a device");
    (device, world.verb(device, verb).saga_id)
}
