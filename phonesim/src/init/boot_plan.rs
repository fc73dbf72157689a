//! What comes up when: the properties of a boot, spread over its time.

use crate::commands::{BOOT_COMPLETED, SYSTEM_SERVER_STARTED};

/// The services that `stop` stops and `start` starts when no name is given, in order.
pub const FRAMEWORK_SERVICES: &[&str] = &["audioserver", "surfaceflinger", "zygote"];

/// How long a boot takes unless `androidboot.phonesim_boot_ms` says otherwise, in ms.
pub const DEFAULT_BOOT_MS: u64 = 1_500;

/// Properties that a boot gives unless the boot line gave them. An Android 11: the last whose
/// recorder has the 180 s limit and which obeys `sys.powerctl`.
pub const DEFAULT_PROPERTIES: &[(&str, &str)] = &[
    ("ro.build.version.release", "11"),
    ("ro.build.version.sdk", "30"),
    ("ro.build.type", "userdebug"),
    ("ro.debuggable", "1"),
    ("ro.build.fingerprint", "phonesim/phonesim/phonesim:11/PHONESIM/1:userdebug/test-keys"),
    ("ro.product.brand", "phonesim"),
    ("ro.product.device", "phonesim"),
    ("ro.product.manufacturer", "phonesim"),
    ("ro.product.model", "phonesim"),
    ("ro.product.name", "phonesim"),
    ("ro.product.cpu.abi", ABI),
];

#[cfg(target_arch = "aarch64")]
const ABI: &str = "arm64-v8a";
#[cfg(not(target_arch = "aarch64"))]
const ABI: &str = "x86_64";

/// One step of the boot.
#[derive(Debug)]
pub struct Stage {
    /// When, in per cent of the boot time.
    pub at_percent: u32,
    /// What is true from then on.
    pub properties: &'static [(&'static str, &'static str)],
}

/// The steps before the last; a boot that hangs gets this far.
pub const STAGES: &[Stage] = &[
    Stage {
        at_percent: 5,
        properties: &[("init.svc.servicemanager", "running"), ("init.svc.hwservicemanager", "running")],
    },
    Stage {
        at_percent: 15,
        properties: &[("init.svc.surfaceflinger", "running"), ("init.svc.bootanim", "running")],
    },
    Stage {
        at_percent: 30,
        properties: &[("init.svc.audioserver", "running"), ("init.svc.zygote", "running")],
    },
    Stage { at_percent: 60, properties: &[(SYSTEM_SERVER_STARTED, "1")] },
];

/// The last step.
pub const COMPLETION: &[(&str, &str)] = &[
    ("service.bootanim.exit", "1"),
    ("init.svc.bootanim", "stopped"),
    ("dev.bootcomplete", "1"),
    (BOOT_COMPLETED, "1"),
];

/// When the fault `exit_129` strikes, in per cent of the boot time.
pub const EXIT_129_AT_PERCENT: u32 = 50;
