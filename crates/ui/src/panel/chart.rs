//! Charts that only show: the wheel belongs to the panel.

use bevy_egui::egui::{Color32, RichText, Ui, vec2};
use egui_plot::{GridInput, GridMark, Line, Plot, PlotPoints};

use super::history::Series;

/// An empty chart as wide as there is room, with a name on its lower axis.
pub(super) fn chart<'a>(ui: &Ui, name: &str, x_label: &str) -> Plot<'a> {
    plain(name)
        .height(height(ui, 0.37).clamp(80.0, 200.0))
        .x_axis_label(RichText::new(x_label).small())
        .x_grid_spacer(marks)
        .x_axis_formatter(|mark, range| number(mark.value, range.end() - range.start()))
}

/// One whose lower axis says nothing: bars in a row.
pub(super) fn bars<'a>(ui: &Ui, name: &str) -> Plot<'a> {
    plain(name).height(height(ui, 0.26).clamp(56.0, 140.0)).show_axes([false, true]).show_grid([false, true])
}

fn plain<'a>(name: &str) -> Plot<'a> {
    Plot::new(name.to_owned())
        .allow_drag(false)
        .allow_zoom(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .show_x(false)
        .show_background(false)
        .y_axis_min_width(26.0)
        .y_grid_spacer(marks)
        .y_axis_formatter(|mark, range| number(mark.value, range.end() - range.start()))
        .set_margin_fraction(vec2(0.03, 0.08))
}

/// A share of what the rest of the panel leaves of the screen, points.
fn height(ui: &Ui, share: f32) -> f32 {
    /// What the rest takes.
    const REST: f32 = 490.0;
    share * (ui.ctx().viewport_rect().height() - REST)
}

/// A series as a line.
pub(super) fn curve<'a>(name: &str, series: &'a Series, color: Color32) -> Line<'a> {
    Line::new(name.to_owned(), PlotPoints::from(series.points().to_vec())).color(color).width(1.8)
}

/// Two to five round numbers within what is shown; at least one if they are all the same.
fn marks(input: GridInput) -> Vec<GridMark> {
    let (low, high) = input.bounds;
    // The size of a step decides only how strong a mark is drawn: all alike.
    round_numbers(low, high).into_iter().map(|value| GridMark { value, step_size: high - low }).collect()
}

fn round_numbers(low: f64, high: f64) -> Vec<f64> {
    /// Marks that are wanted at least.
    const LEAST: usize = 2;
    let span = high - low;
    if !(span.is_finite() && span > 0.0) {
        return Vec::new();
    }
    let mut power = span.log10().ceil();
    loop {
        for factor in [5.0, 2.0, 1.0] {
            let step = factor * 10f64.powf(power - 1.0);
            let (first, last) = ((low / step).ceil(), (high / step).floor());
            let count = (last - first) as usize + 1;
            if last >= first && count >= LEAST {
                return (0..count).map(|index| (first + index as f64) * step).collect();
            }
        }
        power -= 1.0;
    }
}

/// As few digits as tell marks over such a span apart.
fn number(value: f64, span: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        return format!("{}M", trimmed(value / 1e6, span / 1e6));
    }
    if size >= 1e4 {
        return format!("{}k", trimmed(value / 1e3, span / 1e3));
    }
    trimmed(value, span)
}

fn trimmed(value: f64, span: f64) -> String {
    let digits = (1.0 - span.max(1e-9).log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_axis_has_round_numbers() {
        for (low, high) in [(0.0, 100.0), (-25.44, -15.75), (-24.3, -23.6), (3.0, 3.0002), (-1e6, 2e7), (0.11, 0.112)] {
            let marks = round_numbers(low, high);
            assert!((2..=5).contains(&marks.len()), "{low} {high}: {marks:?}");
            assert!(marks.iter().all(|mark| (low..=high).contains(mark)), "{marks:?}");
            // Each reads differently, and as what it is.
            let texts: Vec<String> = marks.iter().map(|mark| number(*mark, high - low)).collect();
            assert!(texts.windows(2).all(|pair| pair[0] != pair[1]), "{texts:?}");
        }
        assert!(round_numbers(1.0, 1.0).is_empty() && round_numbers(f64::NAN, 1.0).is_empty());
        let read = |value, span| number(value, span);
        assert_eq!(
            [read(12_000.0, 8_000.0), read(1.5e6, 1e6), read(-20.0, 10.0), read(0.0, 1.0)],
            ["12k", "1.5M", "-20", "0"]
        );
    }
}
