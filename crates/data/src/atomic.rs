//! Files that are either the old ones or the new ones, never half of each.
//!
//! Everything is written under a new name in the same folder, brought to the disk, and only then renamed. A crash or a
//! full disk leaves what was there before.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::DataError;

/// Writes `bytes` to `path` in one piece.
///
/// # Errors
/// [`DataError::Io`]; a file that was at `path` before is still there then.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    write_with(path, |file| file.write_all(bytes))
}

/// Like [`write()`], with the content produced by `fill`.
///
/// # Errors
/// [`DataError::Io`], also for an error that `fill` returns; a file that was at `path` before is still there then.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), DataError> {
    let temporary = sibling(path, ".tmp");
    let written = write_new(&temporary, fill)
        .map_err(DataError::io("write", path))
        .and_then(|()| fs::rename(&temporary, path).map_err(DataError::io("rename the new file to", path)));
    if written.is_err() {
        // The first error is the one to report; a leftover with the ending .tmp harms nobody.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_parent(path)
}

/// Whether a file could be written to `path`: tried now, not after long work. Nothing is left there.
///
/// # Errors
/// [`DataError::Io`].
pub fn check_writable(path: &Path) -> Result<(), DataError> {
    let temporary = sibling(path, ".tmp");
    if path.is_dir() {
        let source = io::Error::new(io::ErrorKind::IsADirectory, "a folder is in the way");
        return Err(DataError::Io { action: "write", path: path.to_owned(), source });
    }
    File::create(&temporary).map_err(DataError::io("write", path))?;
    fs::remove_file(&temporary).map_err(DataError::io("write", path))
}

/// Fills a new folder and puts it in the place of `path`. The folder that was there before becomes `PATH.previous`
/// (one is kept).
///
/// # Errors
/// An error of `fill`, or [`DataError::Io`] as `E`. The old folder is at `path` as before then, and the half-filled one
/// is removed.
pub fn replace_directory<E: From<DataError>>(path: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let temporary = sibling(path, ".tmp");
    let previous = previous_of(path);
    if path.exists() && !path.is_dir() {
        let source = io::Error::new(io::ErrorKind::NotADirectory, "a file is in the way");
        return Err(DataError::Io { action: "write the folder", path: path.to_owned(), source }.into());
    }
    remove_directory(&temporary)?;
    fs::create_dir_all(&temporary).map_err(DataError::io("create", &temporary))?;
    let filled = fill(&temporary)
        .and_then(|()| sync_tree(&temporary).map_err(DataError::io("write", &temporary)).map_err(E::from));
    if let Err(error) = filled {
        // As above: the first error counts.
        let _ = fs::remove_dir_all(&temporary);
        return Err(error);
    }
    if path.is_dir() {
        remove_directory(&previous)?;
        fs::rename(path, &previous).map_err(DataError::io("rename", path))?;
    }
    if let Err(source) = fs::rename(&temporary, path) {
        if previous.is_dir() {
            // If this fails too, `existing` still finds the old folder under its other name.
            let _ = fs::rename(&previous, path);
        }
        return Err(DataError::Io { action: "rename the new folder to", path: path.to_owned(), source }.into());
    }
    sync_parent(path)?;
    Ok(())
}

/// The valid folder for `path`: itself, or `PATH.previous` when a crash fell between the two renames of
/// [`replace_directory`]; `None` when there is neither.
#[must_use]
pub fn existing(path: &Path) -> Option<PathBuf> {
    [path.to_owned(), previous_of(path)].into_iter().find(|candidate| candidate.is_dir())
}

/// Where [`replace_directory`] keeps the folder before the last one.
#[must_use]
pub fn previous_of(path: &Path) -> PathBuf {
    sibling(path, ".previous")
}

fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(ending);
    path.with_file_name(name)
}

fn write_new(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = io::BufWriter::new(File::create(path)?);
    fill(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn remove_directory(path: &Path) -> Result<(), DataError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DataError::Io { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Brings a folder and all files below it to the disk.
fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::options().write(true).open(entry.path())?.sync_all()?;
        }
    }
    sync_directory(path)
}

fn sync_parent(path: &Path) -> Result<(), DataError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    sync_directory(parent).map_err(DataError::io("write the folder", parent))
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Only Unix systems can bring a folder's list of names to the disk by itself.
#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
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

    fn fill_with(text: &'static str) -> impl FnOnce(&Path) -> Result<(), DataError> {
        move |folder| {
            fs::create_dir(folder.join("inner")).map_err(DataError::io("create", folder))?;
            write(&folder.join("inner").join("a"), text.as_bytes())?;
            write(&folder.join("b"), text.as_bytes())
        }
    }

    #[test]
    fn a_file_is_replaced_in_one_piece() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"old").unwrap();
        let error = write_with(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("file") && error.contains("free some space"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn a_directory_is_replaced_and_one_previous_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        assert_eq!(existing(&path), None);
        for text in ["one", "two", "three"] {
            replace_directory(&path, fill_with(text)).unwrap();
        }
        assert_eq!(names(folder.path()), ["checkpoint", "checkpoint.previous"]);
        assert_eq!(fs::read(path.join("inner").join("a")).unwrap(), b"three");
        assert_eq!(fs::read(previous_of(&path).join("b")).unwrap(), b"two");
        assert_eq!(existing(&path), Some(path));
    }

    #[test]
    fn a_full_disk_in_the_middle_leaves_the_old_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        replace_directory(&path, fill_with("old")).unwrap();
        let error = replace_directory(&path, |new| {
            write(&new.join("b"), b"new")?;
            write_with(&new.join("weights"), |file| {
                file.write_all(&[0; 100_000])?;
                Err(io::Error::from(io::ErrorKind::StorageFull))
            })
        })
        .unwrap_err();
        assert!(matches!(error, DataError::Io { .. }));
        assert_eq!(names(folder.path()), ["checkpoint"]);
        assert_eq!(fs::read(path.join("b")).unwrap(), b"old");
        // And the next attempt works.
        replace_directory(&path, fill_with("new")).unwrap();
        assert_eq!(fs::read(path.join("b")).unwrap(), b"new");
    }

    #[test]
    fn leftovers_of_a_crash_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        replace_directory(&path, fill_with("old")).unwrap();
        // As a crash between the two renames leaves it, with a half-filled new folder beside it.
        fs::rename(&path, previous_of(&path)).unwrap();
        fs::create_dir(folder.path().join("checkpoint.tmp")).unwrap();
        fs::write(folder.path().join("checkpoint.tmp").join("half"), b"half").unwrap();
        assert_eq!(existing(&path), Some(previous_of(&path)));
        replace_directory(&path, fill_with("new")).unwrap();
        assert_eq!(names(folder.path()), ["checkpoint", "checkpoint.previous"]);
        assert_eq!(names(&path), ["b", "inner"]);
        assert_eq!(fs::read(path.join("b")).unwrap(), b"new");
    }

    #[test]
    fn a_file_in_the_way_is_named_and_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        write(&path, b"a file").unwrap();
        let error = replace_directory(&path, fill_with("new")).unwrap_err().to_string();
        assert!(error.contains("a file is in the way"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"a file");
    }
}
