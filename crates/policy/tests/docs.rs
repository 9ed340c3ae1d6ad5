//! The pages of the documentation follow the code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::Path;

use onestep_policy::{AlgorithmConfig, metrics};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_metric_has_its_row() {
    let page = read("../../docs/metrics.md");
    for name in metrics::ALL {
        assert!(page.contains(&format!("\n| `{name}` |")), "docs/metrics.md has no row for `{name}`");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `critic/") || line.starts_with("| `actor/"));
    assert_eq!(rows.count(), metrics::ALL.len(), "docs/metrics.md has rows for metrics that no update reports");
}

#[test]
fn the_page_on_checkpoints_names_every_algorithm_and_shows_the_script() {
    let page = read("../../docs/checkpoints.md");
    for name in AlgorithmConfig::NAMES {
        assert!(page.contains(&format!("`{name}`")), "docs/checkpoints.md does not name `{name}`");
    }
    let script = read("tests/reference/run_policy.py");
    assert!(page.contains(&format!("```python\n{script}```")), "docs/checkpoints.md shows another script");
}
