//! Words and scales burnt into frames: how the agent in the picture does, and what colours mean.

use std::{fmt, sync::Arc};

use bevy::ecs::world::EntityRef;
use onestep_agent::{EpisodeSums, prelude::*};
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{picture::Frame, plot};

/// Reads a line of text from an agent's components; nothing when there is nothing to say.
pub type OverlayText = Arc<dyn Fn(EntityRef<'_>) -> Option<String> + Send + Sync>;

/// Reads a scale of colours from an agent's components; nothing when there is none.
pub type OverlayScale = Arc<dyn Fn(EntityRef<'_>) -> Option<ColorScale> + Send + Sync>;

/// What colours in the picture mean, in numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ColorScale {
    /// What is measured.
    pub title: String,
    /// Colours at even distances from the lowest value to the highest, 8-bit sRGB.
    pub colors: Vec<[u8; 3]>,
    /// The lowest value.
    pub low: f32,
    /// The highest value.
    pub high: f32,
    /// A value that is marked, with its name.
    pub mark: Option<(String, f32)>,
}

/// One line in the upper left corner of a picture, or a scale in the lower left one.
#[derive(Clone)]
#[non_exhaustive]
pub enum Overlay {
    /// Whether the goal holds.
    Success,
    /// Reward of the last step.
    Reward,
    /// Sum of rewards since the episode began.
    Return,
    /// Control steps since the episode began.
    Step,
    /// Anything else, such as the value that a critic gives to what the agent does.
    Custom(OverlayText),
    /// What the colours in the picture mean.
    Scale(OverlayScale),
}

impl Overlay {
    /// A line of your own.
    #[must_use]
    pub fn custom(text: impl Fn(EntityRef<'_>) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(text))
    }

    /// A scale of colours.
    #[must_use]
    pub fn scale(scale: impl Fn(EntityRef<'_>) -> Option<ColorScale> + Send + Sync + 'static) -> Self {
        Self::Scale(Arc::new(scale))
    }

    fn line(&self, agent: EntityRef<'_>) -> Option<Line> {
        let plain = |text| Line { text, is_good: false };
        match self {
            Self::Success => agent
                .get::<Outcome>()
                .filter(|outcome| outcome.success)
                .map(|_| Line { text: "success".to_owned(), is_good: true }),
            Self::Reward => agent.get::<Outcome>().map(|outcome| plain(format!("reward {:.2}", outcome.reward))),
            Self::Return => agent.get::<EpisodeSums>().map(|sums| plain(format!("return {:.2}", sums.return_sum))),
            Self::Step => agent.get::<Episode>().map(|episode| plain(format!("step {}", episode.step))),
            Self::Custom(text) => text(agent).map(plain),
            Self::Scale(_) => None,
        }
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "Success",
            Self::Reward => "Reward",
            Self::Return => "Return",
            Self::Step => "Step",
            Self::Custom(_) => "Custom",
            Self::Scale(_) => "Scale",
        })
    }
}

/// A part of a frame, pixels from its upper left corner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tile {
    /// Columns to the left of it.
    pub x: u32,
    /// Rows above it.
    pub y: u32,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
}

/// What stands in a tile's corners.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Label {
    tile: Tile,
    lines: Vec<Line>,
    scale: Option<ColorScale>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    text: String,
    is_good: bool,
}

impl Label {
    /// What `overlays` say about an agent.
    #[must_use]
    pub fn of_agent(overlays: &[Overlay], agent: EntityRef<'_>, tile: Tile) -> Self {
        let scale = overlays.iter().find_map(|overlay| match overlay {
            Overlay::Scale(scale) => scale(agent),
            _ => None,
        });
        Self { tile, lines: overlays.iter().filter_map(|overlay| overlay.line(agent)).collect(), scale }
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.scale.is_none()
    }
}

/// Burns `labels` into a frame.
pub(crate) fn draw_labels(frame: &mut Frame, labels: &[Label]) {
    if labels.iter().all(Label::is_empty) {
        return;
    }
    plot::prepare_font();
    let size = (frame.width, frame.height);
    let area = BitMapBackend::with_buffer(&mut frame.rgb, size).into_drawing_area();
    for label in labels.iter().filter(|label| !label.is_empty()) {
        let words = if label.lines.is_empty() { Ok(()) } else { draw_lines(&area, label) };
        let drawn =
            words.and_then(|()| label.scale.as_ref().map_or(Ok(()), |scale| draw_scale(&area, label.tile, scale)));
        if let Err(error) = drawn {
            // A film without its words is better than none.
            tracing::debug!(%error, "an overlay could not be drawn");
        }
    }
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;

/// Height of the letters in a tile, pixels.
fn letters(tile: Tile) -> u32 {
    /// Smallest letters that one can read.
    const MIN_LETTERS: u32 = 11;
    (tile.height / 24).max(MIN_LETTERS)
}

/// A bar of colours with its title above and its numbers below.
fn draw_scale(area: &Area<'_>, tile: Tile, scale: &ColorScale) -> Result<(), Box<dyn std::error::Error>> {
    let unit = letters(tile) as i32;
    let (margin, width, height) = (unit / 2, 14 * unit, unit / 2);
    // From below: numbers, bar, title.
    let (left, bottom) = (tile.x as i32 + 2 * margin, (tile.y + tile.height) as i32 - margin);
    let numbers = bottom - unit * 4 / 5;
    let bar = numbers - unit - height;
    let title = bar - unit * 4 / 5;
    let corners = [(left - margin, title - unit), (left + width + margin, bottom)];
    area.draw(&Rectangle::new(corners, BLACK.mix(0.55).filled()))?;
    let last = scale.colors.len().saturating_sub(1).max(1);
    for column in 0..width {
        // Between two colours there is a mixture, so that a few of them make an even scale.
        let place = column as f32 / (width - 1).max(1) as f32 * last as f32;
        let at = |index: usize| scale.colors.get(index.min(last)).or(scale.colors.last()).copied().unwrap_or_default();
        let (from, to) = (at(place as usize), at(place as usize + 1));
        let mixed = |k: usize| {
            let (from, to) = (from.get(k).copied().unwrap_or(0), to.get(k).copied().unwrap_or(0));
            (f32::from(from) + (f32::from(to) - f32::from(from)) * place.fract()).round() as u8
        };
        let x = left + column;
        let color = RGBColor(mixed(0), mixed(1), mixed(2));
        area.draw(&Rectangle::new([(x, bar), (x + 1, bar + height)], color.filled()))?;
    }
    let font = (plot::FONT, unit as u32).into_font();
    let text = |text: &str, x: i32, y: i32, place: HPos| {
        let style = font.color(&WHITE).pos(Pos::new(place, VPos::Center));
        area.draw(&Text::new(text.to_owned(), (x, y), style))
    };
    text(&scale.title, left, title, HPos::Left)?;
    text(&format!("{:.2}", scale.low), left, numbers, HPos::Left)?;
    text(&format!("{:.2}", scale.high), left + width, numbers, HPos::Right)?;
    if let Some((name, value)) = &scale.mark {
        let span = scale.high - scale.low;
        let share = if span > 0.0 { ((value - scale.low) / span).clamp(0.0, 1.0) } else { 0.5 };
        let x = left + (share * width as f32) as i32;
        let half = (unit / 12).max(1);
        let mark = [(x - half, bar - margin / 2), (x + half, bar + height + margin / 2)];
        area.draw(&Rectangle::new(mark, WHITE.filled()))?;
        text(&format!("{name} {value:.2}"), left + width / 2, numbers, HPos::Center)?;
    }
    Ok(())
}

fn draw_lines(area: &Area<'_>, Label { tile, lines, .. }: &Label) -> Result<(), Box<dyn std::error::Error>> {
    let letters = letters(*tile);
    let font = (plot::FONT, letters).into_font();
    let (step, margin) = ((letters + letters / 3) as i32, (letters / 2) as i32);
    let mut width = 0;
    for line in lines {
        width = width.max(font.box_size(&line.text)?.0 as i32);
    }
    let (left, top) = (tile.x as i32 + margin, tile.y as i32 + margin);
    let corner = (left + width + 2 * margin, top + step * lines.len() as i32 + margin);
    area.draw(&Rectangle::new([(left, top), corner], BLACK.mix(0.55).filled()))?;
    for (number, line) in (0..).zip(lines) {
        let color = if line.is_good { RGBColor(140, 245, 150) } else { WHITE };
        let style = font.color(&color).pos(Pos::new(HPos::Left, VPos::Center));
        let y = top + margin / 2 + step * number + step / 2;
        area.draw(&Text::new(line.text.as_str(), (left + margin, y), style))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use bevy::ecs::prelude::*;

    #[test]
    fn a_scale_shows_its_colours_in_order_in_its_corner() {
        let mut world = World::new();
        let spec = AgentSpec::new(ObservationSpace::new([("x", 1)]), ActionSpace::new(["push"]), 10);
        let agent = world.spawn(AgentBundle::new(0, spec)).id();
        let scale = ColorScale {
            title: "Q of 8 candidates".to_owned(),
            colors: vec![[20, 20, 200], [200, 20, 20]],
            low: -2.0,
            high: 0.5,
            mark: Some(("chosen".to_owned(), 0.5)),
        };
        let tile = Tile { x: 0, y: 240, width: 320, height: 240 };
        let label = Label::of_agent(&[Overlay::scale(move |_| Some(scale.clone()))], world.entity(agent), tile);
        let mut frame = Frame::filled(320, 480, [90, 120, 90]);
        draw_labels(&mut frame, &[label]);
        assert!(frame.rgb.chunks_exact(3).take(320 * 240).all(|pixel| pixel == [90, 120, 90]));
        let places = |wanted: &dyn Fn(&[u8]) -> bool| -> Vec<usize> {
            let pixels = frame.rgb.chunks_exact(3).enumerate();
            pixels.filter(|(_, pixel)| wanted(pixel)).map(|(index, _)| index % 320).collect()
        };
        let (blue, red) =
            (places(&|pixel| pixel[2] > 150 && pixel[0] < 90), places(&|pixel| pixel[0] > 150 && pixel[2] < 90));
        let mean = |places: &[usize]| places.iter().sum::<usize>() as f64 / places.len() as f64;
        assert!(blue.len() > 50 && red.len() > 50, "{} blue and {} red pixels", blue.len(), red.len());
        assert!(mean(&blue) + 40.0 < mean(&red) && mean(&red) < 170.0);
        // Letters, and the mark at the right end.
        assert!(places(&|pixel| pixel.iter().all(|value| *value > 140)).len() > 60);
    }

    #[test]
    fn lines_tell_what_the_agent_does_in_its_tile_alone() {
        let mut world = World::new();
        let spec = AgentSpec::new(ObservationSpace::new([("x", 1)]), ActionSpace::new(["push"]), 10);
        let agent = world.spawn(AgentBundle::new(0, spec)).id();
        world.entity_mut(agent).insert(Outcome { reward: 0.5, success: true, ..Outcome::default() });
        let overlays = [
            Overlay::Success,
            Overlay::Reward,
            Overlay::Step,
            Overlay::custom(|agent| agent.get::<Outcome>().map(|outcome| format!("Q {}", 2.0 * outcome.reward))),
            Overlay::custom(|_| None),
        ];
        let tile = Tile { x: 160, y: 0, width: 160, height: 120 };
        let label = Label::of_agent(&overlays, world.entity(agent), tile);
        let texts: Vec<_> = label.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["success", "reward 0.50", "step 0", "Q 1"]);

        let mut frame = Frame::filled(320, 120, [90, 120, 90]);
        draw_labels(&mut frame, &[label]);
        let count = |from: usize, to: usize, wanted: &dyn Fn(&[u8]) -> bool| {
            let rows = frame.rgb.chunks_exact(3 * 320);
            rows.flat_map(|row| row.chunks_exact(3).take(to).skip(from)).filter(|pixel| wanted(pixel)).count()
        };
        let light = |pixel: &[u8]| pixel.iter().all(|value| *value > 140);
        let green = |pixel: &[u8]| pixel[1] > 125 && pixel[1] - 25 > pixel[0];
        assert!(count(160, 320, &light) > 30, "{} white pixels", count(160, 320, &light));
        assert!(count(160, 320, &green) > 10, "{} green pixels", count(160, 320, &green));
        assert_eq!(count(0, 160, &|pixel| pixel != [90, 120, 90]), 0);
    }
}
