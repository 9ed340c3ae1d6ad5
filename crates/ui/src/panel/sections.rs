//! What stands in the panel, from top to bottom.

use bevy_egui::egui::{self, Color32, ProgressBar, RichText, Stroke, Ui};
use egui_plot::{Bar, BarChart, Points};
use onestep_agent::AgentMode;
use onestep_learn::LearnPhase;

use super::{
    Facts, Knobs,
    chart::{bars, chart, curve},
    color32,
};
use crate::{Speed, episodes::is_measured, value_color};

/// For what is wrong, or being recorded.
pub(super) const RED: Color32 = Color32::from_rgb(226, 84, 77);
const GREEN: Color32 = Color32::from_rgb(64, 168, 110);
const BLUE: Color32 = Color32::from_rgb(66, 133, 214);
const ORANGE: Color32 = Color32::from_rgb(224, 146, 52);
const VIOLET: Color32 = Color32::from_rgb(150, 96, 204);

/// What a tick consists of, in its order.
const STAGE_COLORS: [Color32; 9] = [
    Color32::from_rgb(110, 118, 130),
    Color32::from_rgb(120, 170, 190),
    Color32::from_rgb(70, 180, 160),
    Color32::from_rgb(66, 133, 214),
    Color32::from_rgb(224, 146, 52),
    Color32::from_rgb(200, 190, 90),
    Color32::from_rgb(190, 120, 150),
    Color32::from_rgb(150, 96, 204),
    Color32::from_rgb(226, 84, 77),
];

pub(super) fn all(ui: &mut Ui, facts: &Facts, knobs: &mut Knobs) {
    header(ui, facts, knobs);
    ui.separator();
    transport(ui, knobs);
    agent(ui, facts, knobs);
    ui.separator();
    progress(ui, facts);
    values(ui, facts, knobs);
    curves(ui, facts);
    stages(ui, facts);
}

/// Lets others find a button by its name: a tour, or a test that presses it. Its place is in egui's memory as
/// `Id::new("onestep NAME")`.
fn named(response: egui::Response, name: &str) -> egui::Response {
    let (id, rect) = (egui::Id::new(format!("onestep {name}")), response.rect);
    response.ctx.data_mut(|data| data.insert_temp(id, rect));
    response
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
            if named(ui.button(label), "theme").on_hover_text(hover).clicked() {
                knobs.panel.dark = !knobs.panel.dark;
            }
            if named(ui.button("?"), "help").on_hover_text("keys (H)").clicked() {
                knobs.help.0 = !knobs.help.0;
            }
            if let Some(compute) = &facts.compute {
                let text = egui::Label::new(RichText::new(&compute.text).small().weak()).truncate();
                ui.add(text).on_hover_text(&compute.text);
            }
        });
    });
}

fn transport(ui: &mut Ui, knobs: &mut Knobs) {
    const HEIGHT: f32 = 26.0;
    let film = knobs.filming.as_mut().zip(knobs.film.as_ref());
    ui.horizontal(|ui| {
        if let Some(pace) = &mut knobs.episodes.pace {
            let label = if pace.paused { "▶ Run" } else { "⏸ Pause" };
            let run = named(ui.add_sized([78.0, HEIGHT], egui::Button::new(label)), "run");
            if run.on_hover_text("P").clicked() {
                pace.toggle();
            }
            let step = named(ui.add_sized([64.0, HEIGHT], egui::Button::new("⏭ Step")), "step");
            if step.on_hover_text("one tick (full stop)").clicked() {
                pace.single_tick();
            }
        }
        if let Some(save) = &mut knobs.save {
            let button = named(ui.add_sized([64.0, HEIGHT], egui::Button::new("💾 Save")), "save");
            if button.on_hover_text("Ctrl S").clicked() {
                save.wanted = true;
            }
        }
        if let Some((filming, recorder)) = film {
            let label = if recorder.is_recording() { "⏹ Stop" } else { "⏺ Record" };
            let button = named(ui.add_sized([78.0, HEIGHT], egui::Button::new(label)), "record");
            if button.on_hover_text("a film of the scene (V)").clicked() {
                filming.toggle();
            }
        }
    });
    film_line(ui, knobs);
    let Some(pace) = &mut knobs.episodes.pace else { return };
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
            let name = format!("speed {level}");
            if named(ui.selectable_label(pace.speed == level, text), &name).clicked() {
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
    let mut numbers: Vec<u32> = knobs.episodes.agents.iter().map(|(agent, ..)| agent.0).collect();
    numbers.sort_unstable();
    if !numbers.contains(&knobs.control.agent)
        && let Some(first) = numbers.first()
    {
        knobs.control.agent = *first;
    }
    let selected = knobs.control.agent;
    let of_agent = knobs.episodes.agents.iter().find(|(agent, ..)| agent.0 == selected);
    let Some((mode, is_measured, has_expert)) = of_agent.map(|(_, mode, _, _, seeds, _, arena)| {
        (*mode, is_measured(seeds), arena.is_some_and(|arena| arena.sim().task().has_expert()))
    }) else {
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
            let name = format!("mode {label}");
            let button = named(ui.add_enabled(is_possible && mode != AgentMode::Idle, button), &name);
            if button.clicked() && choice != mode {
                knobs.episodes.set_mode(selected, choice);
            }
        }
        if mode == AgentMode::Idle {
            ui.label(RichText::new("waits").weak());
        }
    });
    ui.horizontal(|ui| {
        let reset = named(ui.button("⟲ Reset"), "reset");
        let reset = reset.on_hover_text("a new episode (R), from this seed if there is one");
        let field = egui::TextEdit::singleline(&mut knobs.panel.seed).hint_text("next seed").desired_width(78.0);
        let field = ui.add(field);
        let seed = knobs.panel.seed.trim().parse::<u64>().ok();
        let is_wrong = seed.is_none() && !knobs.panel.seed.trim().is_empty();
        if is_wrong {
            ui.label(RichText::new("not a number").small().color(RED));
        }
        let entered = field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        if (reset.clicked() || entered) && !is_wrong {
            knobs.episodes.new_episode(selected, seed);
        }
    });
    if let (Some(settings), Some(policy)) = (&mut knobs.settings, &facts.policy) {
        let default = policy.algorithm().candidates();
        let mut count = settings.candidates.unwrap_or(default);
        let slider = egui::Slider::new(&mut count, 1..=128).logarithmic(true).text("candidates");
        // An evaluation measures the policy as it is.
        let slider = named(ui.add_enabled(!is_measured, slider), "candidates");
        if slider.on_hover_text(format!("the run has {default}")).changed() {
            settings.candidates = (count != default).then_some(count);
        }
    }
    demonstrations(ui, knobs);
}

/// What → and ← do.
fn demonstrations(ui: &mut Ui, knobs: &mut Knobs) {
    let Some((has_steps, episodes)) =
        knobs.episodes.recorder.as_ref().map(|recorder| (recorder.steps() > 0, recorder.episodes().len()))
    else {
        return;
    };
    ui.horizontal(|ui| {
        let keep = named(ui.add_enabled(has_steps, egui::Button::new("✔ Keep")), "keep");
        let discard = named(ui.add_enabled(has_steps, egui::Button::new("✖ Discard")), "discard");
        if keep.on_hover_text("→").clicked() {
            knobs.episodes.keep();
        }
        if discard.on_hover_text("←").clicked() {
            knobs.episodes.discard();
        }
        ui.label(format!("{episodes} episodes"));
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
            None => (format!("{phase}: {done} of {all} {unit}{}", left(facts)), done as f32 / all.max(1) as f32),
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
        let by_hand = facts.replay.as_ref().map_or(0, |replay| replay.interventions());
        if by_hand > 0 || facts.history.by_hand > 0 {
            cell(ui, by_hand.to_string(), "by hand");
            cell(ui, facts.history.by_hand.to_string(), "such episodes");
            ui.end_row();
        }
    });
}

/// How long it will take, if that is known.
fn left(facts: &Facts) -> String {
    match facts.status.as_ref().and_then(|status| status.left_secs).filter(|left| *left > 0.0) {
        Some(left) if left < 90.0 => format!(", {left:.0} s left"),
        Some(left) => format!(", {:.0} min left", left / 60.0),
        None => String::new(),
    }
}

/// The critic's values of the selected agent's candidates, best first; the chosen one is outlined. While somebody else
/// acts there are none.
fn values(ui: &mut Ui, facts: &Facts, knobs: &Knobs) {
    let selected = knobs.control.agent;
    let acts = knobs.episodes.agents.iter().any(|(agent, mode, ..)| agent.0 == selected && *mode == AgentMode::Policy);
    let set = facts.candidates.iter().find(|(agent, set)| agent.0 == selected && !set.q.is_empty());
    let Some((_, set)) = set.filter(|_| acts) else { return };
    let (low, high) = set.q.iter().fold((f32::MAX, f32::MIN), |(low, high), q| (low.min(*q), high.max(*q)));
    let mut order: Vec<usize> = (0..set.q.len()).collect();
    let value = |index: &usize| set.q.get(*index).copied().unwrap_or(f32::NAN);
    order.sort_by(|a, b| value(b).total_cmp(&value(a)));
    title(ui, "Q of the candidates, best first", Some(format!("{low:.2} to {high:.2}")));
    // Bars stand on a floor below the worst, or the differences would drown in the height.
    let floor = f64::from(low) - 0.12 * f64::from((high - low).max(1e-6));
    let outline = ui.visuals().strong_text_color();
    let values = order.iter().enumerate().map(|(rank, index)| {
        let chosen = *index == set.chosen;
        Bar::new(rank as f64, f64::from(value(index)) - floor)
            .base_offset(floor)
            .width(0.82)
            .fill(color32(value_color(value(index), low, high)))
            .stroke(if chosen { Stroke::new(2.0, outline) } else { Stroke::NONE })
    });
    let values = BarChart::new("Q", values.collect());
    let shown = bars(ui, "values").show(ui, |plot| plot.bar_chart(values));
    named(shown.response, "values");
}

/// Two curves in a row: what comes of episodes, and what the updates lose.
fn curves(ui: &mut Ui, facts: &Facts) {
    const STEPS: &str = "control steps";
    let history = &facts.history;
    if !history.success.points().is_empty() {
        let evaluations: Vec<[f64; 2]> = facts.status.as_ref().map_or_else(Vec::new, |status| {
            status.evaluations.iter().map(|point| [point.step as f64, 100.0 * point.success_rate]).collect()
        });
        pair(
            ui,
            |ui| {
                title(ui, "Success, %", history.success.last().map(|last| format!("{last:.0}")));
                chart(ui, "success", STEPS).include_y(0.0).include_y(100.0).show(ui, |plot| {
                    plot.line(curve("of the last episodes", &history.success, GREEN));
                    plot.points(Points::new("evaluations", evaluations).radius(3.5).color(ORANGE));
                });
            },
            |ui| {
                title(ui, "Return", history.returns.last().map(|last| format!("{last:.1}")));
                chart(ui, "return", STEPS).show(ui, |plot| plot.line(curve("return", &history.returns, BLUE)));
            },
        );
    }
    let loss = |ui: &mut Ui, metric: &str, name: &str, color| {
        if let Some(series) = history.metrics.get(metric).filter(|series| !series.points().is_empty()) {
            title(ui, name, series.last().map(short));
            chart(ui, metric, "updates").show(ui, |plot| plot.line(curve(name, series, color)));
        }
    };
    if history.metrics.values().any(|series| !series.points().is_empty()) {
        pair(
            ui,
            |ui| loss(ui, "critic/loss", "Critic's loss", VIOLET),
            |ui| loss(ui, "actor/loss", "Actor's loss", ORANGE),
        );
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    if value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e5) {
        format!("{value:.1e}")
    } else {
        format!("{value:.3}")
    }
}

/// Side by side.
fn pair(ui: &mut Ui, left: impl FnOnce(&mut Ui), right: impl FnOnce(&mut Ui)) {
    ui.columns_const(|[first, second]| {
        left(first);
        right(second);
    });
}

/// Where the time of a tick goes: one bar, and a number for each of its parts.
fn stages(ui: &mut Ui, facts: &Facts) {
    const HEIGHT: f32 = 12.0;
    let Some(times) = facts.times.as_ref().filter(|times| times.ticks() > 0) else { return };
    let total: f64 = times.rows().map(|(.., mean)| mean).sum();
    title(ui, "A tick", Some(format!("{:.2} ms", 1e3 * total)));
    let (bar, _) = ui.allocate_exact_size(egui::vec2(ui.available_width(), HEIGHT), egui::Sense::hover());
    let top = bar.top();
    ui.painter().rect_filled(bar, 3.0, ui.visuals().extreme_bg_color);
    let mut left = bar.left();
    for ((.., mean), color) in times.rows().zip(STAGE_COLORS) {
        let right = left + bar.width() * (mean / total.max(1e-9)) as f32;
        ui.painter().rect_filled(egui::Rect::from_x_y_ranges(left..=right, bar.y_range()), 0.0, color);
        left = right;
    }
    let rows: Vec<_> = times.rows().zip(STAGE_COLORS).collect();
    ui.spacing_mut().item_spacing.y = 1.0;
    for row in rows.chunks(3) {
        ui.columns(3, |columns| {
            for (ui, ((name, _, mean), color)) in columns.iter_mut().zip(row) {
                ui.horizontal(|ui| {
                    ui.spacing_mut().item_spacing.x = 4.0;
                    let (swatch, _) = ui.allocate_exact_size(egui::Vec2::splat(8.0), egui::Sense::hover());
                    ui.painter().rect_filled(swatch, 2.0, *color);
                    ui.label(RichText::new(*name).small());
                    ui.label(RichText::new(format!("{:.2}", 1e3 * mean)).small().strong());
                });
            }
        });
    }
    let whole = egui::Rect::from_x_y_ranges(bar.x_range(), top..=ui.min_rect().bottom());
    ui.data_mut(|data| data.insert_temp(egui::Id::new("onestep stages"), whole));
}

fn title(ui: &mut Ui, text: &str, value: Option<String>) {
    ui.add_space(2.0);
    ui.horizontal(|ui| {
        ui.label(RichText::new(text).strong());
        if let Some(value) = value {
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                ui.label(RichText::new(value).weak())
            });
        }
    });
}
