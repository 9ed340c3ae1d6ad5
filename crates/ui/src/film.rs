use std::path::{Path, PathBuf};

use bevy::{diagnostic::FrameCount, prelude::*};
use onestep_record::recorder::{Filmed, FrameRate, Recorder, RecorderPlugin};

use crate::{InputCapture, Notice, OrbitCamera};

/// Films what an [`OrbitCamera`] sees, on and off while the app runs: key V, or the panel's button.
///
/// A film shows the scene as the window does, without the panel, in real time; a pause takes no time in it, single
/// ticks do. It brings a [`RecorderPlugin`] if the app has none; one that is there already keeps its own rate, and a
/// warning says so where that is another one.
#[derive(Debug, Clone)]
pub struct FilmPlugin {
    /// Folder of the films.
    pub folder: PathBuf,
    /// How their names begin: `lift` gives `lift-1.mp4`, `lift-2.mp4` and so on; none replaces another file.
    pub name: String,
    /// Films are not larger than this, pixels. A wider or higher window is scaled down.
    pub max_size: UVec2,
    /// Pictures for each second, unless the app has a recorder already.
    pub fps: f64,
    /// Film from the first frame on.
    pub at_start: bool,
}

impl Default for FilmPlugin {
    fn default() -> Self {
        let max_size = UVec2::new(1280, 720);
        Self { folder: PathBuf::from("."), name: "onestep".to_owned(), max_size, fps: 30.0, at_start: false }
    }
}

impl Plugin for FilmPlugin {
    fn build(&self, app: &mut App) {
        let rate = FrameRate::PerSecond(self.fps);
        let own = app.get_added_plugins::<RecorderPlugin>().first().map(|recorder| recorder.rate);
        match own {
            Some(own) if own != rate => warn!(
                "films are taken at {own:?}, as the app's own RecorderPlugin says, and not at {rate:?}, as FilmPlugin \
                 does; give both the same rate"
            ),
            Some(_) => {}
            None => {
                app.add_plugins(RecorderPlugin { rate, ..RecorderPlugin::default() });
            }
        }
        app.insert_resource(Filming { settings: self.clone(), is_wanted: self.at_start, last: None })
            .init_resource::<InputCapture>()
            .init_resource::<Notice>()
            .add_systems(Update, (read_key, switch, report).chain());
    }
}

/// Films of [`FilmPlugin`]: switch them on and off here.
#[derive(Resource, Debug, Clone)]
pub struct Filming {
    settings: FilmPlugin,
    is_wanted: bool,
    last: Option<PathBuf>,
}

impl Filming {
    /// Starts a film, or ends the one under way, in the next frame.
    pub fn toggle(&mut self) {
        self.is_wanted = !self.is_wanted;
    }

    /// The last film that is whole, if there is one.
    #[must_use]
    pub fn last(&self) -> Option<&Path> {
        self.last.as_deref()
    }

    /// The first name that is not taken. Another window may take it meanwhile: then the film gets the next one at its end.
    fn free_path(&self) -> PathBuf {
        let FilmPlugin { folder, name, .. } = &self.settings;
        let path = |number: u32| folder.join(format!("{name}-{number}.mp4"));
        let is_free = |path: &PathBuf| !path.exists() && !onestep_record::encoding::partial_path(path).exists();
        (1..=u32::MAX).map(path).find(is_free).unwrap_or_else(|| path(0))
    }
}

fn read_key(keys: Option<Res<ButtonInput<KeyCode>>>, capture: Res<InputCapture>, mut filming: ResMut<Filming>) {
    if keys.is_some_and(|keys| !capture.keyboard && keys.just_pressed(KeyCode::KeyV)) {
        filming.toggle();
    }
}

/// Starts and stops the recorder as it is wanted.
fn switch(
    mut commands: Commands,
    mut filming: ResMut<Filming>,
    mut notice: ResMut<Notice>,
    recorder: Option<ResMut<Recorder>>,
    frames: Option<Res<FrameCount>>,
    cameras: Query<(Entity, &Camera, Has<Filmed>), With<OrbitCamera>>,
) {
    /// By then the panel has its place, and the camera knows how large its view is.
    const FIRST_FRAME: u32 = 3;
    if !filming.is_wanted || frames.is_some_and(|frames| frames.0 < FIRST_FRAME) {
        return;
    }
    filming.is_wanted = false;
    let Some(mut recorder) = recorder else {
        notice.complain("no film: this app renders nothing");
        return;
    };
    if recorder.is_recording() {
        recorder.stop();
        return;
    }
    let Some((camera, view, is_filmed)) = cameras.iter().next() else {
        notice.complain("no film: there is no camera");
        return;
    };
    if !is_filmed {
        commands.entity(camera).insert(Filmed::default());
    }
    if let Some(seen) = view.physical_viewport_size() {
        let size = film_size(seen, filming.settings.max_size);
        let settings = recorder.settings_mut();
        (settings.width, settings.height) = (size.x, size.y);
    }
    let path = filming.free_path();
    match recorder.start_new(&path) {
        Ok(()) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            notice.tell(format!("a film of the scene: {name}"));
        }
        Err(error) => notice.complain(error.to_string()),
    }
}

/// The size of a film of a view: the same shape, not larger than `most`, and even, as H.264 wants it.
fn film_size(seen: UVec2, most: UVec2) -> UVec2 {
    let (seen, most) = (seen.max(UVec2::ONE).as_vec2(), most.as_vec2());
    let scale = (most / seen).min_element().min(1.0);
    let even = (0.5 * scale * seen).round().as_uvec2() * 2;
    even.max(UVec2::splat(2))
}

/// Tells what became of a film.
fn report(mut filming: ResMut<Filming>, mut notice: ResMut<Notice>, recorder: Option<ResMut<Recorder>>) {
    let Some(mut recorder) = recorder.filter(|recorder| recorder.last().is_some()) else { return };
    match recorder.take_last() {
        Some(Ok(film)) => {
            notice.tell(format!("{} pictures in {}", film.frames, film.path.display()));
            filming.last = Some(film.path);
        }
        Some(Err(error)) => notice.complain(error.to_string()),
        None => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_films_size_keeps_its_shape_and_is_even() {
        let most = UVec2::new(1280, 720);
        assert_eq!(film_size(UVec2::new(944, 720), most), UVec2::new(944, 720));
        assert_eq!(film_size(UVec2::new(3840, 2160), most), UVec2::new(1280, 720));
        assert_eq!(film_size(UVec2::new(301, 203), most), UVec2::new(302, 204));
        assert_eq!(film_size(UVec2::new(4000, 3), most), UVec2::new(1280, 2));
        assert_eq!(film_size(UVec2::ZERO, most), UVec2::splat(2));
    }

    #[test]
    fn no_film_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let settings = FilmPlugin { folder: folder.path().to_owned(), name: "lift".to_owned(), ..default() };
        let filming = Filming { settings, is_wanted: false, last: None };
        assert_eq!(filming.free_path(), folder.path().join("lift-1.mp4"));
        std::fs::write(folder.path().join("lift-1.mp4"), b"").unwrap();
        std::fs::write(folder.path().join("lift-2.partial.mp4"), b"").unwrap();
        assert_eq!(filming.free_path(), folder.path().join("lift-3.mp4"));
    }

    #[test]
    fn an_app_without_a_renderer_is_told_so() {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, onestep_agent::AgentPlugin::default(), FilmPlugin::default()));
        app.world_mut().spawn((Camera::default(), OrbitCamera::new(Vec3::ONE, Vec3::ZERO)));
        app.finish();
        app.cleanup();
        app.world_mut().resource_mut::<Filming>().toggle();
        (0..5).for_each(|_| app.update());
        let notice = app.world().resource::<Notice>();
        assert!(notice.is_error && notice.text.contains("renders nothing"), "{notice:?}");
    }
}
