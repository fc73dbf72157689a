//! Faults that are planted on purpose, to see that the simulation finds them.
//!
//! Only the simulation is built with the feature `mutants`. In every other build
//! [`planted`] is a constant `false`, and what stands behind it is not compiled in. A test
//! that never fails proves nothing: each of these must be found within a few seeds.

macro_rules! mutants {
    ($($variant:ident $name:literal $words:literal)*) => {
        /// A planted fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $words] $variant,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it does wrong.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$variant => $words,)*
                }
            }
        }
    };
}

mutants! {
    AcknowledgeOnPublish "acknowledge-on-publish" "What the broker took counts as received."
    NeverGoBack "never-go-back" "Silence is waited for for ever."
    ApplyGap "apply-gap" "A frame behind a gap is applied."
    ApplyTwice "apply-twice" "A frame that was applied before is applied again."
    LoseCursor "lose-cursor" "The cursor of what was applied is lost at every start."
    AcknowledgeBeforeCommit "acknowledge-before-commit" "Items are acknowledged that now and then are lost before they are applied."
    LoseCommit "lose-commit" "A commit now and then fails, and the caller hears that it stands."
    AnyAnswer "any-answer" "A saga takes an answer to an older generation for its own."
    KeepLease "keep-lease" "The ports of a removed device stay leased."
    ReleasePortEarly "release-port-early" "Ports are released before the container is gone."
    KeepData "keep-data" "The data of a removed device stays."
    ForgetRecovery "forget-recovery" "An agent does not tell that a phone is well again."
    RestartPhones "restart-phones" "An agent that starts stops the phones that it finds."
    TearRecordings "tear-recordings" "A phone is stopped while it records."
    SkipStepInFlight "skip-step-in-flight" "The step in flight is not compensated."
    DeletionDoesNotWait "deletion-does-not-wait" "Quota and row go before the host has confirmed."
    Oversell "oversell" "Quota is reserved without testing the limit."
    KeepRunningRight "keep-running-right" "A stopped device holds the right to run."
    IgnoreIdempotency "ignore-idempotency" "A key is not looked for."
    IgnoreCordon "ignore-cordon" "Cordoned hosts get new devices."
    ForgetNudge "forget-nudge" "Sagas are not woken by other sagas and returning hosts."
    ForgetDirty "forget-dirty" "A change of mind behind a pending command is forgotten."
    NoOutbid "no-outbid" "A host that knows a newer generation is not outbid."
    IgnoreInventory "ignore-inventory" "What an inventory does not name is not missed."
    SnapshotSkips "snapshot-skips" "A snapshot of wishes lacks its last device."
    RebootDoesNothing "reboot-does-nothing" "A reboot does not raise the boot count."
    ResetKeepsData "reset-keeps-data" "A reset does not raise the data epoch."
}

#[cfg(feature = "mutants")]
mod active {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Plants a fault in everything that runs on this thread, or none.
    pub fn plant(mutant: Option<Mutant>) {
        ACTIVE.set(mutant);
    }

    /// Whether this fault is planted.
    pub fn planted(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use active::{plant, planted};

/// Whether the simulation watches: it wants to be told what no row keeps.
pub const WATCHED: bool = cfg!(feature = "mutants");

/// Whether this fault is planted: never, outside of the simulation.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn planted(_: Mutant) -> bool {
    false
}
