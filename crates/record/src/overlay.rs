//! Words burnt into frames: how the agent in the picture does.

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

/// One line in the upper left corner of a picture.
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
}

impl Overlay {
    /// A line of your own.
    #[must_use]
    pub fn custom(text: impl Fn(EntityRef<'_>) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(text))
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

/// What stands in a tile's corner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    tile: Tile,
    lines: Vec<Line>,
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
        Self { tile, lines: overlays.iter().filter_map(|overlay| overlay.line(agent)).collect() }
    }
}

/// Burns `labels` into a frame.
pub(crate) fn draw_labels(frame: &mut Frame, labels: &[Label]) {
    if labels.iter().all(|label| label.lines.is_empty()) {
        return;
    }
    plot::prepare_font();
    let size = (frame.width, frame.height);
    let area = BitMapBackend::with_buffer(&mut frame.rgb, size).into_drawing_area();
    for label in labels.iter().filter(|label| !label.lines.is_empty()) {
        if let Err(error) = draw_label(&area, label) {
            // A film without its words is better than none.
            tracing::debug!(%error, "an overlay could not be drawn");
        }
    }
}

fn draw_label(
    area: &DrawingArea<BitMapBackend<'_>, plotters::coord::Shift>,
    Label { tile, lines }: &Label,
) -> Result<(), Box<dyn std::error::Error>> {
    /// Smallest letters that one can read, pixels.
    const MIN_LETTERS: u32 = 11;
    let letters = (tile.height / 24).max(MIN_LETTERS);
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
