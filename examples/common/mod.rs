//! What the small worlds of several examples share: how they learn from nothing, and how their pictures are drawn.

#![allow(dead_code, reason = "each example uses another part")]

use std::path::Path;

use onestep::{
    policy::mvp::Regression,
    prelude::*,
    record::plot::{Chart, Mark, Series, draw},
};

/// Settings for a small world that nobody demonstrates: what the critics find best is what there is to imitate.
pub fn from_scratch(discount: f64) -> PolicyPlugin {
    let algorithm = AlgorithmConfig::Mvp(MvpConfig {
        horizon: 1, // a new look at the world in each step
        discount,
        tau: 0.02, // episodes are short, and values must spread in few updates
        learning_rate: 1e-3,
        batch_size: 64,
        regression: Regression::BestOfN,
        ..MvpConfig::small()
    });
    PolicyPlugin { source: PolicySource::Create { algorithm, compute: Compute::Cpu }, ..Default::default() }
}

/// An angle around the circle that follows from an episode's seed, radians.
pub fn angle_of(seed: u64) -> f32 {
    (seed % 10_007) as f32 / 10_007.0 * std::f32::consts::TAU
}

/// Draws a world of two metres square, seen from above.
pub fn draw_world(
    marks: impl IntoIterator<Item = (Option<usize>, Mark)>,
    path: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let series = marks.into_iter().map(|(color, mark)| Series { name: String::new(), color, mark }).collect();
    let range = Some(-1.1..1.1);
    let chart = Chart { x_range: range.clone(), y_range: range, series, ..Chart::default() };
    draw(&[chart], 1, 320, 320)?.write_png(path)?;
    Ok(())
}

/// Draws a share over control steps.
pub fn draw_share(title: &str, points: Vec<(f64, f64)>, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let chart = Chart {
        title: title.to_owned(),
        x_label: "control steps".to_owned(),
        y_label: "%".to_owned(),
        y_range: Some(0.0..100.0),
        series: vec![Series { name: String::new(), color: Some(0), mark: Mark::Line(points) }],
        ..Chart::default()
    };
    draw(&[chart], 1, 480, 280)?.write_png(path)?;
    Ok(())
}
