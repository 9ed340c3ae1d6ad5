use std::collections::BTreeMap;

use bevy::prelude::*;
use onestep_agent::{AgentMode, AgentSystems, Episode};
use onestep_learn::CandidateSet;
use onestep_sim::Arena;

/// Draws the candidates of each agent as the paths that its gripper would take.
///
/// A path is cool where the critic expects little and warm where it expects much; the chosen one is thick and bright.
/// Paths come from the arm's kinematics alone, so they show intentions, not contacts. It needs
/// `PolicyPlugin { keep_candidates: true, .. }`, and does nothing in an app without gizmos.
#[derive(Debug, Clone)]
pub struct CandidatesPlugin {
    /// Width of a candidate, pixels.
    pub line_width: f32,
    /// Width of the chosen one, pixels.
    pub chosen_line_width: f32,
    /// At most this many candidates are drawn for each agent; the chosen one is always among them.
    pub max_candidates: usize,
}

impl Default for CandidatesPlugin {
    fn default() -> Self {
        Self { line_width: 1.5, chosen_line_width: 5.0, max_candidates: 64 }
    }
}

impl Plugin for CandidatesPlugin {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<bevy::gizmos::GizmoPlugin>() {
            tracing::debug!("no gizmos in this app: candidates are not drawn");
            return;
        }
        app.init_gizmo_group::<CandidateLines>().init_gizmo_group::<ChosenLine>();
        if let Some(mut store) = app.world_mut().get_resource_mut::<GizmoConfigStore>() {
            // Slightly in front of everything: a path inside the hand would else be hidden by it.
            let (config, _) = store.config_mut::<CandidateLines>();
            config.line.width = self.line_width;
            config.depth_bias = -0.4;
            let (config, _) = store.config_mut::<ChosenLine>();
            config.line.width = self.chosen_line_width;
            config.depth_bias = -0.5;
        }
        app.insert_resource(MaxCandidates(self.max_candidates.max(1)))
            .init_resource::<Paths>()
            .add_systems(FixedUpdate, predict_paths.after(AgentSystems::Act).before(AgentSystems::Step))
            .add_systems(Update, draw_paths);
    }
}

/// Gizmos of the candidates that were not chosen.
#[derive(Default, Reflect, GizmoConfigGroup)]
struct CandidateLines;

/// Gizmos of the chosen candidate.
#[derive(Default, Reflect, GizmoConfigGroup)]
struct ChosenLine;

#[derive(Resource)]
struct MaxCandidates(usize);

/// The paths of each agent's candidates, from where the agent was when it chose.
#[derive(Resource, Default)]
struct Paths(BTreeMap<Entity, Vec<CandidatePath>>);

struct CandidatePath {
    /// In the arena's frame, Bevy's axes.
    points: Vec<Vec3>,
    color: Color,
    chosen: bool,
}

/// Between acting and stepping: the arm is still where the policy saw it.
fn predict_paths(
    max: Res<MaxCandidates>,
    mut paths: ResMut<Paths>,
    agents: Query<(Entity, &Arena, &CandidateSet), Changed<CandidateSet>>,
) {
    for (entity, arena, set) in &agents {
        let chunk = set.actions.len().checked_div(set.q.len()).unwrap_or(0);
        if chunk == 0 {
            paths.0.remove(&entity);
            continue;
        }
        let (low, high) = set.q.iter().fold((f32::MAX, f32::MIN), |(low, high), q| (low.min(*q), high.max(*q)));
        let stride = set.q.len().div_ceil(max.0).max(1);
        let start = arena.sim().grip_site();
        let candidates = set.actions.chunks_exact(chunk).zip(&set.q).enumerate();
        let drawn = candidates.filter(|(index, _)| *index == set.chosen || index.is_multiple_of(stride));
        let made = drawn.map(|(index, (actions, q))| CandidatePath {
            points: start.into_iter().chain(arena.sim().predict_path(actions)).collect(),
            color: value_color(*q, low, high),
            chosen: index == set.chosen,
        });
        paths.0.insert(entity, made.collect());
    }
}

fn draw_paths(
    paths: Res<Paths>,
    mut lines: Gizmos<CandidateLines>,
    mut chosen_line: Gizmos<ChosenLine>,
    agents: Query<(&AgentMode, &Episode, &Transform)>,
) {
    for (entity, candidates) in &paths.0 {
        let Ok((mode, episode, place)) = agents.get(*entity) else { continue };
        if *mode != AgentMode::Policy || !episode.is_active() {
            continue;
        }
        for CandidatePath { points, color, chosen } in candidates {
            let points = points.iter().map(|point| place.transform_point(*point));
            if *chosen {
                chosen_line.linestrip(points, *color);
            } else {
                lines.linestrip(points, color.with_alpha(0.7));
            }
        }
    }
}

/// The colour of a value between `low` (cool blue) and `high` (warm orange). All values equal: the middle.
#[must_use]
pub fn value_color(value: f32, low: f32, high: f32) -> Color {
    let span = high - low;
    let t = if span > f32::EPSILON { ((value - low) / span).clamp(0.0, 1.0) } else { 0.5 };
    // Through the hues from blue over green and yellow to orange-red, so that the order can be read.
    Color::oklch(0.62 + 0.14 * t, 0.17, 260.0 - 225.0 * t)
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
    }

    #[test]
    fn an_app_without_gizmos_is_left_alone() {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, CandidatesPlugin::default()));
        app.update();
    }
}
