use std::collections::BTreeMap;

use bevy::{
    camera::visibility::NoFrustumCulling,
    light::{NotShadowCaster, NotShadowReceiver},
    prelude::*,
};
use onestep_agent::{Agent, AgentMode, AgentSystems, Episode};
use onestep_learn::CandidateSet;
use onestep_record::overlay::{ColorScale, Overlay};
use onestep_sim::Arena;

use crate::{
    paint::{self, Paint},
    tube::{TubeMesh, TubePoint, smooth},
};

/// Draws the candidates of each agent as the paths that its grippers would take.
///
/// A path is dark where the critic expects little and bright where it expects much, see [`value_color`]; the chosen one
/// is thick. Paths grow thin and pale towards the end of the chunk. They come from the arm's kinematics alone, so they
/// show intentions, not contacts. It needs `PolicyPlugin { keep_candidates: true, .. }`, and does nothing in an app
/// without a renderer.
#[derive(Debug, Clone)]
pub struct CandidatesPlugin {
    /// Radius of a candidate where it starts, metres.
    pub radius_meters: f32,
    /// Radius of the chosen one.
    pub chosen_radius_meters: f32,
    /// At most this many candidates are drawn for each agent, evenly spread over all; the chosen one is always among
    /// them.
    pub max_candidates: usize,
}

impl Default for CandidatesPlugin {
    fn default() -> Self {
        Self { radius_meters: 0.0015, chosen_radius_meters: 0.0042, max_candidates: 64 }
    }
}

impl Plugin for CandidatesPlugin {
    fn build(&self, app: &mut App) {
        if !app.world().contains_resource::<Assets<Mesh>>()
            || !app.world().contains_resource::<Assets<StandardMaterial>>()
        {
            tracing::debug!("no renderer in this app: candidates are not drawn");
            return;
        }
        paint::add(app);
        app.insert_resource(Settings(self.clone()))
            .init_resource::<Paths>()
            .init_resource::<ShownCandidates>()
            .add_systems(FixedUpdate, predict_paths.after(AgentSystems::Act).before(AgentSystems::Step))
            .add_systems(Update, draw_paths);
    }
}

/// The values of the candidates that are drawn for the first agent: what a legend needs.
#[derive(Resource, Debug, Clone, Copy, Default, PartialEq)]
pub struct ShownCandidates {
    /// The critic's lowest and highest value, if anything is drawn.
    pub range: Option<(f32, f32)>,
    /// Its value of the chosen one.
    pub chosen: f32,
    /// How many candidates there are.
    pub count: usize,
    /// How many of them are drawn.
    pub drawn: usize,
}

#[derive(Resource)]
struct Settings(CandidatesPlugin);

/// The paths of each agent's candidates, from where the agent was when it chose.
#[derive(Resource, Default)]
struct Paths(BTreeMap<Entity, AgentPaths>);

struct AgentPaths {
    candidates: Vec<CandidatePath>,
    shown: ShownCandidates,
    /// The entities that draw: all candidates but the chosen one, and that one.
    drawn: Option<(Entity, Entity)>,
    is_new: bool,
}

struct CandidatePath {
    /// In the arena's frame, Bevy's axes.
    points: Vec<Vec3>,
    color: LinearRgba,
    chosen: bool,
}

/// Between acting and stepping: the arm is still where the policy saw it.
fn predict_paths(
    settings: Res<Settings>,
    mut paths: ResMut<Paths>,
    agents: Query<(Entity, &Arena, &CandidateSet), Changed<CandidateSet>>,
) {
    for (entity, arena, set) in &agents {
        let drawn = paths.0.get(&entity).and_then(|paths| paths.drawn);
        let chunk = set.actions.len().checked_div(set.q.len()).unwrap_or(0);
        let (low, high) = set.q.iter().fold((f32::MAX, f32::MIN), |(low, high), q| (low.min(*q), high.max(*q)));
        let candidates = if chunk == 0 {
            Vec::new()
        } else {
            let all: Vec<_> = set.actions.chunks_exact(chunk).zip(&set.q).collect();
            shown_of(all.len(), settings.0.max_candidates, set.chosen)
                .filter_map(|index| Some((index, *all.get(index)?)))
                .flat_map(|(index, (actions, q))| {
                    let color = value_color(*q, low, high).to_linear();
                    let chosen = index == set.chosen;
                    let paths = arena.sim().predict_paths(actions).into_iter();
                    paths.map(move |points| CandidatePath { points, color, chosen })
                })
                .filter(|path| path.points.len() > 1)
                .collect()
        };
        let shown = ShownCandidates {
            range: (!candidates.is_empty()).then_some((low, high)),
            chosen: set.q.get(set.chosen).copied().unwrap_or(f32::NAN),
            count: set.q.len(),
            drawn: set.q.len().min(settings.0.max_candidates.max(1)),
        };
        paths.0.insert(entity, AgentPaths { candidates, shown, drawn, is_new: true });
    }
}

type Brush<'a> = (&'a mut Mesh3d, &'a mut Transform, &'a mut Visibility);

#[allow(clippy::too_many_arguments, reason = "a Bevy system takes what it needs")]
fn draw_paths(
    mut commands: Commands,
    settings: Res<Settings>,
    mut paths: ResMut<Paths>,
    mut shown: ResMut<ShownCandidates>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<Paint>>,
    mut paint: Local<Option<(Handle<Paint>, Handle<Paint>)>>,
    agents: Query<(&Agent, &AgentMode, &Episode, &Transform), With<Arena>>,
    mut brushes: Query<Brush<'_>, Without<Arena>>,
) {
    let (thin, thick) = paint.get_or_insert_with(|| {
        // The chosen one is drawn after the others.
        (materials.add(Paint { depth_bias: IN_FRONT }), materials.add(Paint { depth_bias: IN_FRONT + IN_FRONT / 2 }))
    });
    let mut first: Option<(u32, ShownCandidates)> = None;
    for (entity, paths) in &mut paths.0 {
        let found = agents.get(*entity).ok();
        let is_shown = found.is_some_and(|(_, mode, episode, _)| {
            *mode == AgentMode::Policy && episode.is_active() && !paths.candidates.is_empty()
        });
        if let Some((agent, _, _, place)) = found
            && is_shown
        {
            if first.is_none_or(|(number, _)| agent.0 < number) {
                first = Some((agent.0, paths.shown));
            }
            let (others, chosen) = *paths.drawn.get_or_insert_with(|| {
                let brush = |paint: &Handle<Paint>| {
                    (
                        Mesh3d::default(),
                        MeshMaterial3d(paint.clone()),
                        *place,
                        Visibility::Hidden,
                        NotShadowCaster,
                        NotShadowReceiver,
                        NoFrustumCulling,
                    )
                };
                paths.is_new = true;
                (commands.spawn(brush(thin)).id(), commands.spawn(brush(thick)).id())
            });
            let Ok([mut others, mut chosen]) = brushes.get_many_mut([others, chosen]) else { continue };
            if paths.is_new {
                for (brush, drawn) in [
                    (&mut others, candidates_mesh(&paths.candidates, &settings.0)),
                    (&mut chosen, chosen_mesh(&paths.candidates, &settings.0)),
                ] {
                    // The renderer has no room for a mesh without corners: a single candidate has no others.
                    *brush.0 = drawn.map_or_else(Mesh3d::default, |mesh| Mesh3d(meshes.add(mesh)));
                }
                paths.is_new = false;
            }
            for (_, transform, visibility) in [&mut others, &mut chosen] {
                transform.set_if_neq(*place);
                visibility.set_if_neq(Visibility::Inherited);
            }
        } else if let Some((others, chosen)) = paths.drawn {
            for drawn in [others, chosen] {
                if let Ok((_, _, mut visibility)) = brushes.get_mut(drawn) {
                    visibility.set_if_neq(Visibility::Hidden);
                }
            }
        }
    }
    shown.set_if_neq(first.map_or_else(ShownCandidates::default, |(_, shown)| shown));
}

/// Which of so many candidates are drawn: `most` of them, evenly spread; the chosen one takes the place of the one next
/// to it.
fn shown_of(count: usize, most: usize, chosen: usize) -> impl Iterator<Item = usize> {
    let shown = count.min(most.max(1));
    let place = move |number: usize| number * count / shown.max(1);
    // The last place at or before the chosen one.
    let nearest = (0..shown).rev().find(|number| place(*number) <= chosen).unwrap_or(0);
    (0..shown).map(move |number| if number == nearest && chosen < count { chosen } else { place(number) })
}

/// Paths start between the fingers, and would be hidden by the hand: they are drawn as if they were about a decimetre
/// nearer, in units of the depth buffer's last digit.
const IN_FRONT: i32 = 500_000;

/// Pieces that a stretch between two control steps is drawn in.
const PIECES: u32 = 4;

/// A path as a tube that tapers and fades; `radius` and `alpha` are those of its start.
fn tube(path: &CandidatePath, radius: f32, alpha: (f32, f32), color: LinearRgba) -> Vec<TubePoint> {
    let curve = smooth(&path.points, PIECES);
    let last = curve.len().saturating_sub(1).max(1) as f32;
    let points = curve.into_iter().enumerate().map(|(index, position)| {
        let time = index as f32 / last;
        let faded = alpha.0 + (alpha.1 - alpha.0) * time;
        TubePoint { position, radius: radius * (1.0 - 0.45 * time), color: color.with_alpha(faded) }
    });
    points.collect()
}

fn candidates_mesh(candidates: &[CandidatePath], settings: &CandidatesPlugin) -> Option<Mesh> {
    let mut mesh = TubeMesh::default();
    let radius = settings.radius_meters;
    for path in candidates.iter().filter(|path| !path.chosen) {
        mesh.tube(&tube(path, radius, (0.95, 0.45), path.color));
        if let Some(end) = path.points.last() {
            mesh.ball(*end, 1.9 * radius, path.color.with_alpha(0.9));
        }
    }
    (!mesh.is_empty()).then(|| mesh.build())
}

fn chosen_mesh(candidates: &[CandidatePath], settings: &CandidatesPlugin) -> Option<Mesh> {
    let mut mesh = TubeMesh::default();
    let radius = settings.chosen_radius_meters;
    for path in candidates.iter().filter(|path| path.chosen) {
        mesh.tube(&tube(path, radius, (1.0, 1.0), path.color));
        for (index, point) in path.points.iter().enumerate().skip(1) {
            let is_end = index + 1 == path.points.len();
            // A ring for each control step, so that one sees how fast it goes.
            let size = if is_end { 1.9 } else { 1.0 };
            mesh.ball(*point, size * radius, path.color);
        }
    }
    (!mesh.is_empty()).then(|| mesh.build())
}

/// What the colours of an agent's candidates mean, for films and pictures.
#[must_use]
pub fn candidates_scale() -> Overlay {
    const STEPS: u8 = 24;
    Overlay::scale(|agent| {
        let set = agent.get::<CandidateSet>().filter(|set| !set.q.is_empty())?;
        let (low, high) = set.q.iter().fold((f32::MAX, f32::MIN), |(low, high), q| (low.min(*q), high.max(*q)));
        let color = |step| value_color(f32::from(step), 0.0, f32::from(STEPS - 1)).to_srgba().to_u8_array_no_alpha();
        Some(ColorScale {
            title: format!("Q of {} candidates", set.q.len()),
            colors: (0..STEPS).map(color).collect(),
            low,
            high,
            mark: set.q.get(set.chosen).map(|q| ("chosen".to_owned(), *q)),
        })
    })
}

/// The colour of a value between `low` and `high`: from deep violet over magenta and orange to bright yellow.
///
/// Lightness grows evenly with the value, so that the order is seen in grey and by colour-blind eyes too. All values
/// equal: the middle.
#[must_use]
pub fn value_color(value: f32, low: f32, high: f32) -> Color {
    /// Lightness, chroma and hue (degrees) in OKLCH, at even distances.
    const STOPS: [[f32; 3]; 5] =
        [[0.36, 0.17, 280.0], [0.48, 0.22, 315.0], [0.61, 0.23, 362.0], [0.74, 0.19, 405.0], [0.88, 0.18, 458.0]];
    let span = high - low;
    let t = if span > f32::EPSILON { ((value - low) / span).clamp(0.0, 1.0) } else { 0.5 };
    let place = t * (STOPS.len() - 1) as f32;
    let stop = |index: usize| STOPS.get(index.min(STOPS.len() - 1)).copied().unwrap_or_default();
    let (from, to, mix) = (stop(place as usize), stop(place as usize + 1), place.fract());
    let mut mixed = from;
    mixed.iter_mut().zip(to).for_each(|(a, b)| *a += (b - *a) * mix);
    let [lightness, chroma, hue] = mixed;
    Color::oklch(lightness, chroma, hue.rem_euclid(360.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn good_is_warm_and_bad_is_cool() {
        let (bad, good) = (value_color(-1.0, -1.0, 3.0).to_srgba(), value_color(3.0, -1.0, 3.0).to_srgba());
        assert!(bad.blue > bad.red && good.red > good.blue);
        assert_eq!(value_color(2.0, 2.0, 2.0), value_color(0.5, 0.0, 1.0));
        // Not a number and out of range still give a colour.
        assert_eq!(value_color(9.0, 0.0, 1.0), value_color(1.0, 0.0, 1.0));
        assert_ne!(value_color(f32::NAN, 0.0, 1.0), Color::NONE);
    }

    #[test]
    fn lightness_grows_evenly_with_the_value() {
        let lightness: Vec<f32> =
            (0..=20).map(|step| Oklcha::from(value_color(step as f32, 0.0, 20.0)).lightness).collect();
        for pair in lightness.windows(2) {
            assert!((0.015..0.045).contains(&(pair[1] - pair[0])), "{pair:?}");
        }
    }

    #[test]
    fn as_many_are_drawn_as_there_is_room_for() {
        for (count, most, chosen) in
            [(65, 64, 64), (65, 64, 1), (128, 64, 127), (64, 64, 5), (3, 64, 2), (7, 1, 6), (0, 9, 0)]
        {
            let shown: Vec<usize> = shown_of(count, most, chosen).collect();
            assert_eq!(shown.len(), count.min(most), "{count} {most}");
            assert!(shown.is_sorted_by(|a, b| a < b) && shown.iter().all(|index| *index < count), "{shown:?}");
            assert!(count == 0 || shown.contains(&chosen), "{shown:?}");
            // Evenly: no gap is twice as wide as it must be.
            let widest = shown.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            assert!(widest <= 2 * count.div_ceil(most.max(1)), "{shown:?}");
        }
    }

    #[test]
    fn an_app_without_a_renderer_is_left_alone() {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, CandidatesPlugin::default()));
        app.update();
    }
}
