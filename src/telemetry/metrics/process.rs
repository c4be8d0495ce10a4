//! What every Prometheus client says of its process, under the names that all of them use.
//!
//! Dashboards for CoreDNS have panels of these: CPU, memory, age, open files.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::family::{Family, Sample, Value};

/// The families, without their prefix `process`. What the system does not say is left out.
pub fn families(started: u64) -> Vec<Family> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = Value::Seconds(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
    let files = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
    let gauge = |name, help, value: Option<u64>| value.map(|value| Family::gauge(name, help, value));
    let more = [
        gauge("start_time_seconds", "When the process started, since 1970", Some(started)),
        gauge("resident_memory_bytes", "Memory of the process that is resident", bytes(&status, "VmRSS:")),
        gauge("virtual_memory_bytes", "Memory of the process that is mapped", bytes(&status, "VmSize:")),
        gauge("open_fds", "Files and sockets that are open", files),
        gauge("max_fds", "Files and sockets that may be open", getrlimit(Resource::Nofile).current),
    ];
    let cpu = Family::labelled("cpu_seconds", "CPU time used, by user and system", [Sample::new(cpu)]);
    [cpu].into_iter().chain(more.into_iter().flatten()).collect()
}

/// A size in bytes, out of a `/proc/PID/status` (proc_pid_status(5): in kB of 1024).
pub fn bytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status() {
        let status = "Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    1234 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(bytes(status, "VmRSS:"), Some(1234 * 1024));
        assert_eq!(bytes("Name:\tx\n", "VmRSS:"), None);
        assert_eq!(bytes("VmRSS:\tmuch kB\n", "VmRSS:"), None);
    }
}
