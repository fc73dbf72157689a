//! Placement by spread: the host with the fewest devices that has room. Pure.

use crate::store::host::Candidate;
use phonefleet_protocol::id::HostId;
use phonefleet_protocol::mutant::{Mutant, planted};
use phonefleet_protocol::spec::DeviceSpec;

/// Hosts whose refusals an answer names.
const REFUSALS_TOLD: usize = 5;

/// Why no host takes a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// No host allows this image: the order is wrong.
    ImageNotAllowed(String),
    /// No host has room now.
    NoCapacity(String),
}

/// Chooses a host for `spec`: the first that takes it of `candidates`, the emptiest of which
/// come first. No more of them are read than that.
///
/// # Errors
/// Those of reading them.
pub fn choose<E>(
    candidates: impl IntoIterator<Item = Result<Candidate, E>>,
    spec: &DeviceSpec,
) -> Result<Result<HostId, Misfit>, E> {
    let mut refusals = Vec::new();
    let mut allowed = false;
    for candidate in candidates {
        let candidate = candidate?;
        let Some(why) = refusal(&candidate, spec) else { return Ok(Ok(candidate.host_id)) };
        allowed |= spec.image.as_ref().is_none_or(|image| allows(&candidate, image));
        if refusals.len() < REFUSALS_TOLD {
            refusals.push(format!("{}: {why}", candidate.host_id));
        }
    }
    Ok(Err(match &spec.image {
        _ if refusals.is_empty() => {
            Misfit::NoCapacity("no such host is registered; start an agent, or correct hostId".to_owned())
        }
        Some(image) if !allowed => Misfit::ImageNotAllowed(format!(
            "image {image} is on no host's allow-list (`[runtime] image` and `allowed_images` of agent.toml)"
        )),
        _ => Misfit::NoCapacity(format!("no host can take this device ({})", refusals.join("; "))),
    }))
}

fn allows(candidate: &Candidate, image: &str) -> bool {
    candidate.report.image == image || candidate.report.allowed_images.iter().any(|allowed| allowed == image)
}

/// Why this host does not take the device, `None` when it does.
fn refusal(candidate: &Candidate, spec: &DeviceSpec) -> Option<String> {
    let capacity = &candidate.report.capacity;
    let over =
        |most: Option<f64>, taken: f64, needed: f64| most.is_some_and(|most| taken + needed > most + 1e-9);
    if !candidate.open && !planted(Mutant::IgnoreCordon) {
        return Some("not online, cordoned or in conflict".to_owned());
    }
    if spec.image.as_ref().is_some_and(|image| !allows(candidate, image)) {
        return Some("image not allowed".to_owned());
    }
    if capacity.max_devices.is_some_and(|most| candidate.devices >= most) {
        return Some(format!("full with {} devices", candidate.devices));
    }
    let machine = Some(f64::from(candidate.report.machine_cpu_cores)).filter(|cores| *cores > 0.0);
    if over(machine, 0.0, spec.cpu_cores) {
        return Some(format!("has {} cores", candidate.report.machine_cpu_cores));
    }
    if over(capacity.cpu_cores, candidate.cpu_cores, spec.cpu_cores) {
        return Some("no cores left".to_owned());
    }
    if over(capacity.memory_mb.map(|most| most as f64), candidate.memory_mb as f64, spec.memory_mb as f64) {
        return Some("no memory left".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use phonefleet_protocol::host::{Capacity, HostReport};

    fn candidate(name: &str, devices: u32, most: Option<u32>) -> Candidate {
        Candidate {
            host_id: name.parse().unwrap(),
            report: HostReport {
                image: "phone:1".into(),
                machine_cpu_cores: 4,
                capacity: Capacity { max_devices: most, ..Capacity::default() },
                ..HostReport::default()
            },
            devices,
            cpu_cores: 0.0,
            memory_mb: 0,
            open: true,
        }
    }

    fn chosen(hosts: &[Candidate], spec: &DeviceSpec) -> Result<HostId, Misfit> {
        choose(hosts.iter().cloned().map(Ok::<_, std::convert::Infallible>), spec).unwrap()
    }

    #[test]
    fn the_first_host_with_room_is_chosen() {
        let hosts = [candidate("b", 1, Some(1)), candidate("c", 2, None), candidate("a", 3, None)];
        assert_eq!(chosen(&hosts, &DeviceSpec::default()).unwrap().as_str(), "c");
        let spec = DeviceSpec { cpu_cores: 8.0, ..DeviceSpec::default() };
        assert!(matches!(chosen(&hosts, &spec), Err(Misfit::NoCapacity(why)) if why.contains("has 4 cores")));
        let spec = DeviceSpec { image: Some("evil:1".into()), ..DeviceSpec::default() };
        assert!(matches!(chosen(&hosts, &spec), Err(Misfit::ImageNotAllowed(_))));
        assert!(matches!(chosen(&[], &spec), Err(Misfit::NoCapacity(_))));
    }

    #[test]
    fn no_more_hosts_are_read_than_needed() {
        let hosts = [Ok(candidate("a", 0, None)), Err("the second one is read")];
        assert_eq!(choose(hosts, &DeviceSpec::default()).unwrap().unwrap().as_str(), "a");
    }
}
