//! What a phone is made of, as an order asks for it and an agent builds it.

use serde::{Deserialize, Serialize};

/// Boot arguments the agent sets by itself; an order that names one is refused.
/// `serialno` carries the identity that the agent checks after every connect.
pub const RESERVED_BOOT_ARGUMENTS: &[&str] = &[
    "androidboot.hardware",
    "androidboot.serialno",
    "androidboot.use_memfd",
    "androidboot.redroid_width",
    "androidboot.redroid_height",
    "androidboot.redroid_dpi",
    "androidboot.redroid_fps",
    "androidboot.redroid_gpu_mode",
    "ro.serialno",
    "ro.boot.serialno",
];

/// Most bytes of all boot arguments together: with every byte escaped in JSON, a spec still
/// fits into an item of the stream, alone and as part of a snapshot.
const BOOT_ARGUMENT_BYTES: usize = crate::limits::ITEM_BYTES / 4;

/// Which graphics path the phone takes (`androidboot.redroid_gpu_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuMode {
    /// Software rendering; works everywhere.
    #[default]
    Guest,
    /// The host's render node.
    Host,
    /// The image decides.
    Auto,
}

/// The full description of one device. Ranges are those that [`DeviceSpec::faults`]
/// checks; defaults are the order's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSpec {
    /// Container image; `None` takes the host's default image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Processors, 0.1 to 256.
    pub cpu_cores: f64,
    /// Memory limit in MiB, at least 64.
    #[serde(rename = "memoryMB")]
    pub memory_mb: u64,
    /// Storage in MiB that quota counts; `None` counts nothing.
    #[serde(default, rename = "storageMB", skip_serializing_if = "Option::is_none")]
    pub storage_mb: Option<u64>,
    /// Display width in pixels, 16 to 7680.
    pub width: u32,
    /// Display height in pixels, 16 to 7680.
    pub height: u32,
    /// Display density, 32 to 1280.
    pub dpi: u32,
    /// Frames a second, 1 to 120.
    pub fps: u32,
    /// Graphics path.
    #[serde(default)]
    pub gpu_mode: GpuMode,
    /// Further `/init` arguments, `androidboot.…=…` or `ro.…=…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_args: Vec<String>,
}

impl Default for DeviceSpec {
    fn default() -> Self {
        Self {
            image: None,
            cpu_cores: 2.0,
            memory_mb: 4096,
            storage_mb: None,
            width: 720,
            height: 1280,
            dpi: 320,
            fps: 30,
            gpu_mode: GpuMode::Guest,
            boot_args: Vec::new(),
        }
    }
}

/// One field of an order that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// JSON pointer of the field, such as `/bootArgs/2`.
    pub pointer: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl FieldFault {
    /// A fault of one field.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

impl DeviceSpec {
    /// Everything that is wrong with this spec, empty when it can be built.
    pub fn faults(&self) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        let mut check = |fine: bool, pointer: &str, detail: &str| {
            if !fine {
                faults.push(FieldFault::new(pointer, detail));
            }
        };
        check((0.1..=256.0).contains(&self.cpu_cores), "/cpuCores", "cpuCores must be between 0.1 and 256");
        check(
            (64..=4 * 1024 * 1024).contains(&self.memory_mb),
            "/memoryMB",
            "memoryMB must be between 64 and 4194304",
        );
        check(
            self.storage_mb.is_none_or(|size| (1..=1 << 30).contains(&size)),
            "/storageMB",
            "storageMB must be between 1 and 1073741824",
        );
        check((16..=7680).contains(&self.width), "/width", "width must be between 16 and 7680 pixels");
        check((16..=7680).contains(&self.height), "/height", "height must be between 16 and 7680 pixels");
        check((32..=1280).contains(&self.dpi), "/dpi", "dpi must be between 32 and 1280");
        check((1..=120).contains(&self.fps), "/fps", "fps must be between 1 and 120");
        check(
            self.image.as_deref().is_none_or(is_image_reference),
            "/image",
            "image must be a reference of at most 255 characters without spaces, such as name:tag or name@sha256:…",
        );
        check(self.boot_args.len() <= 64, "/bootArgs", "at most 64 boot arguments are taken");
        let bytes: usize = self.boot_args.iter().map(String::len).sum();
        check(bytes <= BOOT_ARGUMENT_BYTES, "/bootArgs", "boot arguments have at most 8192 bytes together");
        for (index, argument) in self.boot_args.iter().enumerate() {
            if let Some(detail) = boot_argument_fault(argument) {
                faults.push(FieldFault::new(format!("/bootArgs/{index}"), detail));
            }
        }
        faults
    }
}

fn is_image_reference(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte))
}

/// Redroid joins its arguments with spaces, splits them again, and drops what does
/// not hold exactly one `=`: what could not arrive whole is refused here.
fn boot_argument_fault(argument: &str) -> Option<String> {
    let fault = |detail: &str| Some(format!("{detail}: {:?}", crate::limits::shorten(argument)));
    if argument.len() > 512 {
        return fault("a boot argument has at most 512 bytes");
    }
    if !argument.bytes().all(|byte| byte.is_ascii_graphic()) {
        return fault("a boot argument has printable ASCII characters only, and no spaces");
    }
    let Some((key, value)) = argument.split_once('=') else {
        return fault("a boot argument is key=value");
    };
    if value.contains('=') {
        return fault("a boot argument has exactly one '='");
    }
    let tail = key.strip_prefix("androidboot.").or_else(|| key.strip_prefix("ro."));
    if tail.is_none_or(str::is_empty) {
        return fault("a boot argument begins with androidboot. or ro.");
    }
    if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return fault("a boot argument's key has letters, digits and . _ - only");
    }
    if RESERVED_BOOT_ARGUMENTS.contains(&key) {
        return fault("this boot argument is set by the host and cannot be ordered");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_a_good_spec() {
        assert_eq!(DeviceSpec::default().faults(), vec![]);
    }

    #[test]
    fn the_largest_good_spec_fits_into_an_item() {
        use crate::item::Item;
        let argument = format!("ro.a={}", "\"".repeat(507));
        let fits = DeviceSpec {
            image: Some("i".repeat(255)),
            boot_args: vec![argument.clone(); 16],
            ..DeviceSpec::default()
        };
        assert_eq!(fits.faults(), vec![]);
        let desired = crate::desired::DesiredDevice {
            device_id: crate::id::DeviceId(uuid::Uuid::max()),
            generation: u64::MAX,
            attempt: u32::MAX,
            question: Some(crate::desired::QuestionId(u64::MAX)),
            wish: crate::desired::Wish::Running,
            spec: Some(fits.clone()),
            boot_count: u32::MAX,
            data_epoch: u32::MAX,
        };
        crate::command::Command::SnapshotDevices { devices: vec![desired] }.encode().unwrap();
        let over = DeviceSpec { boot_args: vec![argument; 17], ..fits };
        assert_eq!(over.faults().len(), 1);
    }

    #[test]
    fn each_bad_field_is_named() {
        let spec = DeviceSpec {
            cpu_cores: f64::NAN,
            memory_mb: 63,
            width: 0,
            image: Some("-rm".into()),
            boot_args: vec![
                "androidboot.phonesim_boot_ms=100".into(),
                "ro.product.model=Pixel 7".into(),
                "androidboot.a=b=c".into(),
                "androidboot.serialno=x".into(),
                "init=/bin/sh".into(),
                "ro.=x".into(),
            ],
            ..DeviceSpec::default()
        };
        let pointers: Vec<_> = spec.faults().into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(
            pointers,
            [
                "/cpuCores",
                "/memoryMB",
                "/width",
                "/image",
                "/bootArgs/1",
                "/bootArgs/2",
                "/bootArgs/3",
                "/bootArgs/4",
                "/bootArgs/5"
            ]
        );
    }
}
