//! Charts as pictures: learning curves with their spread, and clouds of points.
//!
//! The font is in the program, so a chart looks the same on every machine.

use std::{ops::Range, sync::OnceLock};

use plotters::{
    prelude::*,
    style::{FontStyle, register_font},
};
use thiserror::Error;

use crate::picture::Frame;

/// Why a chart could not be drawn.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlotError {
    /// There is nothing to draw, or no room for it.
    #[error("a chart of {charts} panels in {columns} columns, {width} x {height} pixels each, cannot be drawn")]
    Empty {
        /// Panels.
        charts: usize,
        /// Columns.
        columns: usize,
        /// Pixels in a row of a panel.
        width: u32,
        /// Rows of a panel.
        height: u32,
    },
    /// The drawing library failed.
    #[error("the chart could not be drawn: {0}")]
    Draw(String),
}

/// One panel.
#[derive(Debug, Clone, Default)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// What stands below the horizontal axis; nothing hides both axes.
    pub x_label: String,
    /// What stands beside the vertical axis.
    pub y_label: String,
    /// The part of the horizontal axis that is seen. `None`: all of the data.
    pub x_range: Option<Range<f64>>,
    /// The part of the vertical axis that is seen. `None`: all of the data.
    pub y_range: Option<Range<f64>>,
    /// Where the legend stands. `None`: in the corner that hides the least of the data.
    pub legend: Option<Corner>,
    /// What is drawn, from back to front.
    pub series: Vec<Series>,
}

/// A corner of a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corner {
    /// At the top, left.
    UpperLeft,
    /// At the top, right.
    UpperRight,
    /// At the bottom, left.
    LowerLeft,
    /// At the bottom, right.
    LowerRight,
}

impl Corner {
    /// The one whose quarter of the chart has the fewest of these points; of equal ones the first here.
    fn emptiest(points: &[(f64, f64)], x: &Range<f64>, y: &Range<f64>) -> Self {
        /// A legend takes about this share of a chart's width and of its height.
        const SHARE: f64 = 0.4;
        let place = |value: f64, range: &Range<f64>| (value - range.start) / (range.end - range.start);
        let inside = |corner: &Self| {
            let covered = |&&(px, py): &&(f64, f64)| {
                let (px, py) = (place(px, x), place(py, y));
                let (from_left, from_bottom) = match corner {
                    Self::UpperLeft => (px, 1.0 - py),
                    Self::UpperRight => (1.0 - px, 1.0 - py),
                    Self::LowerLeft => (px, py),
                    Self::LowerRight => (1.0 - px, py),
                };
                (0.0..SHARE).contains(&from_left) && (0.0..SHARE).contains(&from_bottom)
            };
            points.iter().filter(covered).count()
        };
        let corners = [Self::LowerRight, Self::UpperLeft, Self::UpperRight, Self::LowerLeft];
        corners.into_iter().min_by_key(inside).unwrap_or(Self::LowerRight)
    }

    fn position(self) -> SeriesLabelPosition {
        match self {
            Self::UpperLeft => SeriesLabelPosition::UpperLeft,
            Self::UpperRight => SeriesLabelPosition::UpperRight,
            Self::LowerLeft => SeriesLabelPosition::LowerLeft,
            Self::LowerRight => SeriesLabelPosition::LowerRight,
        }
    }
}

/// What is drawn in one colour.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend; an empty one is not listed.
    pub name: String,
    /// Which of the colours; they repeat after ten. `None` is grey.
    pub color: Option<usize>,
    /// How it is drawn.
    pub mark: Mark,
}

/// How data are drawn.
#[derive(Debug, Clone)]
pub enum Mark {
    /// A line through points `(x, y)`.
    Line(Vec<(f64, f64)>),
    /// The area between two curves: `(x, low, high)`.
    Band(Vec<(f64, f64, f64)>),
    /// Points `(x, y)` of this radius in pixels.
    Points(Vec<(f64, f64)>, u32),
}

/// Colours that are told apart with every common kind of colour vision (Okabe and Ito, 2008), and four more: as many as
/// there are algorithms, so that a comparison of all of them repeats none.
const COLORS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
    RGBColor(148, 103, 40),
    RGBColor(96, 50, 150),
    RGBColor(160, 190, 30),
];
const GREY: RGBColor = RGBColor(170, 170, 170);
pub(crate) const FONT: &str = "sans-serif";

impl Series {
    fn rgb(&self) -> RGBColor {
        self.color.and_then(|color| COLORS.get(color % COLORS.len())).copied().unwrap_or(GREY)
    }
}

impl Mark {
    fn corners(&self) -> Vec<(f64, f64)> {
        match self {
            Self::Line(points) | Self::Points(points, _) => points.clone(),
            Self::Band(points) => points.iter().flat_map(|&(x, low, high)| [(x, low), (x, high)]).collect(),
        }
    }
}

/// Draws panels of `width` times `height` pixels, row by row.
///
/// # Errors
/// [`PlotError`] if there is no panel or no room, or the drawing library fails.
pub fn draw(charts: &[Chart], columns: usize, width: u32, height: u32) -> Result<Frame, PlotError> {
    if charts.is_empty() || columns == 0 || width < 120 || height < 100 {
        return Err(PlotError::Empty { charts: charts.len(), columns, width, height });
    }
    prepare_font();
    let rows = charts.len().div_ceil(columns);
    let (full_width, full_height) = (width * columns as u32, height * rows as u32);
    let mut frame = Frame::filled(full_width, full_height, [255; 3]);
    {
        let root = BitMapBackend::with_buffer(&mut frame.rgb, (full_width, full_height)).into_drawing_area();
        for (area, chart) in root.split_evenly((rows, columns)).iter().zip(charts) {
            panel(area, chart).map_err(|error| PlotError::Draw(error.to_string()))?;
        }
        root.present().map_err(|error| PlotError::Draw(error.to_string()))?;
    }
    Ok(frame)
}

pub(crate) fn prepare_font() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        if register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_err() {
            tracing::warn!("the embedded font cannot be read; charts have no words");
        }
    });
}

/// The range that shows all `values`, with a little room.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return 0.0..1.0;
    }
    let room = if high > low { 0.04 * (high - low) } else { 0.5 };
    low - room..high + room
}

/// A number on an axis: no more digits than it has.
fn label(value: &f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    // No minus in front of zero.
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded })
}

fn panel(
    area: &DrawingArea<BitMapBackend<'_>, plotters::coord::Shift>,
    chart: &Chart,
) -> Result<(), Box<dyn std::error::Error>> {
    let corners: Vec<_> = chart.series.iter().flat_map(|series| series.mark.corners()).collect();
    let x = chart.x_range.clone().unwrap_or_else(|| around(corners.iter().map(|corner| corner.0)));
    let y = chart.y_range.clone().unwrap_or_else(|| around(corners.iter().map(|corner| corner.1)));
    let legend = chart.legend.unwrap_or_else(|| Corner::emptiest(&corners, &x, &y));
    let has_axes = !chart.x_label.is_empty() || !chart.y_label.is_empty();
    let mut builder = ChartBuilder::on(area);
    builder.margin(10);
    if !chart.title.is_empty() {
        builder.caption(&chart.title, (FONT, 18));
    }
    if has_axes {
        builder.x_label_area_size(40).y_label_area_size(60);
    }
    let mut context = builder.build_cartesian_2d(x, y)?;
    let mut mesh = context.configure_mesh();
    mesh.light_line_style(WHITE).bold_line_style(RGBColor(232, 232, 232));
    if has_axes {
        mesh.x_desc(&chart.x_label).y_desc(&chart.y_label).label_style((FONT, 13)).axis_desc_style((FONT, 15));
        mesh.x_labels(6).y_labels(6).x_label_formatter(&label).y_label_formatter(&label);
    } else {
        mesh.disable_axes();
    }
    mesh.draw()?;
    for series in &chart.series {
        let color = series.rgb();
        let drawn = match &series.mark {
            Mark::Line(points) => {
                context.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            }
            Mark::Band(points) => {
                let upper = points.iter().map(|&(x, _, high)| (x, high));
                let lower = points.iter().rev().map(|&(x, low, _)| (x, low));
                let outline: Vec<_> = upper.chain(lower).collect();
                context.draw_series([Polygon::new(outline, color.mix(0.18))])?
            }
            Mark::Points(points, radius) => {
                context.draw_series(points.iter().map(|&point| Circle::new(point, *radius, color.mix(0.7).filled())))?
            }
        };
        if !series.name.is_empty() {
            drawn
                .label(&series.name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 2), (x + 16, y + 2)], color.filled()));
        }
    }
    if chart.series.iter().any(|series| !series.name.is_empty()) {
        context
            .configure_series_labels()
            .position(legend.position())
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(210, 210, 210))
            .label_font((FONT, 14))
            .draw()?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn labels_have_no_more_digits_than_their_numbers() {
        let labels = [0.0, -1e-12, 10_000.0, 0.1 + 0.2, -2.5].map(|value| label(&value));
        assert_eq!(labels, ["0", "0", "10000", "0.3", "-2.5"]);
    }

    #[test]
    fn a_legend_stands_where_nothing_is() {
        let corner = |points: &[(f64, f64)]| Corner::emptiest(points, &(0.0..1.0), &(0.0..1.0));
        assert_eq!(corner(&[]), Corner::LowerRight);
        assert_eq!(corner(&[(0.9, 0.1)]), Corner::UpperLeft);
        assert_eq!(corner(&[(0.9, 0.1), (0.1, 0.9), (0.8, 0.8)]), Corner::LowerLeft);
        // What lies outside of the chart is not hidden.
        assert_eq!(corner(&[(0.9, 0.1), (0.1, 7.0)]), Corner::UpperLeft);
    }

    #[test]
    fn a_chart_shows_its_colours_and_its_words() {
        let line = |color, y| Series {
            name: format!("series {color}"),
            color: Some(color),
            mark: Mark::Line(vec![(0.0, y), (1.0, y + 0.5), (2.0, f64::from(color as u32))]),
        };
        let band =
            Series { name: String::new(), color: Some(0), mark: Mark::Band(vec![(0.0, -0.2, 0.2), (2.0, 0.5, 1.5)]) };
        let chart = Chart {
            title: "returns".to_owned(),
            x_label: "steps".to_owned(),
            y_label: "return".to_owned(),
            series: vec![band, line(0, 0.0), line(1, 1.0)],
            ..Chart::default()
        };
        let points = Chart {
            series: vec![Series { name: String::new(), color: None, mark: Mark::Points(vec![(0.0, 0.0)], 3) }],
            ..Chart::default()
        };
        let frame = draw(&[chart.clone(), points, chart], 2, 320, 240).unwrap();
        assert_eq!((frame.width, frame.height), (640, 480));
        let count = |color: RGBColor| {
            let wanted = [color.0, color.1, color.2];
            frame.rgb.chunks(3).filter(|pixel| **pixel == wanted).count()
        };
        assert!(count(COLORS[0]) > 100 && count(COLORS[1]) > 100);
        // Dark pixels in the rows of the title are its letters.
        let title = frame.rgb.chunks(3).take(640 * 30).filter(|pixel| pixel.iter().all(|part| *part < 110)).count();
        assert!(title > 30, "{title} dark pixels");
        assert!(draw(&[], 1, 320, 240).is_err());
    }
}
