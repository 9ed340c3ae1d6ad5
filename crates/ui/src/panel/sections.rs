//! What stands in the panel, from top to bottom.

use bevy_egui::egui::{self, Color32, ProgressBar, RichText, Stroke, StrokeKind, Ui};
use egui_plot::{Bar, BarChart, Line, Plot, PlotPoints, Points};
use onestep_agent::AgentMode;
use onestep_learn::LearnPhase;

use super::{Facts, Knobs, color32, history::Series};
use crate::{
    Speed,
    human::{reset_episode, set_mode},
    value_color,
};

/// For what is wrong, or being recorded.
pub(super) const RED: Color32 = Color32::from_rgb(226, 84, 77);
const GREEN: Color32 = Color32::from_rgb(64, 168, 110);
const BLUE: Color32 = Color32::from_rgb(66, 133, 214);
const ORANGE: Color32 = Color32::from_rgb(224, 146, 52);
const VIOLET: Color32 = Color32::from_rgb(150, 96, 204);

/// Height of a chart, points.
const CHART_HEIGHT: f32 = 92.0;

pub(super) fn all(ui: &mut Ui, facts: &Facts, knobs: &mut Knobs) {
    header(ui, facts, knobs);
    ui.separator();
    transport(ui, knobs);
    agent(ui, facts, knobs);
    ui.separator();
    progress(ui, facts);
    values(ui, facts);
    curves(ui, facts);
    stages(ui, facts);
}

fn header(ui: &mut Ui, facts: &Facts, knobs: &mut Knobs) {
    let task = match &facts.status {
        Some(status) => status.task.clone(),
        None => facts.arenas.iter().next().map_or("Onestep", |arena| arena.sim().task().name()).to_owned(),
    };
    let algorithm = facts.policy.as_ref().map(|policy| policy.algorithm().name());
    ui.horizontal(|ui| {
        ui.label(RichText::new(task).size(19.0).strong());
        if let Some(algorithm) = algorithm {
            ui.label(RichText::new(algorithm).size(15.0).color(BLUE));
        }
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            let (label, hover) = if knobs.panel.dark { ("☀", "light") } else { ("🌙", "dark") };
            if ui.button(label).on_hover_text(hover).clicked() {
                knobs.panel.dark = !knobs.panel.dark;
            }
            if ui.button("?").on_hover_text("keys (H)").clicked() {
                knobs.help.0 = !knobs.help.0;
            }
        });
    });
    if let Some(compute) = &facts.compute {
        ui.label(RichText::new(&compute.text).small().weak());
    }
}

fn transport(ui: &mut Ui, knobs: &mut Knobs) {
    const HEIGHT: f32 = 26.0;
    let film = knobs.filming.as_mut().zip(knobs.film.as_ref());
    ui.horizontal(|ui| {
        if let Some(pace) = &mut knobs.pace {
            let label = if pace.paused { "▶ Run" } else { "⏸ Pause" };
            if ui.add_sized([78.0, HEIGHT], egui::Button::new(label)).on_hover_text("P").clicked() {
                pace.toggle();
            }
            let step = ui.add_sized([64.0, HEIGHT], egui::Button::new("⏭ Step"));
            if step.on_hover_text("one tick (full stop)").clicked() {
                pace.single_tick();
            }
        }
        if let Some(save) = &mut knobs.save
            && ui.add_sized([64.0, HEIGHT], egui::Button::new("💾 Save")).on_hover_text("Ctrl S").clicked()
        {
            save.wanted = true;
        }
        if let Some((filming, recorder)) = film {
            let label = if recorder.is_recording() { "⏹ Stop" } else { "⏺ Record" };
            let button = ui.add_sized([78.0, HEIGHT], egui::Button::new(label));
            if button.on_hover_text("a film of the scene (V)").clicked() {
                filming.toggle();
            }
        }
    });
    film_line(ui, knobs);
    let Some(pace) = &mut knobs.pace else { return };
    ui.horizontal(|ui| {
        ui.label("Speed");
        ui.spacing_mut().item_spacing.x = 2.0;
        ui.spacing_mut().button_padding.x = 5.0;
        for level in Speed::LEVELS {
            let text = match level {
                Speed::Times(0.25) => "¼".to_owned(),
                Speed::Times(0.5) => "½".to_owned(),
                Speed::Times(times) => format!("{times}"),
                Speed::Max => "max".to_owned(),
            };
            if ui.selectable_label(pace.speed == level, text).clicked() {
                pace.speed = level;
            }
        }
    });
}

/// Where the film goes, or went.
fn film_line(ui: &mut Ui, knobs: &Knobs) {
    let (Some(filming), Some(recorder)) = (&knobs.filming, &knobs.film) else { return };
    let name = |path: &std::path::Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(path) = recorder.path() {
        ui.horizontal(|ui| {
            let secs = recorder.film_secs();
            let time = format!("⏺ {:.0}:{:02.0}", (secs / 60.0).floor(), (secs % 60.0).floor());
            ui.label(RichText::new(time).strong().color(RED));
            ui.label(name(path)).on_hover_text(path.display().to_string());
        });
    } else if let Some(path) = filming.last() {
        let text = RichText::new(format!("filmed {}", name(path))).weak();
        ui.label(text).on_hover_text(path.display().to_string());
    }
}

fn agent(ui: &mut Ui, facts: &Facts, knobs: &mut Knobs) {
    let mut numbers: Vec<u32> = knobs.agents.iter().map(|(agent, ..)| agent.0).collect();
    numbers.sort_unstable();
    if !numbers.contains(&knobs.control.agent)
        && let Some(first) = numbers.first()
    {
        knobs.control.agent = *first;
    }
    let selected = knobs.control.agent;
    let Some((mode, has_expert)) = knobs
        .agents
        .iter()
        .find(|(agent, ..)| agent.0 == selected)
        .map(|(_, mode, .., arena)| (*mode, arena.is_some_and(|arena| arena.sim().task().has_expert())))
    else {
        return;
    };
    let has_policy = facts.policy.is_some();
    ui.horizontal(|ui| {
        if numbers.len() > 1 {
            egui::ComboBox::from_id_salt("agent").width(58.0).selected_text(format!("№ {selected}")).show_ui(
                ui,
                |ui| {
                    for number in &numbers {
                        ui.selectable_value(&mut knobs.control.agent, *number, format!("№ {number}"));
                    }
                },
            );
        }
        let modes = [
            (AgentMode::Policy, "Policy", has_policy || mode == AgentMode::Policy),
            (AgentMode::Scripted, "Script", has_expert),
            (AgentMode::Human, "Human", true),
        ];
        for (choice, label, is_possible) in modes {
            let button = egui::Button::selectable(mode == choice, label);
            if ui.add_enabled(is_possible && mode != AgentMode::Idle, button).clicked() {
                set_mode(selected, choice, &mut knobs.agents, has_policy);
            }
        }
        if mode == AgentMode::Idle {
            ui.label(RichText::new("waits").weak());
        }
    });
    ui.horizontal(|ui| {
        let reset = ui.button("⟲ Reset").on_hover_text("a new episode (R), from this seed if there is one");
        let field = egui::TextEdit::singleline(&mut knobs.panel.seed).hint_text("next seed").desired_width(78.0);
        let field = ui.add(field);
        let seed = knobs.panel.seed.trim().parse::<u64>().ok();
        let is_wrong = seed.is_none() && !knobs.panel.seed.trim().is_empty();
        if is_wrong {
            ui.label(RichText::new("not a number").small().color(RED));
        }
        let entered = field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        if (reset.clicked() || entered) && !is_wrong {
            reset_episode(selected, seed, &mut knobs.agents);
            if let Some(recorder) = &mut knobs.recorder {
                recorder.discard();
            }
        }
    });
    if let (Some(settings), Some(policy)) = (&mut knobs.settings, &facts.policy) {
        let default = policy.algorithm().candidates();
        let mut count = settings.candidates.unwrap_or(default);
        let slider = egui::Slider::new(&mut count, 1..=128).logarithmic(true).text("candidates");
        if ui.add(slider).on_hover_text(format!("the run has {default}")).changed() {
            settings.candidates = (count != default).then_some(count);
        }
    }
    if let Some(recorder) = &mut knobs.recorder {
        demonstrations(ui, recorder, &mut knobs.notice, &mut knobs.agents);
    }
}

fn demonstrations(
    ui: &mut Ui,
    recorder: &mut onestep_record::demonstrations::DemonstrationRecorder,
    notice: &mut crate::Notice,
    agents: &mut bevy::prelude::Query<crate::human::AgentState<'static>>,
) {
    ui.horizontal(|ui| {
        let has_steps = recorder.steps() > 0;
        let keep = ui.add_enabled(has_steps, egui::Button::new("✔ Keep")).on_hover_text("→").clicked();
        let discard = ui.add_enabled(has_steps, egui::Button::new("✖ Discard")).on_hover_text("←").clicked();
        if keep && let Err(error) = recorder.keep() {
            notice.complain(format!("not written, and kept in memory: {error}"));
        }
        if discard {
            recorder.discard();
        }
        if keep || discard {
            reset_episode(recorder.agent().0, None, agents);
        }
        ui.label(format!("{} episodes", recorder.episodes().len()));
    });
}

fn progress(ui: &mut Ui, facts: &Facts) {
    let rates = facts.history.rates;
    if let (Some(state), Some(schedule)) = (&facts.state, &facts.schedule) {
        let (phase, done, all, unit) = match state.phase {
            LearnPhase::Offline => ("offline", state.updates, schedule.offline_updates, "updates"),
            LearnPhase::Online => ("online", state.env_steps, schedule.online_steps, "steps"),
            LearnPhase::Done => ("done", state.env_steps, schedule.online_steps, "steps"),
        };
        let evaluating = facts.status.as_ref().and_then(|status| status.evaluating);
        let (text, share) = match evaluating {
            Some((done, episodes)) => {
                (format!("evaluation: episode {done} of {episodes}"), done as f32 / episodes.max(1) as f32)
            }
            None => (format!("{phase}: {done} of {all} {unit}"), done as f32 / all.max(1) as f32),
        };
        ui.add(ProgressBar::new(share.clamp(0.0, 1.0)).text(text).fill(if evaluating.is_some() {
            ORANGE
        } else {
            BLUE
        }));
        if let Some(fault) = &state.fault {
            ui.label(RichText::new(format!("{}: {}", fault.place, fault.error)).color(RED));
        }
    } else if let Some((done, episodes)) = facts.status.as_ref().and_then(|status| status.evaluating) {
        let share = done as f32 / episodes.max(1) as f32;
        ui.add(ProgressBar::new(share).text(format!("episode {done} of {episodes}")).fill(ORANGE));
    }
    egui::Grid::new("numbers").num_columns(4).spacing([10.0, 2.0]).show(ui, |ui| {
        let cell = |ui: &mut Ui, value: String, unit: &str| {
            ui.label(RichText::new(value).strong());
            ui.label(RichText::new(unit).weak());
        };
        let rate = |rate: f64| if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") };
        cell(ui, rate(rates.steps), "steps/s");
        cell(ui, rate(rates.frames), "frames/s");
        ui.end_row();
        if facts.schedule.is_some() {
            cell(ui, rate(rates.updates), "updates/s");
            cell(ui, facts.replay.as_ref().map_or(0, |replay| replay.len()).to_string(), "in replay");
            ui.end_row();
        }
        cell(ui, facts.history.episodes.to_string(), "episodes");
        let success = facts.history.recent_success().map_or("–".to_owned(), |rate| format!("{:.0} %", 100.0 * rate));
        cell(ui, success, "success lately");
        ui.end_row();
    });
    if let Some(left) = facts.status.as_ref().and_then(|status| status.left_secs).filter(|left| *left > 0.0) {
        let minutes = (left / 60.0).floor();
        ui.label(RichText::new(format!("about {minutes:.0} min {:.0} s left", left - 60.0 * minutes)).weak());
    }
}

/// The critic's values of the selected agent's candidates, best first; the chosen one is outlined.
fn values(ui: &mut Ui, facts: &Facts) {
    let first = facts.candidates.iter().filter(|(_, set)| !set.q.is_empty()).min_by_key(|(agent, _)| **agent);
    let Some((_, set)) = first else { return };
    let (low, high) = set.q.iter().fold((f32::MAX, f32::MIN), |(low, high), q| (low.min(*q), high.max(*q)));
    let mut order: Vec<usize> = (0..set.q.len()).collect();
    let value = |index: &usize| set.q.get(*index).copied().unwrap_or(f32::NAN);
    order.sort_by(|a, b| value(b).total_cmp(&value(a)));
    title(ui, "Q of the candidates", Some(format!("{low:.2} to {high:.2}")));
    // Bars stand on a floor below the worst, or the differences would drown in the height.
    let floor = f64::from(low) - 0.12 * f64::from((high - low).max(1e-6));
    let outline = ui.visuals().strong_text_color();
    let bars = order.iter().enumerate().map(|(rank, index)| {
        let chosen = *index == set.chosen;
        Bar::new(rank as f64, f64::from(value(index)) - floor)
            .base_offset(floor)
            .width(0.82)
            .fill(color32(value_color(value(index), low, high)))
            .stroke(if chosen { Stroke::new(2.0, outline) } else { Stroke::NONE })
    });
    let chart = BarChart::new("Q", bars.collect());
    chart_frame("values").show_axes([false, true]).show(ui, |plot| plot.bar_chart(chart));
}

fn curves(ui: &mut Ui, facts: &Facts) {
    let history = &facts.history;
    if !history.success.points().is_empty() {
        title(ui, "Success, %", history.success.last().map(|last| format!("{last:.0}")));
        let evaluations: Vec<[f64; 2]> = facts.status.as_ref().map_or_else(Vec::new, |status| {
            status.evaluations.iter().map(|point| [point.step as f64, 100.0 * point.success_rate]).collect()
        });
        chart_frame("success").include_y(0.0).include_y(100.0).show(ui, |plot| {
            plot.line(line("of the last episodes", &history.success, GREEN));
            plot.points(Points::new("evaluations", evaluations).radius(4.0).color(ORANGE));
        });
        title(ui, "Return", history.returns.last().map(|last| format!("{last:.1}")));
        chart_frame("return").show(ui, |plot| plot.line(line("return", &history.returns, BLUE)));
    }
    for (prefix, name, color) in [("critic/loss", "Critic's loss", VIOLET), ("actor/loss", "Actor's loss", ORANGE)] {
        if let Some(series) = history.metrics.get(prefix)
            && !series.points().is_empty()
        {
            title(ui, name, series.last().map(|last| format!("{last:.4}")));
            chart_frame(prefix).show(ui, |plot| plot.line(line(name, series, color)));
        }
    }
}

/// Where the time of a tick goes.
fn stages(ui: &mut Ui, facts: &Facts) {
    let Some(times) = facts.times.as_ref().filter(|times| times.ticks() > 0) else { return };
    let total: f64 = times.rows().map(|(.., mean)| mean).sum();
    title(ui, "A tick", Some(format!("{:.2} ms", 1e3 * total)));
    for (name, _, mean) in times.rows() {
        ui.horizontal(|ui| {
            ui.add_sized([58.0, 14.0], egui::Label::new(RichText::new(name).small().weak()));
            let (rect, _) = ui.allocate_exact_size(egui::vec2(170.0, 9.0), egui::Sense::hover());
            let mut bar = rect;
            bar.set_width(rect.width() * (mean / total.max(1e-9)) as f32);
            ui.painter().rect_filled(rect, 3.0, ui.visuals().extreme_bg_color);
            ui.painter().rect_filled(bar, 3.0, BLUE);
            ui.painter().rect_stroke(rect, 3.0, ui.visuals().widgets.noninteractive.bg_stroke, StrokeKind::Inside);
            ui.label(RichText::new(format!("{:.2} ms", 1e3 * mean)).small());
        });
    }
}

fn title(ui: &mut Ui, text: &str, value: Option<String>) {
    ui.add_space(4.0);
    ui.horizontal(|ui| {
        ui.label(RichText::new(text).strong());
        if let Some(value) = value {
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                ui.label(RichText::new(value).weak())
            });
        }
    });
}

/// A chart that only shows: the wheel belongs to the panel.
fn chart_frame(name: &str) -> Plot<'_> {
    Plot::new(name)
        .height(CHART_HEIGHT)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .show_x(false)
        .show_background(false)
        .y_axis_min_width(34.0)
        .set_margin_fraction(egui::vec2(0.02, 0.08))
}

fn line<'a>(name: &str, series: &'a Series, color: Color32) -> Line<'a> {
    Line::new(name, PlotPoints::from(series.points().to_vec())).color(color).width(1.8)
}
