//! Reads the configuration's file. Starts no task; nothing here runs after `load` returns.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use super::{Config, ConfigError};

impl Config {
    /// Reads `path` over the defaults; without a path, the defaults alone.
    ///
    /// `$STATE_DIRECTORY`, which systemd sets for `StateDirectory=`, takes the place of the
    /// default `server.state-dir`, not of one that the file names.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let state_dir = state_directory(env::var_os("STATE_DIRECTORY").as_deref());
        let Some(path) = path else {
            return Self::read("", super::BUILT_IN, state_dir.as_deref());
        };
        let file = path.display().to_string();
        let unreadable = |reason: String| ConfigError::Unreadable { file: file.clone(), reason };
        let size = fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(unreadable(format!("it has {size} octets, more than {FILE_BYTES_MAX}")));
        }
        let octets = fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        match String::from_utf8(octets) {
            Ok(text) => {
                let mut config = Self::read(&text, &file, state_dir.as_deref())?;
                config.read_root_hints()?;
                config.read_anchors()?;
                config.read_roots()?;
                Ok(config)
            }
            Err(e) => {
                let valid = e.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(&e.as_bytes()[..valid]).into_owned();
                Err(ConfigError::not_utf8(&file, &text))
            }
        }
    }

    fn read_root_hints(&mut self) -> Result<(), ConfigError> {
        let Some(hints) = &mut self.resolve.recursion.root_hints else { return Ok(()) };
        let read = fs::metadata(&hints.path).and_then(|about| match about.len() {
            0..=HINTS_BYTES_MAX => fs::read_to_string(&hints.path),
            _ => Err(io::Error::other(format!("it has more than {HINTS_BYTES_MAX} octets"))),
        });
        let (at, path) = (hints.at, hints.path.display().to_string());
        match read {
            Ok(text) => hints.text = text,
            Err(error) => {
                let text = format!(
                    "`resolve.root-hints`: {path} can't be read: {error}; name a zone file with \
                     the addresses of root servers, or write `root-hints = \"built-in\"`, instead"
                );
                return Err(ConfigError::refused(vec![self.problem(at, text)]));
            }
        }
        Ok(())
    }

    /// Reads the files of trust anchors that it names. What stands in them is judged by who
    /// knows anchors.
    fn read_anchors(&mut self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        for at in 0..self.dnssec.trust_anchor_files.len() {
            let file = &self.dnssec.trust_anchor_files[at];
            match read_text(&file.path) {
                Ok(text) => self.dnssec.trust_anchor_files[at].text = text,
                Err(reason) => {
                    let path = file.path.display();
                    let text = format!(
                        "`dnssec.trust-anchor-files`: `{path}` can't be read: {reason}; write \
                         the path of a file with DS or DNSKEY records instead"
                    );
                    problems.push(self.problem(file.at, text));
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::refused(problems)) }
    }

    /// Reads the files of roots that upstreams are judged by.
    fn read_roots(&mut self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        for at in 0..self.upstreams.len() {
            let identity = self.upstreams[at].identity.as_mut();
            let Some(roots) = identity.and_then(|identity| identity.roots.as_mut()) else {
                continue;
            };
            match read_text(&roots.path) {
                Ok(text) => roots.text = text,
                Err(reason) => {
                    let (at, path) = (roots.at, roots.path.display());
                    let text = format!(
                        "`upstream.roots`: {path} can't be read: {reason}; write the path of a \
                         file with certificates in PEM instead"
                    );
                    problems.push(self.problem(at, text));
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::refused(problems)) }
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > TEXT_BYTES_MAX {
        return Err(format!("it has {size} octets, more than {TEXT_BYTES_MAX}"));
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

/// The first of the directories that systemd made; it may have made several.
fn state_directory(value: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    let first = value?.to_str()?.split(':').next()?;
    Path::new(first).is_absolute().then(|| PathBuf::from(first))
}

/// More than any configuration needs, and what a mistaken path is stopped at.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The root's own hints have 3 KiB.
const HINTS_BYTES_MAX: u64 = 1 << 20;
/// Thousands of anchors or all roots of a system, and what a mistaken path is stopped at.
const TEXT_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_state_directory_is_the_first_whole_path() {
        let read = |text: &str| state_directory(Some(std::ffi::OsStr::new(text)));
        assert_eq!(read("/var/lib/a:/var/lib/b"), Some(PathBuf::from("/var/lib/a")));
        assert_eq!(read("relative"), None);
        assert_eq!(read(""), None);
        assert_eq!(state_directory(None), None);
    }

    #[test]
    fn files_of_anchors_are_read_with_the_configuration_or_named() {
        let dir = tempfile::tempdir().unwrap();
        let (path, anchors) = (dir.path().join("x.toml"), dir.path().join("anchors"));
        let text = format!("[dnssec]\ntrust-anchor-files = [\"{}\"]\n", anchors.display());
        fs::write(&path, text).unwrap();
        let error = Config::load(Some(&path)).unwrap_err().to_string();
        assert!(error.contains(":2:23: ") && error.contains("No such file"), "{error}");
        fs::write(&anchors, ". IN DS 1 8 2 00\n").unwrap();
        let config = Config::load(Some(&path)).unwrap();
        assert_eq!(config.dnssec.trust_anchor_files[0].text, ". IN DS 1 8 2 00\n");
        fs::write(&anchors, vec![b' '; 2 << 20]).unwrap();
        assert!(Config::load(Some(&path)).unwrap_err().to_string().contains("octets"));
    }

    #[test]
    fn a_file_that_is_not_there_or_not_text_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        let error = Config::load(Some(&path)).unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert!(error.contains("No such file"), "{error}");
        fs::write(&path, b"[server]\nlisten = \xff\n").unwrap();
        let error = Config::load(Some(&path)).unwrap_err().to_string();
        assert!(error.contains(":2:10: "), "{error}");
        assert!(Config::load(Some(dir.path())).is_err());
        fs::write(&path, b"[log]\nlevel = \"debug\"\n").unwrap();
        let config = Config::load(Some(&path)).unwrap();
        assert_eq!(config.log.level, super::super::LogLevel::Debug);
    }
}
