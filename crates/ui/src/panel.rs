//! The panel beside the scene.

mod chart;
mod history;
mod sections;

use bevy::{
    camera::{CameraMainTextureUsages, CameraOutputMode, ClearColorConfig, Viewport, visibility::RenderLayers},
    ecs::system::SystemParam,
    input::gamepad::Gamepad,
    prelude::*,
    render::render_resource::{BlendState, TextureUsages},
};
use bevy_egui::{
    EguiContexts, EguiGlobalSettings, EguiPlugin, EguiPrimaryContextPass, PrimaryEguiContext,
    egui::{self, Align2, Color32, CornerRadius, FontId, Margin, RichText, Ui},
};
use onestep_agent::{Agent, StageTimes};
use onestep_learn::{ActSettings, CandidateSet, ComputeReport, LearnerSchedule, LearnerState, PolicyHandle, Replay};
use onestep_record::recorder::Recorder;
use onestep_sim::Arena;

use crate::{
    Filming, HumanControl, InputCapture, Notice, OrbitCamera, RunStatus, SaveRequest, ShowHelp, ShownCandidates,
    episodes::EpisodeControl, gamepad, value_color,
};
use history::History;

/// The panel: where the run stands, its curves, what the critic thinks of each candidate, where the time of a tick goes,
/// and the knobs.
///
/// It reads the public components and resources of the other plugins, and shows what it finds: in an app without a
/// learner there are no losses, without [`PacePlugin`](crate::PacePlugin) there is no pause. It brings an egui context
/// of its own if the app has none. Cameras with an [`OrbitCamera`] get the part of the window that it leaves free.
#[derive(Debug, Clone, Default)]
pub struct PanelPlugin {
    /// How it starts.
    pub panel: Panel,
}

/// How the panel looks. F1 opens and closes it.
#[derive(Resource, Debug, Clone, PartialEq)]
pub struct Panel {
    /// Whether it is there.
    pub open: bool,
    /// Dark, or light.
    pub dark: bool,
    /// Size of text and all else, beside what the screen asks for.
    pub zoom: f32,
    /// The seed that a reset takes; empty: the next one.
    pub seed: String,
}

impl Default for Panel {
    fn default() -> Self {
        Self { open: true, dark: true, zoom: 1.0, seed: String::new() }
    }
}

impl Plugin for PanelPlugin {
    fn build(&self, app: &mut App) {
        if app.get_sub_app(bevy::render::RenderApp).is_none() {
            tracing::debug!("no renderer in this app: there is no panel");
            return;
        }
        if !app.is_plugin_added::<EguiPlugin>() {
            app.add_plugins(EguiPlugin::default());
            app.add_systems(PreStartup, spawn_context);
        }
        app.insert_resource(self.panel.clone())
            .init_resource::<History>()
            .init_resource::<InputCapture>()
            .init_resource::<HumanControl>()
            .init_resource::<Notice>()
            .init_resource::<ShowHelp>()
            .add_systems(Update, (toggle, history::collect))
            .add_systems(EguiPrimaryContextPass, draw);
    }
}

/// A camera over all others that draws the panel and nothing else.
fn spawn_context(mut commands: Commands, mut settings: ResMut<EguiGlobalSettings>) {
    settings.auto_create_primary_context = false;
    commands.spawn((
        PrimaryEguiContext,
        Camera2d,
        RenderLayers::none(),
        // Cameras of one target share a texture if they ask for the same: this one has its own, or it would draw over
        // theirs. With several samples it would also start from what it has drawn before.
        CameraMainTextureUsages::default().with(TextureUsages::COPY_DST),
        Msaa::Off,
        Camera {
            order: 100,
            output_mode: CameraOutputMode::Write {
                blend_state: Some(BlendState::PREMULTIPLIED_ALPHA_BLENDING),
                clear_color: ClearColorConfig::None,
            },
            clear_color: ClearColorConfig::Custom(Color::NONE),
            ..Camera::default()
        },
    ));
}

fn toggle(keys: Option<Res<ButtonInput<KeyCode>>>, capture: Res<InputCapture>, mut panel: ResMut<Panel>) {
    if keys.is_some_and(|keys| !capture.keyboard && keys.just_pressed(KeyCode::F1)) {
        panel.open = !panel.open;
    }
}

/// Everything that the panel reads and writes.
#[derive(SystemParam)]
struct Facts<'w, 's> {
    history: Res<'w, History>,
    times: Option<Res<'w, StageTimes>>,
    status: Option<Res<'w, RunStatus>>,
    state: Option<Res<'w, LearnerState>>,
    schedule: Option<Res<'w, LearnerSchedule>>,
    replay: Option<Res<'w, Replay>>,
    compute: Option<Res<'w, ComputeReport>>,
    policy: Option<Res<'w, PolicyHandle>>,
    shown: Option<Res<'w, ShownCandidates>>,
    candidates: Query<'w, 's, (&'static Agent, &'static CandidateSet)>,
    arenas: Query<'w, 's, &'static Arena>,
}

/// What its knobs change.
#[derive(SystemParam)]
struct Knobs<'w, 's> {
    panel: ResMut<'w, Panel>,
    save: Option<ResMut<'w, SaveRequest>>,
    control: ResMut<'w, HumanControl>,
    settings: Option<ResMut<'w, ActSettings>>,
    episodes: EpisodeControl<'w, 's>,
    filming: Option<ResMut<'w, Filming>>,
    film: Option<Res<'w, Recorder>>,
    pads: Query<'w, 's, &'static Gamepad>,
    help: ResMut<'w, ShowHelp>,
}

/// Width of the panel, points.
const WIDTH: f32 = 336.0;

fn draw(
    mut contexts: EguiContexts,
    facts: Facts,
    mut knobs: Knobs,
    mut capture: ResMut<InputCapture>,
    mut cameras: Query<&mut Camera, With<OrbitCamera>>,
) -> Result {
    let ctx = contexts.ctx_mut()?.clone();
    style(&ctx, &knobs.panel);
    let whole = ctx.viewport_rect();
    let mut root = Ui::new(
        ctx.clone(),
        egui::Id::new("onestep"),
        egui::UiBuilder::new().layer_id(egui::LayerId::background()).max_rect(whole),
    );
    let mut free = whole;
    if knobs.panel.open {
        let frame = egui::Frame::side_top_panel(root.style()).inner_margin(Margin::symmetric(12, 10));
        let shown =
            egui::Panel::right("onestep panel").exact_size(WIDTH).resizable(false).frame(frame).show(&mut root, |ui| {
                egui::ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
                    sections::all(ui, &facts, &mut knobs);
                });
            });
        free.max.x = shown.response.rect.min.x;
    }
    notice(&ctx, free, &knobs);
    if knobs.help.0 {
        help(&ctx, free, &knobs);
    } else {
        // They would stand in each other's way in a small window.
        legend(&ctx, free, &facts);
    }
    let pointer = ctx.input(|input| input.pointer.latest_pos());
    let is_over = pointer.is_some_and(|at| {
        let popup = ctx.layer_id_at(at).is_some_and(|layer| layer.order >= egui::Order::Foreground);
        popup || (whole.contains(at) && !free.contains(at))
    });
    let wanted = InputCapture {
        pointer: is_over || ctx.egui_is_using_pointer(),
        keyboard: ctx.text_edit_focused(),
        arrows: capture.arrows,
    };
    capture.set_if_neq(wanted);
    leave_room(&ctx, whole, free, &mut cameras);
    Ok(())
}

/// Cameras draw beside the panel, not behind it.
fn leave_room(
    ctx: &egui::Context,
    whole: egui::Rect,
    free: egui::Rect,
    cameras: &mut Query<&mut Camera, With<OrbitCamera>>,
) {
    let scale = ctx.pixels_per_point();
    for mut camera in cameras {
        let Some(target) = camera.physical_target_size() else { continue };
        let width = ((free.width() * scale).round() as u32).min(target.x);
        let viewport = (free != whole && width > 0 && target.y > 0).then(|| Viewport {
            physical_position: UVec2::ZERO,
            physical_size: UVec2::new(width, target.y),
            ..Viewport::default()
        });
        let same = match (&camera.viewport, &viewport) {
            (Some(a), Some(b)) => a.physical_size == b.physical_size,
            (None, None) => true,
            _ => false,
        };
        if !same {
            camera.viewport = viewport;
        }
    }
}

/// Colours, distances and sizes; large screens get large text.
fn style(ctx: &egui::Context, panel: &Panel) {
    /// Points of height that the panel is made for.
    const HEIGHT: f32 = 1_080.0;
    let theme = if panel.dark { egui::Theme::Dark } else { egui::Theme::Light };
    if ctx.theme() != theme {
        ctx.set_theme(theme);
    }
    let points = ctx.viewport_rect().height() * ctx.zoom_factor();
    let zoom = (points / HEIGHT).clamp(1.0, 3.0) * panel.zoom;
    if (ctx.zoom_factor() - zoom).abs() > 1e-3 {
        ctx.set_zoom_factor(zoom);
    }
    ctx.all_styles_mut(|style| {
        style.spacing.item_spacing = egui::vec2(6.0, 4.0);
        style.spacing.button_padding = egui::vec2(8.0, 4.0);
        // Units and hints are read, too.
        style.visuals.weak_text_alpha = 0.85;
        for widget in [
            &mut style.visuals.widgets.inactive,
            &mut style.visuals.widgets.hovered,
            &mut style.visuals.widgets.active,
            &mut style.visuals.widgets.open,
        ] {
            widget.corner_radius = CornerRadius::same(5);
        }
    });
}

fn color32(color: Color) -> Color32 {
    let [red, green, blue, alpha] = color.to_srgba().to_u8_array();
    Color32::from_rgba_unmultiplied(red, green, blue, alpha)
}

/// A card over the scene.
fn card(ctx: &egui::Context, name: &str, align: Align2, at: egui::Pos2, add: impl FnOnce(&mut Ui)) {
    egui::Area::new(egui::Id::new(name)).fixed_pos(at).pivot(align).interactable(false).fade_in(false).show(
        ctx,
        |ui| {
            let visuals = ui.visuals();
            let fill = visuals.panel_fill.gamma_multiply(0.86);
            egui::Frame::new()
                .fill(fill)
                .corner_radius(CornerRadius::same(8))
                .inner_margin(Margin::symmetric(12, 9))
                .show(ui, add);
        },
    );
}

/// What the colours of the candidates mean, in numbers.
fn legend(ctx: &egui::Context, free: egui::Rect, facts: &Facts) {
    const SIZE: egui::Vec2 = egui::vec2(190.0, 11.0);
    const STEPS: usize = 48;
    let Some(ShownCandidates { range: Some((low, high)), chosen, count, drawn }) = facts.shown.as_deref().copied()
    else {
        return;
    };
    card(ctx, "onestep legend", Align2::LEFT_BOTTOM, free.left_bottom() + egui::vec2(14.0, -14.0), |ui| {
        let number = if drawn < count { format!("{drawn} of {count}") } else { count.to_string() };
        ui.label(RichText::new(format!("Q of {number} candidates")).strong());
        let (bar, _) = ui.allocate_exact_size(SIZE, egui::Sense::hover());
        for step in 0..STEPS {
            let part = |step: usize| bar.left() + bar.width() * step as f32 / STEPS as f32;
            let rect = egui::Rect::from_x_y_ranges(part(step)..=part(step + 1) + 0.5, bar.y_range());
            ui.painter().rect_filled(rect, 0.0, color32(value_color(step as f32, 0.0, (STEPS - 1) as f32)));
        }
        let share = if high > low { ((chosen - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 };
        let x = bar.left() + bar.width() * share;
        let mark = egui::Stroke::new(2.0, ui.visuals().strong_text_color());
        ui.painter().line_segment([egui::pos2(x, bar.top() - 3.0), egui::pos2(x, bar.bottom() + 3.0)], mark);
        let (row, _) = ui.allocate_exact_size(egui::vec2(SIZE.x, 14.0), egui::Sense::hover());
        let ink = ui.visuals().strong_text_color().gamma_multiply(0.8);
        let font = FontId::proportional(12.0);
        for (at, align, value) in
            [(row.left_center(), Align2::LEFT_CENTER, low), (row.right_center(), Align2::RIGHT_CENTER, high)]
        {
            ui.painter().text(at, align, format!("{value:.2}"), font.clone(), ink);
        }
        let chosen = format!("chosen {chosen:.2}");
        ui.painter().text(row.center(), Align2::CENTER_CENTER, chosen, font, ui.visuals().strong_text_color());
    });
}

fn notice(ctx: &egui::Context, free: egui::Rect, knobs: &Knobs) {
    let recording = knobs.episodes.recorder.as_ref().map(|recorder| {
        format!(
            "⏺ recording  {} kept  {} discarded  {} steps{}",
            recorder.kept(),
            recorder.discarded(),
            recorder.steps(),
            if recorder.is_success() { "  success" } else { "" }
        )
    });
    let said = knobs.episodes.notice.as_ref().filter(|notice| !notice.text.is_empty());
    if said.is_none() && recording.is_none() {
        return;
    }
    let width = free.width() - 60.0;
    card(ctx, "onestep notice", Align2::CENTER_TOP, free.center_top() + egui::vec2(0.0, 14.0), |ui| {
        // A card remembers how wide it was with the words before.
        ui.set_max_width(width);
        if let Some(recording) = recording {
            ui.label(RichText::new(recording).strong().color(sections::RED));
        }
        if let Some(notice) = said {
            let text = RichText::new(&notice.text).color(ui.visuals().strong_text_color());
            ui.label(if notice.is_error { text.color(sections::RED) } else { text });
        }
    });
}

/// Points around the help.
const HELP_MARGIN: f32 = 14.0;

/// How small the help must be written to fit beside the panel, by its size in the frame before.
fn shrink_help(ctx: &egui::Context, free: egui::Rect) -> f32 {
    /// Smaller than that nobody reads.
    const LEAST: f32 = 0.55;
    let id = egui::Id::new("onestep help scale");
    let before = ctx.data(|data| data.get_temp::<f32>(id)).unwrap_or(1.0);
    let Some(card) = ctx.memory(|memory| memory.area_rect("onestep help")) else { return before };
    let room = free.size() - egui::Vec2::splat(2.0 * HELP_MARGIN);
    let fits = (room / card.size()).min_elem();
    // Text comes in whole pixels: what is a little too small or too large may stay.
    let wanted = (before * fits).clamp(LEAST, 1.0);
    let scale = if fits < 1.0 || wanted > before + 0.06 { wanted } else { before };
    if scale != before {
        ctx.data_mut(|data| data.insert_temp(id, scale));
        ctx.request_repaint();
    }
    scale
}

/// The keys, with those of the arm at hand, in two columns: a small window has few rows.
fn help(ctx: &egui::Context, free: egui::Rect, knobs: &Knobs) {
    type Rows = Vec<(String, String)>;
    let rows = |rows: &[(&str, &str)]| -> Rows {
        rows.iter().map(|(key, effect)| ((*key).to_owned(), (*effect).to_owned())).collect()
    };
    let section = |ui: &mut Ui, title: &str, rows: &Rows| {
        ui.label(RichText::new(title).strong());
        egui::Grid::new(title).num_columns(2).spacing([14.0, 2.0]).show(ui, |ui| {
            for (key, effect) in rows {
                ui.label(RichText::new(key).monospace());
                ui.label(effect);
                ui.end_row();
            }
        });
        ui.add_space(4.0);
    };
    let has_pad = !knobs.pads.is_empty();
    // Both directions of a movement share a row.
    let mut arm: Rows = knobs
        .control
        .bindings()
        .chunks(2)
        .map(|pair| {
            let labels: Vec<_> = pair.iter().map(|binding| binding.label).collect();
            let effects: Vec<_> = pair.iter().map(|binding| binding.effect.as_str()).collect();
            let pad = pair.first().filter(|_| has_pad).map_or(String::new(), |b| format!("  {}", b.pad.label()));
            (format!("{}{pad}", labels.join("  ")), effects.join(", "))
        })
        .collect();
    if knobs.control.gripper().is_some() {
        arm.push(("Space".to_owned(), "close, open".to_owned()));
    }
    if knobs.control.arms() > 1 {
        arm.push(("X".to_owned(), "other arm".to_owned()));
    }
    arm.extend(rows(&[("Shift", "finer"), ("T", "take over, give back")]));
    let mut pad = rows(&gamepad::HELP);
    if knobs.control.arms() > 1 {
        pad.extend(rows(&[gamepad::HELP_OTHER_ARM]));
    }
    let time = rows(&[
        ("P  .", "pause, one step"),
        ("[  ]", "slower, faster"),
        ("R", "new episode"),
        ("Ctrl S", "save"),
        ("V", "film the scene, on and off"),
        ("F1  H", "panel, this help"),
    ]);
    let camera = rows(&[("drag, arrows", "around"), ("right drag", "move"), ("wheel", "nearer"), ("Home", "back")]);
    let shrink = shrink_help(ctx, free);
    card(ctx, "onestep help", Align2::LEFT_TOP, free.left_top() + egui::Vec2::splat(HELP_MARGIN), |ui| {
        for font in ui.style_mut().text_styles.values_mut() {
            font.size *= shrink;
        }
        ui.set_max_width(free.width() / shrink);
        ui.horizontal_top(|ui| {
            ui.vertical(|ui| {
                section(ui, "Act by hand", &arm);
                if has_pad {
                    section(ui, "Gamepad", &pad);
                } else {
                    section(ui, "Camera", &camera);
                }
            });
            ui.add_space(10.0);
            ui.vertical(|ui| {
                section(ui, "Time and episodes", &time);
                if has_pad {
                    section(ui, "Camera", &camera);
                }
                if knobs.episodes.recorder.is_some() {
                    let keys = [("→", "keep the episode"), ("←", "discard it"), ("Esc", "end")];
                    section(ui, "Demonstrations", &rows(&keys));
                }
            });
        });
    });
}
