//! Numbers about phones since this agent began, for operators: how long boots and wishes
//! take, and why phones fail and die. Counted after the commit that they tell of.

use phonefleet_protocol::desired::Wish;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// A simulated phone boots in half a second; Redroid in 4 to 30 s, and has 120 s by default.
const BOOT_SECONDS: [f64; 11] = [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 45.0, 60.0, 90.0, 120.0];
/// From a container that is stopped at once to a creation that waits for its engine.
const REACH_SECONDS: [f64; 12] = [0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Wished {
    wish: &'static str,
}

type Causes = Family<Cause, Counter<u64>>;

/// Where it is counted. Clones count together.
#[derive(Clone, Debug)]
pub struct Tally {
    boots: Histogram,
    boot_failures: Causes,
    deaths: Causes,
    reached: Family<Wished, Histogram>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            boots: Histogram::new(BOOT_SECONDS),
            boot_failures: Causes::default(),
            deaths: Causes::default(),
            reached: Family::new_with_constructor(|| Histogram::new(REACH_SECONDS)),
        }
    }
}

impl Tally {
    /// Puts the numbers into what a scraper is shown.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "boot_duration",
            "From the start of containers to completed boots",
            Unit::Seconds,
            self.boots.clone(),
        );
        registry.register(
            "boot_failures",
            "Phones that could not be built, started or booted, by reason",
            self.boot_failures.clone(),
        );
        registry.register("phone_deaths", "Phones that ran and died, by reason", self.deaths.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "From the controller's word to its good answer, by what was wished",
            Unit::Seconds,
            self.reached.clone(),
        );
    }

    /// A phone has booted.
    pub(super) fn booted(&self, took: Duration) {
        self.boots.observe(took.as_secs_f64());
    }

    /// A phone that should run does not come up. `cause`: a reason's code.
    pub(super) fn boot_failed(&self, cause: &str) {
        self.boot_failures.get_or_create(&Cause { cause: cause.to_owned() }).inc();
    }

    /// A phone that ran died. `cause`: a reason's code.
    pub(super) fn died(&self, cause: &str) {
        self.deaths.get_or_create(&Cause { cause: cause.to_owned() }).inc();
    }

    /// The device is what it should be.
    pub(super) fn reached(&self, wish: Wish, took: Duration) {
        self.reached.get_or_create(&Wished { wish: wish.name() }).observe(took.as_secs_f64());
    }
}
