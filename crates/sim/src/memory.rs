//! How much memory arenas take, measured, and how much there is.

use std::{fs, sync::Arc};

use crate::arena::SimArena;
use crate::error::SimError;
use crate::robot::Robot;
use crate::task::Task;

/// So few arenas fit into any memory; nothing is measured for them.
const FEW: u64 = 64;
/// Arenas of the first measurement, and the most that one measurement builds.
const PROBE: (usize, usize) = (16, 1024);
/// A measurement counts from this growth on: below it, memory that was free before hides what is taken.
const VISIBLE_BYTES: u64 = 4_000_000;
/// An arena takes at least this, whatever was measured.
const LEAST_BYTES: u64 = 32_000;
/// Contacts and the history of states grow in the first steps.
const PROBE_STEPS: usize = 4;
/// An agent's components, and what grows later, on top of the arena as measured.
const MARGIN: f64 = 1.3;
/// Share of the free memory that arenas may take.
const SHARE: f64 = 0.9;

/// Refuses more arenas than the free memory holds, before they are built. One arena's memory is measured by building
/// some; up to 64 arenas are accepted unmeasured.
///
/// # Errors
/// [`SimError::Memory`] with all numbers.
pub fn require_memory(task: &Arc<dyn Task>, robot: &Arc<Robot>, arenas: u64) -> Result<(), SimError> {
    if arenas <= FEW {
        return Ok(());
    }
    // A system that does not tell its memory cannot be asked.
    let (Some(per_arena), Some(free)) = (arena_bytes(task, robot), free_bytes()) else { return Ok(()) };
    let fits = (SHARE * free as f64 / per_arena as f64) as u64;
    if arenas <= fits {
        return Ok(());
    }
    Err(SimError::Memory {
        task: task.name().to_owned(),
        arenas,
        per_arena,
        needed: per_arena.saturating_mul(arenas),
        free,
        most: fits,
    })
}

/// Bytes that one arena of a task takes in a world, with a margin: the growth of the process while arenas are built.
/// `None` if the system does not tell.
#[must_use]
pub fn arena_bytes(task: &Arc<dyn Task>, robot: &Arc<Robot>) -> Option<u64> {
    let mut arenas: Vec<SimArena> = Vec::new();
    let (mut batch, most) = PROBE;
    loop {
        let before = resident_bytes()?;
        for seed in 0..batch as u64 {
            let mut arena = SimArena::new(task.clone(), robot.clone(), seed);
            let action = vec![0.0; arena.spec().action.dim()];
            for _ in 0..PROBE_STEPS {
                // Whether the task works is not the question here.
                let _ = arena.step(&action);
            }
            arenas.push(arena);
        }
        let grown = resident_bytes()?.saturating_sub(before);
        if grown >= VISIBLE_BYTES || batch >= most {
            let bytes = (MARGIN * grown as f64 / batch as f64) as u64;
            return Some(bytes.max(LEAST_BYTES));
        }
        batch *= 2;
    }
}

/// Bytes of memory that this process holds. `None` where the system does not tell: everywhere but on Linux.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&status, "VmRSS:")
}

/// Bytes of memory that are free: of the machine, or of the control group that this process is confined to. `None` where
/// the system does not tell: everywhere but on Linux.
#[must_use]
pub fn free_bytes() -> Option<u64> {
    let machine = kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    Some(group_free_bytes().map_or(machine, |group| group.min(machine)))
}

/// The value in a line `NAME:   123 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the control group's limit leaves, as a container shows it to its own processes. What the group uses for files in
/// the system's cache is free for the asking, so only anonymous memory counts.
fn group_free_bytes() -> Option<u64> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let entry = |path: &str, name: &str| -> Option<u64> {
        fs::read_to_string(path).ok()?.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let second = || number("/sys/fs/cgroup/memory.max").zip(entry("/sys/fs/cgroup/memory.stat", "anon "));
    let first = || {
        let limit = number("/sys/fs/cgroup/memory/memory.limit_in_bytes");
        limit.zip(entry("/sys/fs/cgroup/memory/memory.stat", "total_rss "))
    };
    let (limit, used) = second().or_else(first)?;
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_system_are_read_and_others_are_not() {
        let text = "MemTotal:       24684192 kB\nMemAvailable:   23078912 kB\nOdd:  7 MB\n";
        assert_eq!(kilobytes(text, "MemAvailable:"), Some(23_078_912 * 1024));
        assert_eq!((kilobytes(text, "Odd:"), kilobytes(text, "None:")), (None, None));
    }
}
