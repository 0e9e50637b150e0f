//! Where files go: they are made beside their places, and get their names when all of them are whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Format, stem};
use crate::scratch::Scratch;

/// The argument that stands for standard output.
const STDOUT: &str = "-";

/// More than a format has files.
const TRIES: u32 = 10;

/// Why there is no place, or nothing could be put there.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("{0} goes into a file or a directory, and not to standard output")]
    Stdout(&'static str),
    #[error("{path} is no directory, and {format} is several files")]
    Several { path: PathBuf, format: &'static str },
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// Where the files of one build go.
#[derive(Debug)]
pub struct Place {
    format: Format,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Stdout,
    /// Files, and the directory in which they are made, in the same order.
    Files {
        places: Vec<PathBuf>,
        making: Scratch,
    },
}

impl Place {
    /// The place that the user names: a file, a directory, or `-` for standard output; the working directory unless given.
    /// `name` is the appliance's.
    pub fn new(format: Format, output: Option<&Path>, name: &str) -> Result<Self, PlaceError> {
        if output == Some(Path::new(STDOUT)) {
            return match format.is_stream() {
                true => Ok(Self { format, target: Target::Stdout }),
                false => Err(PlaceError::Stdout(format.name())),
            };
        }
        let output = output.unwrap_or(Path::new("."));
        let (directory, places) = match format.endings() {
            [_] if !output.is_dir() => {
                let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty());
                let parent = parent.unwrap_or(Path::new("."));
                // One that is mistyped is not made.
                fs::read_dir(parent).map_err(io_error("write to", parent))?;
                (parent, vec![output.to_owned()])
            }
            _ if output.exists() && !output.is_dir() => {
                return Err(PlaceError::Several { path: output.to_owned(), format: format.name() });
            }
            endings => {
                let place = |ending: &&str| output.join(format!("{}{ending}", stem(name)));
                (output, endings.iter().map(place).collect())
            }
        };
        let making = Scratch::below(directory).map_err(io_error("write to", directory))?;
        Ok(Self { format, target: Target::Files { places, making } })
    }

    /// Whether a terminal may be what it is written to.
    #[must_use]
    pub fn is_stdout(&self) -> bool {
        matches!(self.target, Target::Stdout)
    }

    /// Takes away what has been made: for one who ends before the build does.
    pub fn discard(&self) {
        if let Target::Files { making, .. } = &self.target {
            // What is made meanwhile may come between; in a directory that is gone nothing is made. What cannot be removed at
            // all, the next that makes something here removes.
            let mut tries = 0..TRIES;
            while tries.next().is_some() && fs::remove_dir_all(making.path()).is_err() {}
        }
    }

    /// Where the file of an ending is made; none on standard output.
    pub(super) fn making(&self, ending: &str) -> Option<PathBuf> {
        match &self.target {
            Target::Stdout => None,
            Target::Files { making, .. } => Some(making.path().join(ending)),
        }
    }

    /// Writes the one file of this format from its beginning to its end.
    pub(super) fn stream(&self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let path = self.format.endings().first().and_then(|ending| self.making(ending));
        let mut to: Box<dyn Write> = match path {
            None => Box::new(BufWriter::new(io::stdout().lock())),
            Some(path) => Box::new(BufWriter::new(File::create(path)?)),
        };
        fill(&mut to)?;
        to.flush()
    }

    /// Gives the files their names.
    pub(super) fn finish(&self) -> Result<Vec<PathBuf>, PlaceError> {
        let Target::Files { places, making } = &self.target else { return Ok(Vec::new()) };
        for (ending, place) in self.format.endings().iter().zip(places) {
            fs::rename(making.path().join(ending), place).map_err(io_error("write", place))?;
        }
        Ok(places.clone())
    }
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PlaceError + 'a {
    move |source| PlaceError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_have_their_names_when_all_are_whole() {
        let directory = tempfile::tempdir().unwrap();
        let there = directory.path().join("out");
        let place = Place::new(Format::KernelInitrd, Some(&there), "test/my:1").unwrap();
        for ending in Format::KernelInitrd.endings() {
            fs::write(place.making(ending).unwrap(), ending).unwrap();
        }
        assert!(names(&there).iter().all(|name| name.starts_with(".mvm-making-")), "{:?}", names(&there));
        let files = place.finish().unwrap();
        assert_eq!(files[1], there.join("my-initrd.img"));
        drop(place);
        assert_eq!(names(&there), ["my-cmdline", "my-initrd.img", "my-kernel"]);
    }

    #[test]
    fn one_file_is_named_by_the_user_or_after_the_appliance() {
        let directory = tempfile::tempdir().unwrap();
        for (output, file) in [(directory.path().join("x"), "x"), (directory.path().to_owned(), "my.tar")] {
            let place = Place::new(Format::Tar, Some(&output), "my").unwrap();
            place.stream(|to| to.write_all(b"tar")).unwrap();
            assert_eq!(place.finish().unwrap(), [directory.path().join(file)]);
        }
        assert_eq!(names(directory.path()), ["my.tar", "x"]);
    }

    #[test]
    fn what_fails_or_is_interrupted_leaves_nothing_and_the_old_file_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("my.tar");
        fs::write(&file, "old").unwrap();
        let place = Place::new(Format::Tar, Some(&file), "my").unwrap();
        let failed = place.stream(|to| to.write_all(b"half").and(Err(io::Error::other("full"))));
        assert_eq!(failed.unwrap_err().to_string(), "full");
        place.discard();
        assert_eq!(names(directory.path()), ["my.tar"]);
        assert_eq!(fs::read(&file).unwrap(), b"old");
    }

    #[test]
    fn a_place_that_does_not_fit_is_refused() {
        let refused = |format, output: &Path| Place::new(format, Some(output), "my").unwrap_err().to_string();
        let stdout = Path::new("-");
        assert_eq!(
            refused(Format::RawEfi, stdout),
            "raw-efi goes into a file or a directory, and not to standard output"
        );
        assert!(Place::new(Format::Tar, Some(stdout), "my").unwrap().is_stdout());
        let file = tempfile::NamedTempFile::new().unwrap();
        let expected =
            format!("{} is no directory, and kernel+initrd is several files", file.path().display());
        assert_eq!(refused(Format::KernelInitrd, file.path()), expected);
        assert_eq!(refused(Format::Tar, Path::new("/nonexistent/x")), "cannot write to /nonexistent");
    }
}
