//! Files and folders that get their name when they are whole, and lose nothing when that fails.
//!
//! Everything is written under a temporary name beside the one that is wanted. What cannot be finished keeps the part
//! that makes sense by itself, under a name that says so; no name is ever given that something else has.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// What happens when the wanted name is taken at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfTaken {
    /// An older file goes.
    Replace,
    /// The new one gets the next free number: `lift-2.mp4` for `lift-1.mp4`.
    TakeNext,
}

/// What became of a film that could not be finished.
#[derive(Debug)]
pub(crate) enum Kept {
    /// There was no frame to keep.
    Nothing,
    /// So many frames are in this file.
    Part { path: PathBuf, frames: u64 },
    /// They are still under the temporary name.
    Unnamed { temporary: PathBuf, frames: u64, source: io::Error },
}

impl Kept {
    /// Of so many frames under the name `temporary`, which `named` wanted to change.
    fn new(frames: u64, temporary: PathBuf, named: io::Result<PathBuf>) -> Self {
        match named {
            Ok(path) => Self::Part { path, frames },
            Err(source) => Self::Unnamed { temporary, frames, source },
        }
    }
}

/// The name of a film that was broken off: `lift.mp4` becomes `lift.partial.mp4`.
///
/// If that is taken, it becomes `lift.partial-2.mp4` and so on.
#[must_use]
pub fn partial_path(path: &Path) -> PathBuf {
    named(path, path.file_stem().unwrap_or_default(), ".partial")
}

/// The names that a part may get, the best one first.
fn partial_paths(path: &Path) -> impl Iterator<Item = PathBuf> {
    let stem = path.file_stem().unwrap_or_default();
    let others = (2..u32::MAX).map(move |number| named(path, stem, &format!(".partial-{number}")));
    std::iter::once(partial_path(path)).chain(others)
}

/// `path`, then the same with the next numbers.
fn numbered_paths(path: &Path) -> impl Iterator<Item = PathBuf> {
    let stem = path.file_stem().unwrap_or_default();
    let parts = stem.to_str().and_then(|stem| stem.rsplit_once('-'));
    let parts = parts.and_then(|(base, number)| Some((OsStr::new(base), number.parse::<u32>().ok()?)));
    let (base, last) = parts.filter(|(base, _)| !base.is_empty()).unwrap_or((stem, 1));
    let others = (last.saturating_add(1)..u32::MAX).map(move |number| named(path, base, &format!("-{number}")));
    std::iter::once(path.to_owned()).chain(others)
}

/// Beside `path` and with its extension.
fn named(path: &Path, stem: &OsStr, ending: &str) -> PathBuf {
    let mut name: OsString = stem.to_owned();
    name.push(ending);
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Makes something with `create` under a name beside `path` that nobody else has, in this process or another.
fn create_temporary<T>(path: &Path, create: impl Fn(&Path) -> io::Result<T>) -> io::Result<(PathBuf, T)> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    let process = std::process::id();
    let mut number = 1u32;
    loop {
        let mut temporary = name.to_owned();
        temporary.push(match number {
            1 => format!(".{process}.tmp"),
            _ => format!(".{process}-{number}.tmp"),
        });
        let temporary = path.with_file_name(temporary);
        match create(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < u32::MAX => number += 1,
            result => return result.map(|made| (temporary, made)),
        }
    }
}

/// Moves to the first of `names` that is free; returns it.
fn move_to_first(
    from: &Path,
    names: impl Iterator<Item = PathBuf>,
    move_new: impl Fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for name in names {
        match move_new(from, &name) {
            Ok(()) => return Ok(name),
            // Whatever the system calls it: something is there.
            Err(error) if fs::symlink_metadata(&name).is_ok() => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Gives a file a name that must be free, even if another program takes it in the same moment.
fn move_new_file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => {
            // It has its name; a second one harms nobody.
            let _ = fs::remove_file(from);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Some file systems know no second names. There the name is taken by an empty file first.
        Err(_) => {
            File::options().write(true).create_new(true).open(to)?;
            fs::rename(from, to).inspect_err(|_| {
                // The error of the renaming is the one to tell.
                let _ = fs::remove_file(to);
            })
        }
    }
}

/// Gives a folder a name that is free or an empty folder's.
fn move_new_folder(from: &Path, to: &Path) -> io::Result<()> {
    if to.is_dir() {
        // Only an empty one goes.
        fs::remove_dir(to)?;
    } else if fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// What is below a [`PartialFile`]; in tests a disk that is full.
#[derive(Debug)]
struct Disk {
    file: File,
    #[cfg(test)]
    size: u64,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        let bytes = {
            let room = self.size.saturating_sub(self.file.stream_position()?);
            if room == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            bytes.get(..usize::try_from(room).unwrap_or(usize::MAX)).unwrap_or(bytes)
        };
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// A file that gets its name only when it is whole.
///
/// Dropped before that, it leaves nothing behind, unless something in it is worth keeping ([`PartialFile::mark`]): then it
/// stays under its temporary name. Once a write has failed, nothing more is written.
#[derive(Debug)]
pub(crate) struct PartialFile {
    path: PathBuf,
    if_taken: IfTaken,
    temporary: PathBuf,
    /// None once the file is closed.
    writer: Option<BufWriter<Disk>>,
    len: u64,
    /// Bytes that make sense by themselves, and have reached the file system.
    whole: u64,
    broken: Option<io::ErrorKind>,
}

impl PartialFile {
    pub(crate) fn create(path: &Path, if_taken: IfTaken) -> io::Result<Self> {
        if path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "the path is a folder"));
        }
        let (temporary, file) = create_temporary(path, |name| File::options().write(true).create_new(true).open(name))?;
        let disk = Disk {
            file,
            #[cfg(test)]
            size: u64::MAX,
        };
        let writer = Some(BufWriter::new(disk));
        Ok(Self { path: path.to_owned(), if_taken, temporary, writer, len: 0, whole: 0, broken: None })
    }

    /// What has been written until here is worth keeping by itself, and is brought to the file system.
    pub(crate) fn mark(&mut self) -> io::Result<()> {
        self.flush()?;
        self.whole = self.len;
        Ok(())
    }

    /// Writes `bytes` over what stands at `offset`; writing goes on at the end.
    pub(crate) fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.guarded(|writer| {
            // A buffered writer empties itself before it moves.
            writer.seek(SeekFrom::Start(offset))?;
            writer.write_all(bytes)?;
            writer.seek(SeekFrom::End(0)).map(|_| ())
        })
    }

    /// Gives the file its name; returns it.
    pub(crate) fn finish(&mut self) -> io::Result<PathBuf> {
        self.guarded(|writer| {
            writer.flush()?;
            writer.get_ref().file.sync_all()
        })?;
        self.writer = None;
        let path = match self.if_taken {
            IfTaken::Replace => fs::rename(&self.temporary, &self.path).map(|()| self.path.clone()),
            IfTaken::TakeNext => move_to_first(&self.temporary, numbered_paths(&self.path), move_new_file),
        }?;
        // The drop below has nothing left to remove.
        self.temporary = PathBuf::new();
        Ok(path)
    }

    /// Keeps what makes sense by itself, followed by `end`, as a part of `frames` frames.
    pub(crate) fn keep(&mut self, end: &[u8], frames: u64) -> Kept {
        if self.whole == 0 {
            return Kept::Nothing;
        }
        if let Some(writer) = self.writer.take() {
            // What waits in the buffer belongs to nothing whole.
            let (disk, _) = writer.into_parts();
            if let Err(error) = cut(disk.file, self.whole, end) {
                // Players pass over what follows the last whole part.
                tracing::warn!(%error, file = %self.temporary.display(), "the end of a partial film is ragged");
            }
        }
        let temporary = std::mem::take(&mut self.temporary);
        let moved = move_to_first(&temporary, partial_paths(&self.path), move_new_file);
        Kept::new(frames, temporary, moved)
    }

    /// Lets the disk be full when the file is `size` bytes long.
    #[cfg(test)]
    pub(crate) fn limit(&mut self, size: u64) {
        if let Some(writer) = &mut self.writer {
            writer.get_mut().size = size;
        }
    }

    fn guarded<T>(&mut self, work: impl FnOnce(&mut BufWriter<Disk>) -> io::Result<T>) -> io::Result<T> {
        let writer = match (&mut self.writer, self.broken) {
            (Some(writer), None) => writer,
            (_, kind) => return Err(kind.unwrap_or(io::ErrorKind::BrokenPipe).into()),
        };
        work(writer).inspect_err(|error| self.broken = Some(error.kind()))
    }
}

fn cut(mut file: File, len: u64, end: &[u8]) -> io::Result<()> {
    file.set_len(len)?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(end)?;
    file.sync_all()
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.guarded(|writer| writer.write(bytes))?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.guarded(Write::flush)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if self.whole == 0 && !self.temporary.as_os_str().is_empty() {
            // Nothing better can be done with a failure here, and the file is only a leftover.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A folder that gets its name only when it is whole. Dropped before that, it goes if it is empty.
#[derive(Debug)]
pub(crate) struct PartialFolder {
    path: PathBuf,
    if_taken: IfTaken,
    temporary: PathBuf,
}

impl PartialFolder {
    pub(crate) fn create(path: &Path, if_taken: IfTaken) -> io::Result<Self> {
        // Without the slash at its end, behind which a file would not be found.
        let path: PathBuf = path.components().collect();
        if path.is_dir() && path.read_dir()?.next().is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a folder of that name is there already"));
        }
        if !path.is_dir() && fs::symlink_metadata(&path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file of that name is there already"));
        }
        let (temporary, ()) = create_temporary(&path, |name| fs::create_dir(name))?;
        Ok(Self { path, if_taken, temporary })
    }

    /// Where its files are written.
    pub(crate) fn inside(&self) -> &Path {
        &self.temporary
    }

    /// Gives the folder its name; returns it.
    pub(crate) fn finish(&mut self) -> io::Result<PathBuf> {
        let path = match self.if_taken {
            IfTaken::Replace => move_new_folder(&self.temporary, &self.path).map(|()| self.path.clone()),
            IfTaken::TakeNext => move_to_first(&self.temporary, numbered_paths(&self.path), move_new_folder),
        }?;
        self.temporary = PathBuf::new();
        Ok(path)
    }

    /// Keeps it as a part with `frames` frames.
    pub(crate) fn keep(&mut self, frames: u64) -> Kept {
        if frames == 0 {
            return Kept::Nothing;
        }
        let temporary = std::mem::take(&mut self.temporary);
        let moved = move_to_first(&temporary, partial_paths(&self.path), move_new_folder);
        Kept::new(frames, temporary, moved)
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            // It fails where frames are inside, and they shall stay.
            let _ = fs::remove_dir(&self.temporary);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn names_count_up() {
        let first = |path: &str| numbered_paths(Path::new(path)).take(3).collect::<Vec<_>>();
        assert_eq!(first("a/lift-1.mp4"), ["a/lift-1.mp4", "a/lift-2.mp4", "a/lift-3.mp4"].map(PathBuf::from));
        assert_eq!(first("lift.mp4"), ["lift.mp4", "lift-2.mp4", "lift-3.mp4"].map(PathBuf::from));
        assert_eq!(first("push-up"), ["push-up", "push-up-2", "push-up-3"].map(PathBuf::from));
        let parts = |path: &str| partial_paths(Path::new(path)).take(2).collect::<Vec<_>>();
        assert_eq!(parts("a/lift-1.mp4"), ["a/lift-1.partial.mp4", "a/lift-1.partial-2.mp4"].map(PathBuf::from));
        assert_eq!(parts("frames/"), ["frames.partial", "frames.partial-2"].map(PathBuf::from));
    }

    #[test]
    fn a_name_is_given_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a-1.txt");
        // Both at once: neither writes into the other's file.
        let mut files = [(); 2].map(|()| PartialFile::create(&path, IfTaken::TakeNext).unwrap());
        for (file, text) in files.iter_mut().zip(["first", "second"]) {
            file.write_all(text.as_bytes()).unwrap();
        }
        let paths = files.map(|mut file| file.finish().unwrap());
        assert_eq!(paths, [path.clone(), folder.path().join("a-2.txt")]);
        assert_eq!(fs::read(&paths[0]).unwrap(), b"first");
        assert_eq!(fs::read(&paths[1]).unwrap(), b"second");
        let mut file = PartialFile::create(&path, IfTaken::Replace).unwrap();
        file.write_all(b"third").unwrap();
        assert_eq!(file.finish().unwrap(), path);
        assert_eq!(names(folder.path()), ["a-1.txt", "a-2.txt"]);
        assert_eq!(fs::read(&path).unwrap(), b"third");
    }

    #[test]
    fn a_full_disk_costs_what_came_after_the_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for (number, name) in ["a.partial.txt", "a.partial-2.txt"].into_iter().enumerate() {
            let mut file = PartialFile::create(&path, IfTaken::Replace).unwrap();
            file.limit(8);
            file.write_all(b"whole").unwrap();
            file.mark().unwrap();
            file.write_all(b"half").unwrap();
            assert_eq!(file.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
            // Nothing follows the hole.
            assert!(file.write_all(b"x").is_err() && file.finish().is_err());
            let Kept::Part { path, frames: 3 } = file.keep(b"!", 3) else { unreachable!() };
            assert_eq!(path, folder.path().join(name));
            assert_eq!(fs::read(path).unwrap(), b"whole!");
            assert_eq!(names(folder.path()).len(), number + 1);
        }
    }

    #[test]
    fn what_is_worth_keeping_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let mut file = PartialFile::create(&path, IfTaken::Replace).unwrap();
        file.write_all(b"whole").unwrap();
        file.mark().unwrap();
        drop(file);
        assert_eq!(names(folder.path()), [format!("a.txt.{}.tmp", std::process::id())]);
        let mut file = PartialFile::create(&path, IfTaken::Replace).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(names(folder.path()).len(), 1);
    }

    #[test]
    fn folders_take_no_name_that_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames/");
        fs::create_dir(folder.path().join("frames.partial")).unwrap();
        fs::write(folder.path().join("frames.partial/frame"), b"old").unwrap();
        let mut partial = PartialFolder::create(&path, IfTaken::Replace).unwrap();
        fs::write(partial.inside().join("frame"), b"new").unwrap();
        let Kept::Part { path: kept, .. } = partial.keep(1) else { unreachable!() };
        assert_eq!(kept, folder.path().join("frames.partial-2"));
        assert_eq!(fs::read(folder.path().join("frames.partial/frame")).unwrap(), b"old");
        // A file of that name is found although the path ends in a slash.
        fs::write(folder.path().join("frames"), b"a file").unwrap();
        let error = PartialFolder::create(&path, IfTaken::Replace).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(folder.path()), ["frames", "frames.partial", "frames.partial-2"]);
    }
}
