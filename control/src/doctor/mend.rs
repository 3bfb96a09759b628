//! The commands that mend.

use super::machine::Machine;

/// Puts `key=value` on the kernel's command line (Debian's GRUB), or another value in the place of the one that is there.
pub fn boot(machine: &Machine, key: &str, value: &str) -> String {
    let is_there = machine.boot_parameter(key).is_some_and(|before| !before.is_empty());
    let edit = match is_there {
        true => format!("s/\\b{key}=[^ \"]*/{key}={value}/"),
        false => format!("s/^GRUB_CMDLINE_LINUX=\"/&{key}={value} /"),
    };
    format!("sed -i '{edit}' /etc/default/grub && update-grub && reboot")
}

/// Writes to a file of the kernel's.
pub fn write(value: impl std::fmt::Display, path: &str) -> String {
    format!("echo {value} > {path}")
}

/// A kernel's parameter, until the next boot.
pub fn sysctl(name: &str, value: impl std::fmt::Display) -> String {
    format!("sysctl -w {name}={value}")
}

/// What to write into the configuration.
pub fn configure(what: &str) -> String {
    format!("in the configuration: {what}")
}
